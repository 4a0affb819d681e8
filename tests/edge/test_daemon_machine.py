"""The daemon under its service manager, and when cameras, inference or the disk misbehave."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.machine import install
from edge.updates.hardware import hardware_ids
from edge.updates.slots import Slots
from edge.updates.trust import Vehicle
from protos.traffic_vision.v1 import common_pb2
from tests.certificates import Authority
from tests.daemons import DaemonProcess, write_config
from tests.managers import Manager
from tests.models_factory import loaded
from tests.plugins import TROUBLE, install_source
from tests.sandboxed import LACKING
from tests.update_world import World, model
from tests.waiting import Stopwatch, eventually

pytestmark = pytest.mark.services

DRIVE = {"url": "sim:7?seconds=0&rate=10&size=64x64", "pace": "lockstep", "speed_limit": 5.0}


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(str(tmp_path / "notify")) as opened:
        yield opened


@pytest.fixture
def environment(tmp_path: Path, manager: Manager) -> dict[str, str]:
    """Of a service whose manager waits two seconds for a sign of life, and that has the plug-in above."""
    own = install_source(tmp_path / "plugins", "trouble", TROUBLE)
    return {**own, "NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "2000000"}


def test_it_is_ready_after_warm_up_says_when_it_reloads_and_that_it_stops(
    tmp_path: Path, manager: Manager, environment: dict[str, str]
) -> None:
    config = write_config(tmp_path, DRIVE)
    with DaemonProcess(config, environment=environment) as daemon:
        assert "starting" in manager.next()["STATUS"]
        assert int(manager.until("EXTEND_TIMEOUT_USEC")["EXTEND_TIMEOUT_USEC"]) > 0
        ready = manager.until("READY")
        assert daemon.address in ready["STATUS"] and "camera0" in ready["STATUS"]
        next(daemon.client.detections())
        for _ in range(3):
            manager.until("WATCHDOG")
        write_config(
            tmp_path, {**DRIVE, "rate_limit_hz": 3.0, "stale_after_ms": 700}, disk={"bytes_per_day": 7}
        )
        daemon.process.send_signal(signal.SIGHUP)
        assert int(manager.until("RELOADING")["MONOTONIC_USEC"]) > 0
        manager.until("READY")
        changed = daemon.event("config_reloaded")["changed"]
        assert changed == ["cameras[0].rate_limit_hz", "cameras[0].stale_after_ms", "disk.bytes_per_day"]
        assert daemon.client.status().status.disk.limit_bytes_per_day == 7
        eventually(lambda: _left(daemon, common_pb2.FRAME_OUTCOME_RATE_LIMITED) > 10, "the new limit holds")
        config.write_text("no toml")
        daemon.process.send_signal(signal.SIGHUP)
        manager.until("RELOADING")
        manager.until("READY")
        assert "not TOML" in daemon.event("config_refused")["message"]
        assert daemon.terminate() == 0
        assert manager.until("STOPPING")["STATUS"] == "stopping"


def test_a_camera_that_is_away_and_a_recording_that_ended_keep_no_ping_back(
    tmp_path: Path, manager: Manager, environment: dict[str, str]
) -> None:
    ended = {"url": "sim:7?seconds=1&rate=5&size=64x64", "pace": "lockstep", "name": "ended"}
    config = write_config(tmp_path, {"url": "trouble:is-away"}, ended)
    with DaemonProcess(config, environment=environment) as daemon:
        daemon.event("camera_ended")
        assert "camera0 lost" in daemon.event("camera_lost")["message"]
        eventually(lambda: daemon.cameras()["camera0"].losses >= 3, "three tries")
        assert sum(line.get("event") == "camera_lost" for line in daemon.log) == 1, "told once a minute"
        manager.waiting()
        for _ in range(4):
            manager.until("WATCHDOG")
        assert daemon.terminate() == 0


@pytest.mark.parametrize("trouble", ["hangs", "hangs-inference"])
def test_what_hangs_ends_the_pings(
    tmp_path: Path, manager: Manager, environment: dict[str, str], trouble: str
) -> None:
    config = write_config(tmp_path, {"url": f"trouble:{trouble}"})
    with DaemonProcess(config, environment=environment) as daemon:
        manager.until("WATCHDOG")
        expected = "inference hangs" if trouble == "hangs-inference" else "camera camera0 has given no frame"

        def silent() -> list[dict[str, object]]:
            return [line for line in daemon.log if line.get("event") == "watchdog_silent"]

        eventually(lambda: expected in str(silent()), "the log tells why")
        eventually(lambda: "not well" in str(manager.waiting()), "the manager is told why")
        assert manager.silent_for(2.0, "WATCHDOG"), "longer than the manager waits"
        daemon.process.send_signal(signal.SIGABRT)  # as the manager would
        assert daemon.wait() == -signal.SIGABRT


def test_term_with_streams_open_and_a_camera_that_hangs(tmp_path: Path, environment: dict[str, str]) -> None:
    config = write_config(tmp_path, {"url": "trouble:hangs", "name": "front"}, {**DRIVE, "name": "rear"})
    with DaemonProcess(config, environment=environment) as daemon:
        streams = [daemon.client.detections() for _ in range(3)]
        for stream in streams:
            next(stream)
        eventually(lambda: daemon.cameras()["front"].state == common_pb2.CAMERA_STATE_STALE, "it hangs")
        took = Stopwatch()
        assert daemon.terminate() == 0
        assert took() < 3.0
        assert daemon.event("hangs")["part"] == "capture of camera front"
        frames = {line["camera"]: line["frames"] for line in daemon.log if line.get("event") == "frames"}
        assert frames["rear"]["published"] > 0


def test_three_crashes_of_a_new_model_put_the_one_before_it_back(
    tmp_path: Path, environment: dict[str, str], world: World
) -> None:
    """A release on probation, a device that fails under it, and a daemon that is never restarted."""
    folder = tmp_path / "vehicle"
    cert, key = _identity(folder)
    (folder / "root.json").write_bytes(world.root)
    (folder / "factory.onnx").write_bytes(model("factory"))
    config = write_config(
        folder,
        {"url": "trouble:breaks-new-models"},
        updates={"root": "root.json", "probation_s": 3600.0},
        cloud={"address": "127.0.0.1:1", "ca": "ca.crt", "cert": str(cert), "key": str(key)},
    )
    new = model("new")
    facts = world.release(new, hardware_ids=hardware_ids(("cpu",)))
    vehicle = Vehicle(frozenset(hardware_ids(("cpu",))), "99")
    with Slots(folder / "state/slots", folder / "factory.onnx", world.root, vehicle) as slots:
        slots.stage(new, world.evidence(facts))
        slots.activate()
    with DaemonProcess(config, environment=environment) as daemon:
        assert daemon.event("started")["model"] == loaded(new).digest
        daemon.event("inference_down")
        reverted = daemon.event("update_reverted")
        assert "crashed three times within a minute" in reverted["message"]
        factory = loaded(model("factory")).digest
        eventually(lambda: daemon.client.status().status.model.active.sha256 == factory, "it is back")
        published = _left(daemon, common_pb2.FRAME_OUTCOME_PUBLISHED)
        eventually(lambda: _left(daemon, common_pb2.FRAME_OUTCOME_PUBLISHED) > published, "frames flow")
        assert _left(daemon, common_pb2.FRAME_OUTCOME_INFERENCE_ERROR) >= 3
        assert daemon.terminate() == 0


def test_the_day_s_bytes_are_kept_and_agree_with_the_kernel_s(tmp_path: Path) -> None:
    """The samples of a drive: refused beyond the budget, which a restart does not forget."""
    config = write_config(
        tmp_path,
        {**DRIVE, "url": "sim:7?seconds=0&rate=10&size=640x480", "speed_limit": 1000.0},
        sampler={"baseline_spacing_s": 0.1, "near_duplicate_bits": 0, "uncertainty_spacing_s": 0.1},
        drift={},
        disk={"bytes_per_day": 3_000_000},
    )
    with DaemonProcess(config) as daemon:
        spent = daemon.event("disk_budget_spent")
        assert spent["lane"] == "samples"
        disk = daemon.client.status().status.disk
        assert 2_500_000 < disk.written_bytes <= 3_100_000 and disk.refused_writes > 0
        assert disk.writers[0].name == "samples"
        kernel = _written_by(daemon.process.pid)
        print(f"counted {disk.written_bytes}, by the kernel {kernel}")
        if kernel:  # 0 on a file system in memory
            assert 0.8 < disk.written_bytes / kernel < 1.5
        assert daemon.terminate() == 0
    with DaemonProcess(config) as daemon:
        again = daemon.client.status().status.disk
        assert again.written_bytes >= disk.written_bytes
        assert daemon.terminate() == 0


def test_it_runs_on_the_units_terms(tmp_path: Path, environment: dict[str, str], manager: Manager) -> None:
    """No writable and executable page, the unit's system calls and address families alone."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze, of Debian's package systemd")
    unit = Path(install.__file__).parent.parent / "systemd" / install.UNIT
    under = [sys.executable, "-m", "tests.sandboxed", str(unit)]
    probe = os.spawnvp(os.P_WAIT, under[0], [*under, "true"])
    if probe == LACKING:
        pytest.skip("needs Linux 6.3 (PR_SET_MDWE) and libseccomp.so.2")
    assert probe == 0
    config = write_config(tmp_path, DRIVE, {"name": "away", "url": "trouble:is-away"}, drift={}, sampler={})
    with DaemonProcess(config, environment=environment, under=under) as daemon:
        manager.until("WATCHDOG")
        next(daemon.client.detections())
        shutil.copy(tmp_path / "factory.onnx", tmp_path / "same.onnx")
        (tmp_path / "factory.onnx").write_bytes(model("2"))
        assert daemon.client.reload(common_pb2.SLOT_FACTORY).active.version == "2", "its check is a child"
        assert daemon.terminate() == 0
        assert daemon.errors == []


def _left(daemon: DaemonProcess, outcome: common_pb2.FrameOutcome) -> int:
    (camera,) = daemon.cameras().values()
    return sum(count.frames for count in camera.outcomes if count.outcome == outcome)


def _identity(folder: Path) -> tuple[Path, Path]:
    folder.mkdir(parents=True)
    authority = Authority()
    (folder / "ca.crt").write_bytes(authority.certificate)
    return authority.vehicle("test-1").write(folder, "vehicle")


def _written_by(pid: int) -> int:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])
