"""Every step of an update is cut everywhere: by a kill, by a power cut, by a disk that takes no more.

What must hold then is written down at `tests.edge.whole_update.Vehicle.hold`; what is seen as an operation,
in `tests.edge.file_operations`.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.updates.client import UpdateResult
from edge.updates.inbox import InboxError
from edge.updates.slot_content import Boot
from edge.updates.slots import Slots
from tests.edge.file_operations import Intercepted, Operation
from tests.edge.power_cuts import DATA_ONLY, NAMES_ONLY, NOTHING, Disk, by_chance, write_image
from tests.edge.update_steps import STEPS, Step
from tests.edge.whole_update import Vehicle, bare

LEAST_POINTS = 200  # that the whole must have


def test_a_kill_at_any_file_operation_leaves_old_or_new(tmp_path: Path) -> None:
    """In a process of its own that has no threads, since it forks at each."""
    command = [sys.executable, "-m", "tests.edge.update_kills", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    points = json.loads(done.stdout.splitlines()[-1])
    assert sum(points["before"].values()) >= LEAST_POINTS, points
    assert sum(points["torn"].values()) >= 50, points
    assert all(points["before"][step.name] >= 4 for step in STEPS[1:]), points
    kinds = {"create", "write", "truncate", "sync", "sync_folder", "rename", "unlink", "mkdir", "symlink"}
    assert kinds - {"truncate"} <= set(points["kinds"])


@pytest.fixture(scope="module")
def vehicle(tmp_path_factory: pytest.TempPathFactory) -> Vehicle:
    return Vehicle(tmp_path_factory.mktemp("vehicle"))


@pytest.fixture
def no_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of no use where no power is cut, and slow."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.mark.usefixtures("no_syncs")
def test_a_power_cut_after_any_file_operation_leaves_old_or_new(vehicle: Vehicle, tmp_path: Path) -> None:
    """The unsynced is lost: all of it, all data, all names, and any part of it by chance."""
    state = tmp_path / "state"
    state.mkdir()
    disk, seen, operations, images = Disk(), set[int](), 0, itertools.count()
    for step in STEPS:
        told: list[Operation] = []
        with Intercepted(state, told.append):
            around, _ = vehicle.do(state, step)
        for operation in told:
            operations += 1
            disk.apply(operation)
            for choice in (NOTHING, NAMES_ONLY, DATA_ONLY, by_chance(operations)):
                image = disk.image(choice)
                key = hash((step.name, tuple(image.items())))
                if key in seen:
                    continue
                seen.add(key)
                trial = tmp_path / str(next(images))
                write_image(image, trial)
                vehicle.hold(trial, step, around)
                shutil.rmtree(trial)
        if told:  # a step that is over is on disk
            write_image(disk.image(NOTHING), tmp_path / "over")
            with vehicle.open(tmp_path / "over") as slots:
                assert slots.state == around.after, f"{step.name} had come to its end"
            assert _names(tmp_path / "over" / "inbox") == _names(state / "inbox"), step.name
            for path in (state / "slots" / "metadata").rglob("*.json"):  # what holds off older metadata
                over = tmp_path / "over" / path.relative_to(state)
                assert over.read_bytes() == path.read_bytes(), f"{step.name}: {path.name}"
            shutil.rmtree(tmp_path / "over")
    assert operations >= LEAST_POINTS
    assert len(seen) >= LEAST_POINTS


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


class _Full:
    """A disk that takes nothing more from its n-th operation on; what only removes is done."""

    def __init__(self, first: int, code: int) -> None:
        self.count, self.first, self.code = 0, first, code
        self.refused = False

    def __call__(self, operation: Operation) -> None:
        if operation.kind == "unlink" or (operation.kind == "truncate" and operation.offset == 0):
            return
        self.count += 1
        if self.count >= self.first:
            if operation.kind == "write" and not self.refused:
                operation.tear()  # what still had room
            self.refused = True
            raise OSError(self.code, os.strerror(self.code))


@pytest.mark.usefixtures("no_syncs")
def test_a_full_disk_at_any_write_is_told_and_changes_nothing(
    vehicle: Vehicle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What runs is as before or as after, also after a restart; with room again, the step can be done."""
    ready, state, copy = (tmp_path / name for name in ("ready", "state", "copy"))
    ready.mkdir()
    codes = itertools.cycle((errno.ENOSPC, errno.EIO, errno.EDQUOT))
    points = 0
    for step in STEPS:
        over = tmp_path / "over"
        shutil.copytree(ready, over, symlinks=True)
        around, _ = vehicle.do(over, step)
        for first in itertools.count(1):
            shutil.copytree(ready, state, symlinks=True)
            full = _Full(first, next(codes))
            caplog.clear()
            with _opened(vehicle, state, full) as slots:
                told = "" if slots is None else _told(vehicle, slots, step, full)
                if slots is not None and full.refused:
                    vehicle.hold_in_memory(slots, step, around)
                    shutil.copytree(state, copy, symlinks=True)
                    vehicle.complete(slots, step, around)
            if not full.refused:
                shutil.rmtree(state)
                break
            points += 1
            told = told or caplog.text  # where a start goes on all the same
            assert slots is None or os.strerror(full.code) in told, f"{step.name}, {first}: {told!r}"
            if slots is not None:
                vehicle.hold(copy, step, around, refused=True)  # the daemon stopped while the disk was full
                shutil.rmtree(copy)
            else:
                vehicle.hold(state, step, around)
            shutil.rmtree(state)
        shutil.rmtree(ready)
        over.rename(ready)
    assert points >= LEAST_POINTS


