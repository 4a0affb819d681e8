"""What somebody with some of the owner's keys, or at the vehicle's disk, can do: each against a real daemon.

Signatures are good here, and are not enough. The table of attacks is in docs/updates.md.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from cloud.release import repository
from cloud.release.keys import create_keys
from cloud.release.role_files import current_role
from protos.traffic_vision.v1 import common_pb2
from tests import evil_models
from tests.hostile_cloud import OWN_HARDWARE, Prey, prey
from tests.models_factory import loaded
from tests.stolen_keys import BY_REVOKED_KEYS, FORGED_ROOTS, HUGE, publish_online, stolen
from tests.update_attack import online_only, publish, with_release
from tests.update_world import World, model, open_world
from tests.waiting import eventually

pytestmark = pytest.mark.services


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = open_world(tmp_path / "cloud")
    yield opened
    opened.close()


@pytest.fixture
def vehicle(world: World, tmp_path: Path) -> Iterator[Prey]:
    """Drives on release 1, confirmed."""
    with prey(world, tmp_path / "vehicle") as driving:
        driving.confirmed(model("1"))
        yield driving


_EXCHANGE = """
import os, sys
path, evil = sys.argv[1], open(sys.argv[2], "rb").read()
while True:
    if os.path.exists(path):
        with open(path + ".evil", "wb") as file:
            file.write(evil)
        os.replace(path + ".evil", path)
"""


@contextmanager
def exchanging(path: Path, evil: Path) -> Iterator[None]:
    """A process that writes over a file as soon as it is there, again and again."""
    command = [sys.executable, "-c", _EXCHANGE, str(path), str(evil)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def resigned(world: World, change: Callable[[Any], None]) -> None:
    """The models role, changed and signed by both of its keys."""
    models = current_role(world.folder, "models")
    change(models.signed)
    models.signed.version += 1
    publish(world, models, [world.keys.signer("trainer"), world.keys.signer("gate")])


def test_some_of_the_keys_are_not_enough(vehicle: Prey, tmp_path: Path) -> None:
    """The online keys and the trainer's, or the gate's, or those of somebody else."""
    world = vehicle.world
    thief = create_keys(tmp_path / "thief")
    for signers, count in (
        ([world.keys.signer("trainer")], 1),
        ([world.keys.signer("gate")], 1),
        ([world.keys.signer("trainer"), thief.signer("gate")], 1),
        ([thief.signer("trainer"), thief.signer("gate")], 0),
    ):
        publish(world, with_release(world, model(f"evil-{count}"), 2), signers)
        vehicle.refuses(f"models was signed by {count}/2 keys")


@pytest.mark.parametrize("what", FORGED_ROOTS)
def test_what_a_root_must_not_be(vehicle: Prey, tmp_path: Path, what: str) -> None:
    """By root keys that are too few, or by the wrong ones."""
    forge, told = FORGED_ROOTS[what]
    forge(vehicle.world, stolen(vehicle.world, tmp_path / "thief"))
    vehicle.refuses("metadata does not check", told)


@pytest.mark.parametrize("key", BY_REVOKED_KEYS)
def test_a_revoked_key_counts_no_more(vehicle: Prey, tmp_path: Path, key: str) -> None:
    forge, told = BY_REVOKED_KEYS[key]
    thief = stolen(vehicle.world, tmp_path / "thief")
    vehicle.world.exchange(key, revoke=True)
    forge(vehicle.world, thief)
    vehicle.refuses("metadata does not check", told)


def test_fast_forward(vehicle: Prey, tmp_path: Path) -> None:
    """Stolen online keys raise versions beyond what an honest one can follow. New keys end that too."""
    world, metadata = vehicle.world, vehicle.config.parent / "state" / "slots" / "metadata"
    saved = shutil.copytree(world.folder, tmp_path / "saved")
    thief = stolen(world, tmp_path / "thief")
    publish_online(world, thief, timestamp=HUGE, snapshot=HUGE, targets=HUGE, models=HUGE)
    vehicle.cloud.nudge()
    eventually(lambda: str(HUGE) in (metadata / "timestamp.json").read_text(), "the vehicle has seen it")
    shutil.rmtree(world.folder)
    saved.rename(world.folder)
    vehicle.refuses("metadata does not check", "must be >=")
    world.exchange("timestamp", revoke=True)
    vehicle.confirmed(model("2"))


def test_rollback_to_an_older_release_that_is_newly_signed(vehicle: Prey) -> None:
    """TUF has nothing against it: versions grow, signatures are good. The release counter has."""
    second = vehicle.confirmed(model("2"))
    resigned(vehicle.world, lambda signed: signed.targets.pop(second.target_path))
    vehicle.refuses("its counter is 1, the least allowed is 2")


def test_a_stolen_online_key_takes_a_known_vehicle_nowhere(vehicle: Prey) -> None:
    world = vehicle.world
    vehicle.confirmed(model("2"))
    online_only(world.folder, world.keys, models_version=2)
    vehicle.refuses("metadata does not check")


def test_a_stolen_online_key_meets_the_floor_of_a_fresh_vehicle(world: World, tmp_path: Path) -> None:
    """The thief shows only what was released long ago. The vehicle's image knows better."""
    world.release(model("1"), hardware_ids=OWN_HARDWARE)
    world.release(model("2"), hardware_ids=OWN_HARDWARE)
    online_only(world.folder, world.keys, models_version=2)
    with prey(world, tmp_path / "vehicle", updates={"release_floor": 2}) as fresh:
        fresh.says("its counter is 1, the least allowed is 2")
        fresh.drives_on(loaded(model("factory")).digest, 0)


