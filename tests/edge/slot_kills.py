"""Run by test_updates_slots.py in a process of its own: kills each change of the slots everywhere."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from cloud.release import releasing, repository
from cloud.release.keys import create_keys
from edge.updates import slot_state
from edge.updates.evidence import Evidence
from edge.updates.slots import Slots
from protos.release_facts import ReleaseFacts
from tests.killing import killed_at_each_point
from tests.update_world import TERMS, VEHICLE, evidence_in, model

BAD = "d" * 64


class Trial:
    """A vehicle's folder that is put back to how it was, killed in, looked at."""

    def __init__(self, place: Path) -> None:
        self.ready, self.folder = place / "ready", place / "trial"
        self.factory = place / "factory.onnx"
        self.factory.write_bytes(model("factory"))
        keys = create_keys(place / "keys")
        cloud = place / "repository"
        repository.create_repository(cloud, keys)
        self.root = repository.current_root(cloud)
        self.proofs: dict[str, tuple[ReleaseFacts, Evidence]] = {}
        signers = [keys.signer(name) for name in ("gate", "snapshot", "timestamp")]
        for version in ("1", "2", "3"):
            facts = releasing.propose_release(cloud, model(version), TERMS, keys.signer("trainer"))
            releasing.complete_release(cloud, facts.model_sha256, *signers)
            self.proofs[version] = facts, evidence_in(cloud, facts)
        with self.open(self.ready):
            pass

    def open(self, folder: Path) -> Slots:
        return Slots(folder, self.factory, self.root, VEHICLE)

    def stage(self, version: str) -> Callable[[Slots], object]:
        """As the client does it: the file lies in staging, as far as it is not staged yet."""

        def step(slots: Slots) -> object:
            part = slots.staging / "part"
            part.write_bytes(model(version))
            return slots.stage(part, self.proofs[version][1])

        return step

    def kill_everywhere(self, step: Callable[[Slots], object]) -> int:
        """Kill `step` at each point; after it the state is old or new, whole, and the step can be done."""

        def work() -> None:
            with self.open(self.folder) as slots:
                step(slots)

        self.reset()
        with self.open(self.folder) as slots:
            before = slots.state
            step(slots)
            after = slots.state
        allowed = [before, after]
        if not before.on_probation:  # staging empties the slot first
            allowed.append(slot_state.emptied(before, slot_state.slot_to_stage(before)))
        points = 0
        self.reset()
        for _ in killed_at_each_point(work):
            points += 1
            with self.open(self.folder) as slots:
                assert slots.state in allowed
                look(slots)
                if slots.state != after:
                    step(slots)
                assert slots.state == after
                look(slots)
            self.reset()
        with self.open(self.ready) as slots:
            step(slots)
        return points

    def reset(self) -> None:
        """Put the folder back to how it was before the step."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.ready, self.folder)


def look(slots: Slots) -> None:
    """Every slot that may be used holds a whole release, and nothing half written lies about."""
    for slot in {slots.state.active, slots.state.last_good, slots.state.candidate or "factory"}:
        loaded = slots.load(slot)
        release = loaded.content.release
        assert loaded.data == model(release.model_version if release else "factory")
    assert not list(slots.staging.parent.rglob("*.tmp"))


def main(place: Path) -> None:
    """Print how many points each change had."""
    trial = Trial(place)
    points = {
        "stage": trial.kill_everywhere(trial.stage("1")),
        "activate": trial.kill_everywhere(Slots.activate),
        "boot": trial.kill_everywhere(Slots.boot),
        "confirm": trial.kill_everywhere(Slots.confirm),
        "stage_second": trial.kill_everywhere(trial.stage("2")),
        "stage_in_its_place": trial.kill_everywhere(trial.stage("3")),
        "activate_second": trial.kill_everywhere(Slots.activate),
        "mark_bad": trial.kill_everywhere(lambda slots: slots.mark_bad(BAD, "on purpose")),
        "revert": trial.kill_everywhere(lambda slots: slots.revert("on purpose")),
    }
    print(json.dumps(points))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