@contextmanager
def _opened(vehicle: Vehicle, state: Path, full: _Full) -> Iterator[Slots | None]:
    """The slots; None where the disk has no room for their folders, and that is told."""
    with Intercepted(state, full):
        try:
            slots = vehicle.open(state)
        except OSError as error:
            assert error.errno == full.code
            yield None
            return
    with slots:
        yield slots


def _told(vehicle: Vehicle, slots: Slots, step: Step, full: _Full) -> str:
    """Do the step on the full disk; what is said about it."""
    with Intercepted(slots.staging.parent.parent, full):
        try:
            result = step.action(slots, vehicle.client(slots, step))
        except (OSError, InboxError) as error:
            return str(error)
    if isinstance(result, Boot):
        return " ".join(result.troubles)
    return result.detail if isinstance(result, UpdateResult) and result.retry else ""


@pytest.mark.usefixtures("no_syncs")
@pytest.mark.parametrize("name", ["third release", "fourth release in its place"])
def test_a_state_of_which_nobody_knows_whether_it_is_on_disk_is_written_again(
    vehicle: Vehicle, tmp_path: Path, name: str
) -> None:
    """The last sync failed: the disk names a candidate, the process none. It stages again, and dies."""
    state, trial = tmp_path / "state", tmp_path / "trial"
    state.mkdir()
    steps = iter(STEPS)
    while (step := next(steps)).name != name:
        vehicle.do(state, step)
    told: list[Operation] = []
    shutil.copytree(state, trial, symlinks=True)
    with Intercepted(trial, told.append):
        around, _ = vehicle.do(trial, step)
    shutil.rmtree(trial)
    renamed = max(n for n, one in enumerate(told) if one.to == "slots/state.json")
    last = 1 + next(n for n in range(renamed, len(told)) if told[n].kind == "sync_folder")

    def fail_the_last(operation: Operation) -> None:
        nonlocal last
        last -= 1
        if not last:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def hold_here(operation: Operation) -> None:
        """A process that dies leaves what is on disk at that moment."""
        if operation.kind in ("write", "sync", "sync_folder"):
            return
        shutil.copytree(state, trial, symlinks=True)
        if (found := json.loads((trial / "slots" / "state.json").read_bytes()))["candidate"]:
            with vehicle.open(trial) as slots:
                slots.load(found["candidate"])
        shutil.rmtree(trial)

    with Intercepted(state, fail_the_last), vehicle.open(state) as slots:
        result = step.action(slots, vehicle.client(slots, step))
        assert result.retry
        with Intercepted(state, hold_here):
            last = 0
            assert step.action(slots, vehicle.client(slots, step)).staged is not None
        assert bare(slots.state) == bare(around.after)