def test_freeze_at_metadata_that_ended(tmp_path: Path) -> None:
    world = open_world(tmp_path / "cloud", datetime.now(timezone.utc) - timedelta(days=2))
    try:
        with prey(world, tmp_path / "vehicle") as frozen:
            frozen.says("timestamp.json is expired")
            assert frozen.status().metadata_alarm and frozen.status().clock_alarm
            assert frozen.daemon.event("metadata_alarm")
            online = world.keys.signer("snapshot"), world.keys.signer("timestamp")
            assert repository.refresh_timestamp(world.folder, *online)
            frozen.cloud.nudge()
            eventually(lambda: not frozen.status().metadata_alarm, "contact alone recovers it")
            frozen.drives_on(loaded(model("factory")).digest, 0)
    finally:
        world.close()


def test_freeze_of_a_board_whose_clock_stands_still(world: World, tmp_path: Path) -> None:
    """By its clock the metadata holds. By the day of its image it has ended."""
    world.release(model("1"), hardware_ids=OWN_HARDWARE)
    image = (datetime.now(timezone.utc) + timedelta(days=3)).date()
    with prey(world, tmp_path / "vehicle", updates={"clock_floor": image.isoformat()}) as board:
        board.says("the timestamp metadata ended", f"later than {image}")
        assert "the clock is behind" in board.status().clock_alarm
        board.drives_on(loaded(model("factory")).digest, 0)


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ({"hardware_ids": ("riscv64-npu",)}, "is for riscv64-npu; this vehicle is"),
        ({"minimum_daemon_version": "99.0"}, "needs traffic-vision 99.0 or newer"),
    ],
)
def test_what_was_signed_for_others(vehicle: Prey, terms: dict[str, Any], told: str) -> None:
    """Wrong hardware, alone on offer, and a daemon that is too old."""
    if "hardware_ids" in terms:
        first = repository.list_releases(vehicle.world.folder)[0].facts
        resigned(vehicle.world, lambda signed: signed.targets.pop(first.target_path))
    vehicle.release(model("2"), **terms)
    vehicle.refuses(told)


def test_a_release_that_is_too_large(vehicle: Prey) -> None:
    """Nothing of it is fetched."""
    models = with_release(vehicle.world, model("huge"), 2)
    target = models.signed.targets["models/rectangles-2.onnx"]
    target.unrecognized_fields["custom"]["traffic_vision"]["hardware_ids"] = list(OWN_HARDWARE)
    target.length = 1 << 30
    publish(vehicle.world, models, [vehicle.world.keys.signer("trainer"), vehicle.world.keys.signer("gate")])
    vehicle.world.server.asked.clear()
    vehicle.refuses("has 1073741824 bytes, this vehicle takes up to 536870912")
    assert not [name for name in vehicle.world.server.asked if name.startswith("models/")]


def test_a_release_that_failed_here_is_not_tried_again(vehicle: Prey) -> None:
    wrong = evil_models.changed(evil_models.where_it_is_bright)
    sign_unchecked(vehicle, wrong)
    vehicle.refuses("operator NonZero")
    vehicle.world.server.asked.clear()
    vehicle.refuses("operator NonZero")
    assert not [name for name in vehicle.world.server.asked if name.startswith("models/")]


def sign_unchecked(vehicle: Prey, data: bytes) -> str:
    """Have both keys sign bytes that the cloud's own gate would never let through; gives their SHA-256."""
    world = vehicle.world
    counter = 1 + max(release.facts.release_counter for release in repository.list_releases(world.folder))
    models = with_release(world, data, counter, model_version=f"evil-{counter}", hardware_ids=OWN_HARDWARE)
    publish(world, models, [world.keys.signer("trainer"), world.keys.signer("gate")])
    return hashlib.sha256(data).hexdigest()


