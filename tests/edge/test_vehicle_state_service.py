"""The vehicle's state on a real daemon: by RPC, by the socket, by the pictures; and what it is for."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import cv2
import pytest

from edge.serve.client import ClientError
from protos.traffic_vision.v1 import common_pb2 as common
from tests.daemons import LONG_S, DaemonProcess, refused, write_config
from tests.recordings import picture
from tests.waiting import eventually

pytestmark = pytest.mark.services

DRIVE = {"url": "sim:7?seconds=0&rate=10&size=160x90", "pace": "lockstep", "speed_limit": 4.0}


class Lines:
    """A program that writes the vehicle's state to the socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LONG_S)
        self.socket.connect(str(path))
        self.answers = self.socket.makefile("rb")

    def say(self, line: bytes) -> dict[str, object]:
        self.socket.sendall(line + b"\n")
        return json.loads(self.answers.readline())

    def close(self) -> None:
        self.answers.close()
        self.socket.close()


def test_lines_on_the_socket_are_taken_or_refused_each_alone(tmp_path: Path) -> None:
    path = tmp_path / "v.sock"
    config = write_config(tmp_path, DRIVE, vehicle_state={"socket": "v.sock", "valid_ms": 60_000})
    with DaemonProcess(config) as daemon:
        assert oct(path.stat().st_mode & 0o777) == "0o660"
        lines = Lines(path)
        assert lines.say(b'{"speed_mps": 13.5, "ignition": "on"}') == {"valid_ms": 60_000}
        assert lines.say(b'{"speed_mps": 900}') == {"error": "speed_mps is 900, expected -150 to 150"}
        assert "error" in lines.say(b"\xff\x00{")
        assert lines.say(b"x" * 10_000) == {"error": "the line is longer than 4096 bytes"}
        state = daemon.client.status().status.state
        assert state.speed_mps == 13.5 and state.ignition == common.IGNITION_ON
        assert state.observed.monotonic_ns > 0
        others = [Lines(path) for _ in range(7)]
        one_more = Lines(path)
        assert "8 clients are connected" in json.loads(one_more.answers.readline())["error"]
        assert one_more.answers.read() == b""
        half = others[0]
        half.socket.sendall(b'{"speed_mps"')
        half.close()  # in the middle of a line
        flood = others[1]
        flood.socket.settimeout(0.5)
        with pytest.raises(OSError):
            while True:
                flood.socket.sendall(b"{}\n" * 10_000)
        for one in (*others[1:], one_more):
            one.close()
        assert lines.say(b'{"speed_mps": 0, "ignition": "off"}') == {"valid_ms": 60_000}
        assert daemon.cameras()["camera0"].motion == common.MOTION_PARKED
        lines.close()
        assert daemon.terminate() == 0
        assert daemon.errors == []
    assert not path.exists()


def test_a_report_by_rpc_holds_and_a_bad_one_names_its_field(tmp_path: Path) -> None:
    config = write_config(tmp_path, DRIVE, vehicle_state={"valid_ms": 300})
    with DaemonProcess(config) as daemon:
        answer = daemon.client.report_vehicle(common.VehicleState(speed_mps=1.5))
        assert answer.valid_ms == 300
        with pytest.raises(ClientError, match="latitude_deg is 100, expected -90 to 90"):
            daemon.client.report_vehicle(common.VehicleState(latitude_deg=100, longitude_deg=1))
        eventually(lambda: not daemon.client.status().status.HasField("state"), "it holds no more")
        eventually(lambda: daemon.cameras()["camera0"].motion == common.MOTION_DRIVING, "by the pictures")
        assert daemon.terminate() == 0


def test_drift_pauses_while_the_vehicle_is_parked_and_goes_on_after(tmp_path: Path) -> None:
    sections = {
        "drift": {"learn_s": 3000},  # nothing else changes meanwhile
        "vehicle_state": {"valid_ms": 60_000},
        "sampler": {"baseline_spacing_s": 1},
    }
    with DaemonProcess(write_config(tmp_path, DRIVE, **sections)) as daemon:
        states = daemon.client.drift(changes_only=True)
        assert next(states).state.verdict == common.DRIFT_VERDICT_LEARNING
        daemon.client.report_vehicle(common.VehicleState(speed_mps=0, ignition=common.IGNITION_OFF))
        paused = next(states).state
        assert paused.verdict == common.DRIFT_VERDICT_PAUSED and "parked" in paused.explanation
        before = daemon.client.status().status.spool.samples
        frames = daemon.cameras()["camera0"].captured_frames
        eventually(lambda: daemon.cameras()["camera0"].captured_frames > frames + 80, "8 s of the drive")
        assert daemon.client.status().status.spool.samples <= before + 1  # one was on its way
        daemon.client.report_vehicle(common.VehicleState(speed_mps=9))
        assert next(states).state.verdict == common.DRIFT_VERDICT_LEARNING
        eventually(lambda: daemon.client.status().status.spool.samples > before, "samples again")
        assert daemon.terminate() == 0


def test_without_a_report_a_view_that_stands_still_is_parked(tmp_path: Path) -> None:
    view = tmp_path / "view"
    view.mkdir()
    for number in range(400):
        cv2.imwrite(str(view / f"{number:03}.jpg"), picture(1))
    camera = {"url": "view", "pace": "lockstep", "still_rate_hz": 10}
    with DaemonProcess(write_config(tmp_path, camera, drift={})) as daemon:
        assert daemon.event("motion")["motion"] == "parked"
        daemon.until_ended()
        assert daemon.terminate() == 0
    verdicts = [line["verdict"] for line in daemon.log if line.get("event") == "drift_verdict"]
    assert verdicts[-1] == "paused"


def test_a_socket_that_is_taken_and_a_clock_that_is_none_are_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(tmp_path / "v.sock"))
        taken.listen()
        line = refused(write_config(tmp_path, DRIVE, vehicle_state={"socket": "v.sock"}))
    assert line.endswith("v.sock: another process listens there")
    clock = {"source": "ptp", "ptp_device": str(tmp_path / "ptp9")}
    assert "ptp9' cannot be opened: No such file" in refused(write_config(tmp_path, DRIVE, clock=clock))
    line = refused(write_config(tmp_path, DRIVE, clock={**clock, "ptp_device": "/dev/zero"}))
    assert line.startswith("'/dev/zero' is no PTP clock that can be read")
    line = refused(write_config(tmp_path, DRIVE, clock={"ptp_device": "/dev/ptp0"}))
    assert 'expected source = "ptp" beside it' in line
