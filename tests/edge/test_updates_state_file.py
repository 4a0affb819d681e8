"""A disk that breaks what is remembered about the slots: the vehicle drives on with the same model, and
forgets no floor and no bad model that anything left on the disk still tells of."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.updates import slot_document, slot_state, state_file
from edge.updates.errors import SlotError
from edge.updates.slot_state import Bad, SlotState
from edge.updates.state_file import COPY, STATE
from tests.update_world import World, edit, model, open_world

DIGESTS = [f"{number:064x}" for number in range(4)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    opened = open_world(tmp_path_factory.mktemp("cloud"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def driven(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vehicle that confirmed releases 1 and 3, gave up 2, and has a clock floor."""
    place = tmp_path_factory.mktemp("vehicle")
    with world.slots(place) as slots:
        for version in ("1", "2", "3"):
            world.release(model(version))
            assert world.client(slots).check().staged is not None
            slots.activate()
            if version == "2":
                slots.revert("it saw nothing")
            else:
                slots.confirm()
    return place


@pytest.fixture
def vehicle(driven: Path, tmp_path: Path) -> Path:
    return shutil.copytree(driven, tmp_path / "vehicle")


@pytest.fixture
def before(driven: Path) -> SlotState:
    state = state_file.read(driven / "slots").state
    assert state is not None
    assert (state.active, state.release_floor, len(state.bad)) == ("b", 3, 1)
    assert state.clock_floor_s > 0
    return state


def memory(state: SlotState) -> tuple[Any, ...]:
    """What must not be lost."""
    return (
        state.active,
        state.last_good,
        state.a,
        state.b,
        state.bad,
        state.release_floor,
        state.clock_floor_s,
    )


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(bytes(data))


def lower_the_floor(path: Path) -> None:
    """One byte, and the document reads well."""
    text = path.read_text()
    assert '"release_floor": 3' in text
    path.write_text(text.replace('"release_floor": 3', '"release_floor": 0'))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def nest(path: Path) -> None:
    path.write_bytes(b"[" * 100_000)


def make_a_folder(path: Path) -> None:
    """Reading it gives an OSError, as a broken disk does."""
    path.unlink()
    path.mkdir()


DAMAGES = [flip, lower_the_floor, empty, nest, make_a_folder, Path.unlink]


