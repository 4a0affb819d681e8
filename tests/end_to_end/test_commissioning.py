"""A camera is commissioned by a real daemon, which is killed in the middle of the fit and started again."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from edge.config import load_config
from edge.doctor.drift import drift
from edge.drift.own import Own
from edge.drift.recommission import wish_anew
from tests.daemons import DaemonProcess, write_config
from tests.processes import descendants
from tests.waiting import eventually

pytestmark = pytest.mark.services

# Fifteen minutes of drive at the rate at which they are judged, as fast as they are inferred.
CAMERA = {"url": "sim:60001?seconds=900&rate=2&size=64x64", "pace": "lockstep"}
HOURS = 0.1


def fitting(pid: int) -> list[psutil.Process]:
    return descendants(pid, lambda child: "edge.drift.fit_child" in child.cmdline())


def has_ended(process: psutil.Process) -> bool:
    # Nobody may be there to collect it.
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_daemon_that_is_killed_while_fitting_fits_again(tmp_path: Path) -> None:
    path = write_config(tmp_path, CAMERA, drift={"commission_hours": HOURS, "learn_s": 60.0})
    config = load_config(path)
    folder = config.state_folder / "drift" / "camera0"
    with DaemonProcess(path) as daemon:
        children: list[psutil.Process] = []

        def begun() -> bool:
            children[:] = fitting(daemon.process.pid)
            return bool(children)

        eventually(begun, "a fit")
        daemon.process.kill()
        daemon.wait()
        eventually(lambda: has_ended(children[0]), "the end of the fit with the daemon")
    assert not (folder / "own.json").exists()
    with DaemonProcess(path) as daemon:
        done = daemon.event("drift_commissioned")
        assert done["camera"] == "camera0" and done["hours"] >= HOURS
        assert daemon.terminate() == 0
    own = Own.load(folder / "own.json")
    (context,) = own.reference.contexts
    assert all(feature.known for feature in context.features if feature.origin.value == "picture")
    (finding,) = drift(config)
    assert finding.text.endswith("uncalibrated, done")
    wish_anew(config, "camera0")
    with DaemonProcess(path) as daemon:
        daemon.event("drift_recommission")
        assert not (folder / "own.json").exists()
        assert daemon.terminate() == 0
