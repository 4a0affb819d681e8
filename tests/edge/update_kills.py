"""Run by test_updates_crashes.py in a process of its own: kills each step at each operation."""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from collections import Counter
from pathlib import Path

from tests.edge.file_operations import Intercepted, Operation
from tests.edge.update_steps import STEPS, Step
from tests.edge.whole_update import Vehicle

DIED, DONE, FAILED = 7, 0, 1


def _forked(vehicle: Vehicle, state: Path, step: Step, point: int, *, torn: bool) -> bool:
    """Whether a child died before the so-manieth operation, or in the middle of the so-manieth write."""
    child = os.fork()
    if child == 0:
        count = 0

        def before(operation: Operation) -> None:
            nonlocal count
            if torn and operation.kind != "write":
                return
            count += 1
            if count == point:
                if torn:
                    operation.tear()
                os._exit(DIED)

        try:
            with Intercepted(state, before):
                vehicle.do(state, step)
        except BaseException:  # noqa: BLE001 - the child's top
            traceback.print_exc()
            os._exit(FAILED)
        os._exit(DONE)
    _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status)
    assert os.WEXITSTATUS(status) != FAILED, "the step failed without a kill"
    return os.WEXITSTATUS(status) == DIED


def main(place: Path) -> None:
    """Print how many points each step had."""
    vehicle = Vehicle(place)
    os.fsync = lambda handle: None  # no power is cut here
    ready, state = place / "ready", place / "state"
    ready.mkdir()
    points = {"before": Counter[str](), "torn": Counter[str]()}
    kinds: Counter[str] = Counter()
    for step in STEPS:
        told: list[Operation] = []
        after = place / "after"
        shutil.copytree(ready, after, symlinks=True)
        with Intercepted(after, told.append):
            around, _ = vehicle.do(after, step)
        kinds.update(operation.kind for operation in told)
        for how in ("before", "torn"):
            for point in range(1, len(told) + 2):
                shutil.copytree(ready, state, symlinks=True)
                died = _forked(vehicle, state, step, point, torn=how == "torn")
                if died:
                    points[how][step.name] += 1
                    vehicle.hold(state, step, around)
                shutil.rmtree(state)
                if not died:
                    break
        shutil.rmtree(ready)
        after.rename(ready)
    print(json.dumps({**points, "kinds": kinds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