@pytest.fixture(params=DAMAGES, ids=lambda damage: damage.__name__)
def damage(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    found: Callable[[Path], None] = request.param
    return found


def test_a_damaged_state_is_read_from_its_copy(
    world: World,
    vehicle: Path,
    before: SlotState,
    damage: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    damage(vehicle / "slots" / STATE)
    with world.slots(vehicle) as slots:
        assert memory(slots.state) == memory(before)
        assert slots.state.history[-1].what == "state_repaired"
        boot = slots.boot()
        assert (boot.model.data, boot.troubles) == (model("3"), ())
    assert [one.event for one in caplog.records if hasattr(one, "event")] == ["slots_state_repaired"]
    caplog.clear()
    with world.slots(vehicle) as slots:  # both are whole again
        assert memory(slots.state) == memory(before)
        assert [entry.what for entry in slots.state.history].count("state_repaired") == 1
    assert not caplog.records
    assert (vehicle / "slots" / STATE).read_bytes() == (vehicle / "slots" / COPY).read_bytes()


def test_the_damaged_one_is_kept_for_whoever_looks_into_it(world: World, vehicle: Path) -> None:
    empty(vehicle / "slots" / STATE)
    with world.slots(vehicle):
        assert (vehicle / "slots" / "state.damaged").read_bytes() == b""


@pytest.mark.parametrize("damage", [flip, lower_the_floor, empty, nest])
def test_a_damaged_copy_is_told_and_written_again(
    world: World, vehicle: Path, before: SlotState, damage: Callable[[Path], None]
) -> None:
    damage(vehicle / "slots" / COPY)
    with world.slots(vehicle) as slots:
        assert memory(slots.state) == memory(before)
        assert slots.boot().troubles == ()
    found = state_file.read(vehicle / "slots")
    assert found.is_twice and found.state is not None
    assert found.state.history[-1].what == "state_repaired"


@pytest.mark.parametrize("broken", [{STATE}, {COPY}, {STATE, COPY}])
def test_an_unreadable_disk_keeps_no_vehicle_from_starting(
    world: World, vehicle: Path, before: SlotState, broken: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pathlib.Path.open

    def refuse(path: Path, *how: Any, **more: Any) -> Any:
        if path.name in broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *how, **more)

    monkeypatch.setattr(pathlib.Path, "open", refuse)
    with world.slots(vehicle) as slots:
        state = slots.state
        assert slots.boot().model.data == model("3")
    assert (state.active, state.release_floor) == ("b", 3)
    assert state.clock_floor_s == before.clock_floor_s
    assert os.strerror(errno.EIO) in state.history[-1].detail
    if broken != {STATE, COPY}:
        assert memory(state) == memory(before)


def test_without_either_copy_the_slots_speak(
    world: World,
    vehicle: Path,
    before: SlotState,
    damage: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What was confirmed is not known any more, so the newest release proves itself anew."""
    for name in (STATE, COPY):
        damage(vehicle / "slots" / name)
    with world.slots(vehicle) as slots:
        state = slots.state
        assert (state.active, state.last_good, state.probation_starts) == ("b", "a", 0)
        assert (state.a, state.b, state.release_floor) == (before.a, before.b, 3)
        assert state.clock_floor_s == before.clock_floor_s
        assert state.history[-1].what == "state_rebuilt"
        boot = slots.boot()
        assert (boot.model.data, boot.troubles) == (model("3"), ())
        slots.confirm()
    assert "slots_state_rebuilt" in [getattr(one, "event", "") for one in caplog.records]
    with world.slots(vehicle) as slots:
        assert (slots.state.active, slots.state.last_good) == ("b", "b")
        assert [entry.what for entry in slots.state.history].count("state_rebuilt") == 1


def test_what_does_not_check_is_not_taken_from_the_slots(world: World, vehicle: Path) -> None:
    for name in (STATE, COPY):
        empty(vehicle / "slots" / name)
    flip(vehicle / "slots" / "b" / "model.onnx")
    (vehicle / "slots" / "metadata" / "timestamp.json").write_bytes(
        edit(
            (vehicle / "slots" / "metadata" / "timestamp.json").read_bytes(),
            lambda d: d["signed"].update(version=9),
        )
    )
    with world.slots(vehicle) as slots:
        assert (slots.state.active, slots.state.last_good, slots.state.release_floor) == ("a", "factory", 1)
        assert slots.state.clock_floor_s == 0, "the installation's"
        assert slots.boot().model.data == model("1")


def test_only_with_nothing_that_checks_the_factorys_model_drives(world: World, vehicle: Path) -> None:
    for name in (STATE, COPY, "a/evidence.json", "b/model.onnx"):
        empty(vehicle / "slots" / name)
    with world.slots(vehicle) as slots:
        assert (slots.state.active, slots.state.a, slots.state.b) == ("factory", None, None)
        assert slots.state.clock_floor_s > 0, "the cached timestamp still checks"
        assert slots.boot().model.data == model("factory")


def test_a_release_that_failed_does_not_come_back_from_its_slot(world: World, tmp_path: Path) -> None:
    """Its digest is forgotten with both copies; its files would check."""
    facts = world.release(model("9"))
    with world.slots(tmp_path) as slots:
        slots.stage(model("9"), world.evidence(facts))
        slots.activate()
        slots.revert("it saw nothing")
    for name in (STATE, COPY):
        empty(tmp_path / "slots" / name)
    with world.slots(tmp_path) as slots:
        assert slots.boot().model.data == model("factory")


def test_an_older_document_in_place_of_the_main_one_lowers_nothing(
    world: World, vehicle: Path, before: SlotState
) -> None:
    """As from a file system's own repair: whole, and of another day. What is bad in the copy is not run."""
    bad = before.b
    assert bad is not None
    old = SlotState(active="b", last_good="b", a=before.a, b=bad)
    newer = slot_state.rolled_back(before, "on purpose", to_factory=False)
    (vehicle / "slots" / STATE).write_bytes(state_file.to_bytes(old))
    (vehicle / "slots" / COPY).write_bytes(state_file.to_bytes(newer))
    with world.slots(vehicle) as slots:
        state = slots.state
        assert (state.release_floor, state.clock_floor_s) == (3, before.clock_floor_s)
        assert state.bad_sha256 == newer.bad_sha256
        assert slots.boot().model.data == model("1")


def test_a_document_of_an_older_program_is_read(world: World, vehicle: Path, before: SlotState) -> None:
    (vehicle / "slots" / STATE).write_text(json.dumps(slot_document.to_document(before), indent=1))
    (vehicle / "slots" / COPY).unlink()
    with world.slots(vehicle) as slots:
        assert slots.state == before
        assert slots.boot().troubles == ()
    assert state_file.read(vehicle / "slots").is_twice


def test_a_copy_that_cannot_be_written_holds_up_no_change(
    world: World, vehicle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = state_file.atomic_write

    def refuse(path: Path, data: bytes) -> None:
        if path.name == COPY:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, data)

    with world.slots(vehicle) as slots:
        monkeypatch.setattr(state_file, "atomic_write", refuse)
        slots.raise_floors(release=7)
        assert os.strerror(errno.ENOSPC) in caplog.text
        monkeypatch.undo()
        slots.raise_floors(release=7)  # no change, and yet written
    found = state_file.read(vehicle / "slots")
    assert found.is_twice and found.state is not None and found.state.release_floor == 7


STATES = st.builds(
    SlotState,
    bad=st.lists(
        st.builds(Bad, st.sampled_from(DIGESTS), st.text(max_size=4)),
        max_size=3,
        unique_by=lambda b: b.sha256,
    ).map(tuple),
    release_floor=st.integers(0, 300),
    clock_floor_s=st.integers(0, 2_000_000_000),
    starts=st.integers(0, 8),
)


@settings(max_examples=10, deadline=None)
@given(STATES)
def test_every_flipped_byte_is_noticed_or_changes_nothing(state: SlotState) -> None:
    data = state_file.to_bytes(state)
    assert state_file.from_bytes(data) == state
    for place in range(len(data)):
        for mask in (1, 4, 32, 128):
            damaged = bytearray(data)
            damaged[place] ^= mask
            with suppress(SlotError):
                assert state_file.from_bytes(bytes(damaged)) == state, place


@given(STATES, st.data())
def test_any_damage_is_noticed_or_changes_nothing(state: SlotState, data: st.DataObject) -> None:
    whole = state_file.to_bytes(state)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    damaged = whole[:start] + data.draw(st.binary(max_size=20)) + whole[end:]
    with suppress(SlotError):
        assert state_file.from_bytes(damaged) == state


@given(
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3),
    ),
    st.sampled_from(sorted(slot_document.to_document(SlotState()))),
)
def test_nonsense_in_a_document_without_a_checksum_is_one_error(value: Any, key: str) -> None:
    document = {**slot_document.to_document(SlotState()), key: value}
    with suppress(SlotError):
        state_file.from_bytes(json.dumps(document).encode())


@given(STATES, STATES)
def test_floors_and_bad_models_are_never_less_than_in_either(one: SlotState, other: SlotState) -> None:
    merged = state_file.never_less_than(one, other)
    assert merged.release_floor == max(one.release_floor, other.release_floor)
    assert merged.clock_floor_s == max(one.clock_floor_s, other.clock_floor_s)
    assert merged.bad_sha256 == one.bad_sha256 | other.bad_sha256
    assert not slot_state.violations(merged)
