"""The slots on disk: what is loaded is what was signed for this vehicle, after a kill or disk damage too."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root

from cloud.release import repository
from cloud.release.keys import create_keys
from edge.updates.errors import Refusal, RefusedError, SlotError
from edge.updates.evidence import Evidence, verify
from edge.updates.history import MAX_DETAIL, MAX_ENTRIES
from edge.updates.report import model_state
from edge.updates.slots import Slots
from protos.traffic_vision.v1 import common_pb2 as common
from tests.update_world import VEHICLE, World, edit, exchange_root_keys, model, open_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    opened = open_world(tmp_path_factory.mktemp("cloud"))
    for version in ("1", "2", "3"):
        opened.release(model(version))
    yield opened
    opened.close()


@pytest.fixture
def slots(world: World, tmp_path: Path) -> Slots:
    return world.slots(tmp_path)


def stage(world: World, slots: Slots, counter: int) -> str:
    facts = repository.list_releases(world.folder)[counter - 1].facts
    content = slots.stage(model(str(counter)), world.evidence(facts))
    assert content.digest == facts.model_sha256
    return content.digest


def reopened(world: World, slots: Slots, tmp_path: Path) -> Slots:
    slots.close()
    return world.slots(tmp_path)


def test_a_new_vehicle_drives_on_the_factory_model(world: World, slots: Slots, tmp_path: Path) -> None:
    boot = slots.boot()
    assert (boot.model.content.slot, boot.model.data, boot.troubles) == ("factory", model("factory"), ())
    assert slots.candidate() is None
    assert not (tmp_path / "slots" / "state.json").exists(), "nothing to remember yet"


def test_the_way_of_a_release(world: World, slots: Slots, tmp_path: Path) -> None:
    digest = stage(world, slots, 1)
    assert slots.active().slot == "factory", "staged is not active"
    assert slots.load("a").data == model("1")
    slots.activate()
    assert slots.state.on_probation
    slots = reopened(world, slots, tmp_path)
    assert slots.boot().model.data == model("1")
    slots.confirm()
    assert slots.state.release_floor == 1
    stage(world, slots, 2)
    slots.activate()
    assert slots.revert("it saw nothing").digest == digest
    slots = reopened(world, slots, tmp_path)
    assert slots.boot().model.data == model("1")
    with pytest.raises(SlotError, match="failed on this vehicle"):
        stage(world, slots, 2)
    stage(world, slots, 3)
    assert slots.activate().slot == "b"
    assert slots.confirm().release.release_counter == 3


def test_a_crash_loop_ends_on_the_last_good_model(world: World, slots: Slots, tmp_path: Path) -> None:
    failed = stage(world, slots, 1)
    slots.activate()
    for _ in range(3):
        slots = reopened(world, slots, tmp_path)
        assert slots.boot(most_starts=3).model.data == model("1")
    slots = reopened(world, slots, tmp_path)
    boot = slots.boot(most_starts=3)
    assert boot.model.data == model("factory")
    assert "3 times without a confirmation" in boot.troubles[0]
    assert failed in slots.state.bad_sha256


def test_there_is_one_owner_at_a_time(world: World, slots: Slots, tmp_path: Path) -> None:
    with pytest.raises(SlotError, match="another daemon"):
        world.slots(tmp_path)
    slots.close()
    slots.close()
    with pytest.raises(SlotError, match="closed"):
        slots.mark_bad("a" * 64, "on purpose")
    world.slots(tmp_path)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("file", ["model.onnx", "evidence.json"])
@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_a_damaged_slot_is_never_loaded_and_may_be_fetched_again(
    world: World, slots: Slots, tmp_path: Path, file: str, damage
) -> None:
    for counter in (1, 2):
        stage(world, slots, counter)
        slots.activate()
        slots.confirm()
    assert slots.active().slot == "b"
    damage(tmp_path / "slots" / "b" / file)
    slots = reopened(world, slots, tmp_path)
    boot = slots.boot()
    assert boot.model.data == model("1"), "what was confirmed before"
    assert len(boot.troubles) == 1
    assert slots.state.bad == ()
    assert slots.state.release_floor == 2, "the floor stays"
    stage(world, slots, 2)
    slots.activate()
    assert slots.boot().model.data == model("2")


def test_with_both_slots_broken_the_factory_model_drives(world: World, slots: Slots, tmp_path: Path) -> None:
    for counter in (1, 2):
        stage(world, slots, counter)
        slots.activate()
        slots.confirm()
    for slot in "ab":
        flip(tmp_path / "slots" / slot / "model.onnx")
    slots = reopened(world, slots, tmp_path)
    boot = slots.boot()
    assert boot.model.data == model("factory")
    assert len(boot.troubles) == 2
    assert slots.state.release_floor == 2, "the floor stays"


def test_a_slot_that_breaks_on_probation_falls_back_to_the_last_good_one(
    world: World, slots: Slots, tmp_path: Path
) -> None:
    stage(world, slots, 1)
    slots.activate()
    slots.confirm()
    stage(world, slots, 2)
    slots.activate()
    flip(tmp_path / "slots" / "b" / "model.onnx")
    slots = reopened(world, slots, tmp_path)
    assert slots.boot().model.data == model("1")
    assert not slots.state.on_probation


def test_another_signed_release_in_the_slot_is_noticed(world: World, slots: Slots, tmp_path: Path) -> None:
    """Whoever can write the disk can put an older signed release there; the state says which it must be."""
    stage(world, slots, 2)
    old = repository.list_releases(world.folder)[0].facts
    (tmp_path / "slots" / "a" / "model.onnx").write_bytes(model("1"))
    (tmp_path / "slots" / "a" / "evidence.json").write_bytes(world.evidence(old).to_bytes())
    with pytest.raises(SlotError, match="release 1, which is not what was staged"):
        slots.load("a")


def test_a_vehicle_that_became_another_one_does_not_load_the_slot(
    world: World, slots: Slots, tmp_path: Path
) -> None:
    stage(world, slots, 1)
    slots.activate()
    slots.close()
    other = dataclasses.replace(VEHICLE, hardware_ids=frozenset({"jetson-orin-trt"}))
    boot = world.slots(tmp_path, other).boot()
    assert boot.model.content.slot == "factory"
    assert "jetson-orin-trt" in boot.troubles[0]


def test_what_was_not_signed_for_this_is_not_staged(world: World, slots: Slots, tmp_path: Path) -> None:
    facts = repository.list_releases(world.folder)[0].facts
    before = slots.state
    with pytest.raises(RefusedError) as refused:
        slots.stage(model("2"), world.evidence(facts))
    assert refused.value.refusal is Refusal.CONTENT
    assert slots.state == before


def test_nothing_is_staged_beside_a_probation(world: World, slots: Slots) -> None:
    stage(world, slots, 1)
    slots.activate()
    with pytest.raises(SlotError, match="on probation"):
        stage(world, slots, 2)
    assert slots.load("a").data == model("1")


def test_a_newer_candidate_takes_the_place_of_an_older_one(world: World, slots: Slots) -> None:
    stage(world, slots, 1)
    stage(world, slots, 2)
    assert slots.load("a").data == model("2")
    assert slots.state.b is None


def test_without_any_model_the_error_names_the_file(world: World, tmp_path: Path) -> None:
    slots = world.slots(tmp_path)
    (tmp_path / "factory.onnx").unlink()
    with pytest.raises(SlotError, match=r"factory.*cannot be read"):
        slots.boot()


class TestEvidence:
    """The chain from the shipped root down."""

    @pytest.fixture
    def evidence(self, world: World) -> Evidence:
        return world.evidence(repository.list_releases(world.folder)[0].facts)

    def test_it_is_written_and_read_back(self, world: World, evidence: Evidence) -> None:
        again = Evidence.from_bytes(evidence.to_bytes())
        assert again == evidence
        assert verify(world.root, again, model("1")).release_counter == 1

    def test_another_root_does_not_vouch(self, evidence: Evidence, tmp_path: Path) -> None:
        keys = create_keys(tmp_path / "keys")
        repository.create_repository(tmp_path / "repository", keys)
        with pytest.raises(RefusedError, match="does not check"):
            verify(repository.current_root(tmp_path / "repository"), evidence, model("1"))

    @pytest.mark.parametrize("role", ["targets", "models"])
    def test_a_changed_document_breaks_the_chain(self, world: World, evidence: Evidence, role: str) -> None:
        changed = edit(getattr(evidence, role), lambda d: d["signed"].update(version=9))
        with pytest.raises(RefusedError, match="signed by 0/"):
            verify(world.root, dataclasses.replace(evidence, **{role: changed}), model("1"))

    def test_one_of_two_signatures_is_not_enough(self, world: World, evidence: Evidence) -> None:
        changed = edit(evidence.models, lambda d: d["signatures"].pop())
        with pytest.raises(RefusedError, match="signed by 1/2"):
            verify(world.root, dataclasses.replace(evidence, models=changed), model("1"))

    def test_a_role_does_not_stand_in_for_another(self, world: World, evidence: Evidence) -> None:
        for swapped in (
            dataclasses.replace(evidence, models=evidence.targets),
            dataclasses.replace(evidence, targets=evidence.models),
            dataclasses.replace(evidence, targets=world.root),
            dataclasses.replace(evidence, models=b"{}"),
            dataclasses.replace(evidence, path="models/other-1.onnx"),
            dataclasses.replace(evidence, path="elsewhere/x"),
        ):
            with pytest.raises(RefusedError, match="does not check"):
                verify(world.root, swapped, model("1"))

    @pytest.mark.parametrize(
        "data", [b"", b"[]", b"{}", b'{"schema": 2}', b'{"schema": 1, "roots": [7]}', b"[" * 100_000]
    )
    def test_a_damaged_document_is_one_refusal(self, data: bytes) -> None:
        with pytest.raises(RefusedError, match="damaged"):
            Evidence.from_bytes(data)

    def test_it_follows_the_roots_two_of_three_at_a_time(self, tmp_path: Path) -> None:
        world = open_world(tmp_path / "cloud")
        try:
            exchange_root_keys(world)
            facts = world.release(model("1"))
            evidence = world.evidence(facts)
            assert len(evidence.roots) == 3
            assert verify(world.root, evidence, model("1")) == facts
            newest = repository.current_root(world.folder)
            assert verify(newest, evidence, model("1")) == facts, "an installation may bring a newer root"
            for broken in (evidence.roots[1:], evidence.roots[::-1], (evidence.roots[0], evidence.roots[2])):
                with pytest.raises(RefusedError, match="does not check"):
                    verify(world.root, dataclasses.replace(evidence, roots=broken), model("1"))
        finally:
            world.close()

    @pytest.mark.parametrize("signers", [("old-2",), ("old-2", "old-3"), ("new-1", "new-2")])
    def test_a_root_that_old_and_new_keys_did_not_both_sign_is_refused(
        self, world: World, evidence: Evidence, tmp_path: Path, signers: tuple[str, ...]
    ) -> None:
        """Two root keys are exchanged: two of the old ones must agree, and two of the new ones."""
        new = create_keys(tmp_path / "keys")
        root = Metadata[Root].from_bytes(world.root)
        for name in ("root-1", "root-2"):
            root.signed.revoke_key(world.keys.public(name).keyid, "root")
            root.signed.add_key(new.public(name), "root")
        root.signed.version = 2
        rings = {"old": world.keys, "new": new}
        root.signatures.clear()
        for signer in signers:
            ring, _, number = signer.partition("-")
            root.sign(rings[ring].signer(f"root-{number}"), append=True)
        with pytest.raises(RefusedError, match=r"root was signed by \d/2 keys"):
            verify(world.root, dataclasses.replace(evidence, roots=(root.to_bytes(),)), model("1"))
        for signer in ("old-2", "old-3", "new-1"):
            ring, _, number = signer.partition("-")
            root.sign(rings[ring].signer(f"root-{number}"), append=True)
        verify(world.root, dataclasses.replace(evidence, roots=(root.to_bytes(),)), model("1"))


def test_the_contract_says_how_the_slots_stand(world: World, slots: Slots) -> None:
    factory = common.ModelRef(sha256=slots.active().digest, name="rectangles", version="factory")

    def said() -> common.ModelState:
        """Where the loop runs what the slots say."""
        running = common.ModelRef(sha256=slots.active().digest)
        return model_state(slots, running, factory)

    assert (said().phase, said().active_slot) == (common.UPDATE_PHASE_IDLE, common.SLOT_FACTORY)
    digest = stage(world, slots, 1)
    assert said().phase == common.UPDATE_PHASE_STAGED
    assert (said().candidate.sha256, said().candidate.version) == (digest, "1")
    slots.activate()
    assert (said().phase, said().active_slot) == (common.UPDATE_PHASE_PROBATION, common.SLOT_A)
    assert said().last_good == factory
    slots.confirm()
    assert (said().phase, said().release_counter) == (common.UPDATE_PHASE_CONFIRMED, 1)
    assert said().last_good.sha256 == digest
    failed = stage(world, slots, 2)
    slots.activate()
    slots.revert("it saw nothing")
    assert (said().phase, said().detail) == (common.UPDATE_PHASE_REVERTED, "it saw nothing")
    assert list(said().bad_sha256) == [failed]
    assert model_state(slots, factory, factory).active_slot == common.SLOT_FACTORY, "of what runs"


def test_what_happened_is_kept_with_the_state(world: World, tmp_path: Path) -> None:
    factory = tmp_path / "factory.onnx"
    factory.write_bytes(model("factory"))
    ticks = itertools.count(1_800_000_000)
    with Slots(tmp_path / "slots", factory, world.root, VEHICLE, clock=lambda: next(ticks)) as slots:
        first = stage(world, slots, 1)
        slots.activate()
        slots.confirm()
        second = stage(world, slots, 2)
        slots.activate()
        slots.revert("it saw nothing")
        slots.lose("a", "a broken disk")
        kept = slots.state.history
    assert [(entry.what, entry.by, entry.sha256, entry.release, entry.detail) for entry in kept] == [
        ("staged", "cloud", first, 1, ""),
        ("activated", "daemon", first, 1, ""),
        ("confirmed", "daemon", first, 1, ""),
        ("staged", "cloud", second, 2, ""),
        ("activated", "daemon", second, 2, ""),
        ("reverted", "daemon", second, 2, "it saw nothing"),
        ("returned_to", "daemon", first, 1, ""),
        ("given_up", "daemon", first, 1, "a broken disk"),
        ("returned_to", "daemon", "", 0, ""),
    ]
    assert [entry.wall_s for entry in kept] == sorted(entry.wall_s for entry in kept)
    assert kept[0].wall_s >= 1_800_000_000
    with Slots(tmp_path / "slots", factory, world.root, VEHICLE) as slots:
        assert slots.state.history == kept
        for number in range(MAX_ENTRIES):
            slots.mark_bad(f"{number:064x}", "on purpose" * 100)
        assert len(slots.state.history) == MAX_ENTRIES
        assert len(slots.state.history[-1].detail) == MAX_DETAIL


def test_driving_without_updates_imports_no_tuf(tmp_path: Path) -> None:
    (tmp_path / "factory.onnx").write_bytes(b"model")
    code = (
        "import sys; from pathlib import Path\n"
        "from edge.updates.client import UpdateClient\n"
        "from edge.updates.slots import Slots\n"
        "from edge.updates.trust import Vehicle\n"
        f"place = Path({str(tmp_path)!r})\n"
        "with Slots(place / 'slots', place / 'factory.onnx', b'', Vehicle(frozenset(), '1')) as slots:\n"
        "    UpdateClient(None, slots)\n"
        "    assert slots.boot().model.data == b'model'\n"
        "assert 'tuf' not in sys.modules and 'securesystemslib' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
