"""Mutated metadata of every role, and mutated targets: nothing of it is taken, and nothing breaks by it."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from protos.release_facts import ReleaseFacts
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from tests.fuzz.fuzzing import MARKS, SECONDS, Cases, mutated
from tests.fuzz.update_mutations import mutated_metadata, says_the_same
from tests.hostile_cloud import OWN_HARDWARE, Prey, prey
from tests.update_attack import rewritten, unharmed
from tests.update_world import HARDWARE, World, exchange_root_keys, model, open_world
from tests.waiting import eventually

pytestmark = MARKS

CASES = 1000
DAEMONS = 10
SLOWEST_S = 5.0  # of a daemon's case, on a machine that others use too; about one where nobody does
ROLES = ("root", "timestamp", "snapshot", "targets", "models", "target")
NEW = model("2", padding=5_000)


@contextmanager
def mutated_world(folder: Path) -> Iterator[World]:
    """One whose newest root is not the one that ships, so that the successors must be fetched."""
    opened = open_world(folder / "cloud")
    try:
        root = opened.root
        exchange_root_keys(opened)
        assert opened.root == root
        yield opened
    finally:
        opened.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with mutated_world(tmp_path) as opened:
        yield opened


class Mutations:
    """A cloud whose answer for one role is a mutation of the honest one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.honest = world.server.metadata, world.server.target
        self.files = {
            role: sorted((world.folder / "metadata").glob(f"*{role}.json"))[-1].read_bytes()
            for role in ROLES[:5]
        }

    def put(self, chance: random.Random) -> tuple[str, bool]:
        """Put one up; gives the role, and whether it still says what the honest one says."""
        role, same = chance.choice(ROLES), False
        self.withdraw()
        if role == "target":
            data = mutated(NEW, chance, [model("1")])
            if data == NEW:
                data = NEW[:-1]

            def serve(request: fleet.FetchTargetRequest) -> Iterator[Any]:
                begin = min(request.offset_bytes, len(data))
                yield fleet.FetchTargetResponse(data=data[begin:], offset_bytes=begin, total_bytes=len(NEW))

            self.world.server.target = serve
        else:
            data = mutated_metadata(self.files[role], list(self.files.values()), chance)
            same = says_the_same(data, self.files[role])
            self.world.server.metadata = rewritten(role, lambda honest: data, self.world)
        return role, same

    def withdraw(self) -> None:
        self.world.server.metadata, self.world.server.target = self.honest


def forget(folder: Path) -> None:
    """A vehicle that has seen nothing but its root."""
    for path in [*folder.glob("metadata/**/*.json"), *folder.glob("staging/*")]:
        path.unlink(missing_ok=True)
    (folder / "metadata" / "root.json").unlink(missing_ok=True)


def test_a_thousand_mutations_of_metadata_and_targets(world: World, tmp_path: Path) -> None:
    """The client, over real gRPC: not one is staged that says anything else than the owner did."""
    facts = world.release(NEW)
    slots = world.slots(tmp_path / "vehicle")
    mutations, before = Mutations(world), slots.state
    outcomes: Counter[str] = Counter()
    first = int(os.environ.get("TRAFFIC_VISION_FUZZ_SEED") or 0)
    for seed in range(first, first + CASES):
        forget(tmp_path / "vehicle" / "slots")
        role, same = mutations.put(random.Random(seed))
        told = f"seed {seed}, {role}"
        result = world.client(slots).check()
        assert "\n" not in result.detail and len(result.detail) < 3000, told
        if result.phase == common.UPDATE_PHASE_STAGED:
            assert same and result.release == facts, f"{told}: accepted"
            assert slots.load(result.staged.slot).data == NEW, told
            slots.lose(result.staged.slot, "for the next case")
            outcomes["written otherwise"] += 1
        else:
            assert result.refusal or result.retry, f"{told}: {result}"
            outcomes[result.refusal.value if result.refusal else "transfer"] += 1
        assert unharmed(before, slots), told
    print(dict(outcomes))
    assert {"metadata", "content", "transfer"} <= set(outcomes)
    assert outcomes["written otherwise"] < CASES / 10
    forget(tmp_path / "vehicle" / "slots")
    mutations.withdraw()
    assert world.client(slots).check().release == facts, "and the honest one is taken"


def test_mutations_against_daemons(tmp_path: Path) -> None:
    """The same, against daemons that drive. Each looks once a second at most, so that there are several."""
    cases = Cases()
    with ThreadPoolExecutor(DAEMONS) as threads:
        ended = [threads.submit(one_daemon, tmp_path / str(number), cases) for number in range(DAEMONS)]
    tried = sum(one.result() for one in ended)
    print(f"{tried} mutations against {DAEMONS} daemons from seed {cases.first}")
    assert cases.is_limited or tried >= DAEMONS * max(1, int(SECONDS / SLOWEST_S))


def one_daemon(folder: Path, cases: Cases) -> int:
    """With a cloud of its own; gives how many it was shown. In the end it takes the honest release."""
    folder.mkdir()
    shown = 0
    with mutated_world(folder) as world, prey(world, folder / "vehicle") as vehicle:
        vehicle.confirmed(model("1"))
        offered = world.release(NEW, hardware_ids=(HARDWARE, *OWN_HARDWARE))
        mutations = Mutations(world)

        def case(chance: random.Random) -> None:
            nonlocal shown
            role, same = mutations.put(chance)
            if same:
                return
            forget(folder / "vehicle" / "state" / "slots")
            looked = len(world.server.asked)
            vehicle.cloud.nudge()
            wait_for_look(vehicle, looked)
            drives(vehicle, offered, role)
            shown += 1

        cases.run(case)
        mutations.withdraw()
        vehicle.reaches(offered)
    return shown


def wait_for_look(vehicle: Prey, looked: int) -> None:
    resting = (common.UPDATE_PHASE_CONFIRMED, common.UPDATE_PHASE_REFUSED)
    eventually(lambda: len(vehicle.world.server.asked) > looked, "a look")
    eventually(lambda: vehicle.status().model.phase in resting, "the end of it")


def drives(vehicle: Prey, offered: ReleaseFacts, role: str) -> None:
    """On what it had, whatever was offered."""
    for message in islice(vehicle.daemon.client.detections(), 2):
        assert message.detections.model.sha256 != offered.model_sha256, f"{role}: accepted"
    assert vehicle.daemon.process.poll() is None