ALONE_OR_IN_A_CHILD = {**evil_models.REFUSED_BY_RULE, **evil_models.REFUSED_BY_LIMIT}
MALICIOUS = {
    **{name: (evil_models.changed(change), told) for name, (change, told) in ALONE_OR_IN_A_CHILD.items()},
    "nested messages": (evil_models.nested(), "nested more than"),
    "twenty million operators": (evil_models.many_nodes(), "would take more than"),
    "nested document": (evil_models.with_document("[" * 100_000), "not JSON"),
    "no ONNX": (b"\x7fELF" + bytes(1000), "not an ONNX file"),
}


def test_malicious_models_that_are_signed(world: World, tmp_path: Path) -> None:
    """One daemon takes one after the other, refuses each with its reason, and drives on in its memory."""
    with prey(world, tmp_path / "vehicle", model={"check_memory_bytes": 700_000_000}) as vehicle:
        vehicle.confirmed(model("1"))
        resident = vehicle.status().resident_bytes
        for data, told in MALICIOUS.values():
            digest = sign_unchecked(vehicle, data)
            vehicle.cloud.nudge()
            eventually(lambda digest=digest: digest in vehicle.status().model.bad_sha256, told)
            vehicle.refuses(told)
        grown = vehicle.status().resident_bytes - resident
        assert grown < 150_000_000, f"{grown / 1e6:.0f} MB more"  # the longest file has 40 MB
        vehicle.confirmed(model("honest"))


class TestTheDisk:
    def test_a_target_that_is_replaced_after_its_check(self, vehicle: Prey, tmp_path: Path) -> None:
        """Whoever can write the slot's file exchanges it in the moment between check and load."""
        evil = tmp_path / "evil.onnx"
        evil.write_bytes(model("evil"))
        slots = vehicle.config.parent / "state" / "slots"
        good = {loaded(model("1")).digest}

        def runs() -> str:
            sha256 = vehicle.status().model.active.sha256
            assert sha256 in good, "what runs is what was signed"
            return sha256

        def noticed() -> bool:
            lines = [line["message"] for line in vehicle.daemon.log]
            return any("not the bytes that were signed" in line for line in lines)

        # The moment is short: where the vehicle was faster, there is the next release.
        for number in range(2, 12):
            facts = vehicle.release(model(str(number)))
            good.add(facts.model_sha256)
            with exchanging(slots / "ba"[number % 2] / "model.onnx", evil):
                vehicle.cloud.nudge()
                eventually(
                    lambda sha256=facts.model_sha256: runs() == sha256 or noticed(), "it is loaded or refused"
                )
            if noticed():
                break
            vehicle.reaches(facts)
        assert noticed()
        vehicle.reaches(facts)
        runs()

    def test_a_slot_that_is_changed_while_the_daemon_is_down(self, world: World, tmp_path: Path) -> None:
        folder = tmp_path / "vehicle"
        with prey(world, folder) as vehicle:
            vehicle.confirmed(model("1"))
            vehicle.confirmed(model("2"))
        path = folder / "state" / "slots" / "b" / "model.onnx"
        path.write_bytes(model("evil"))
        with prey(world, folder) as vehicle:
            fallback = vehicle.daemon.event("model_fallback")
            assert "not the bytes that were signed" in fallback["message"]
            # The one before it drives, until the release is fetched anew.
            vehicle.drives_on(vehicle.status().model.active.sha256, 2)
            eventually(lambda: vehicle.status().model.active.version == "2", "fetched anew")

    def test_the_metadata_in_the_slot_is_changed(self, world: World, tmp_path: Path) -> None:
        folder = tmp_path / "vehicle"
        with prey(world, folder) as vehicle:
            vehicle.confirmed(model("1"))
        proof = folder / "state" / "slots" / "a" / "evidence.json"
        proof.write_bytes(proof.read_bytes().replace(b"rectangles-1", b"rectangles-9"))
        with prey(world, folder) as vehicle:
            assert vehicle.daemon.event("model_fallback")["slot"] == "factory"
            assert vehicle.status().model.release_counter == 1


def test_the_phases_of_a_vehicle_that_was_attacked_are_the_contracts(vehicle: Prey) -> None:
    vehicle.release(model("2"), minimum_daemon_version="99.0")
    vehicle.refuses("needs traffic-vision")
    assert vehicle.status().model.phase == common_pb2.UPDATE_PHASE_REFUSED
