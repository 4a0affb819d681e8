from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from edge.config import ServeConfig
from edge.config.sections import TlsConfig
from protos.traffic_vision.v1 import common_pb2, perception_pb2
from tests.daemons import LONG_S, DaemonProcess, write_config
from tests.replays import COMMAND
from tools.watch.run import WatchError, address_of
from tools.watch.screen import render
from tools.watch.view import View
from tools.watch.words import drift_line, frame_line


def found() -> common_pb2.FrameDetections:
    message = common_pb2.FrameDetections(
        frame=common_pb2.FrameRef(
            camera="front", sequence=7, captured=common_pb2.Instant(monotonic_ns=700_000_000)
        ),
        model=common_pb2.ModelRef(sha256="ab" * 32),
        times=common_pb2.StageTimes(inference_ns=12_300_000),
    )
    message.detections.add(x1_px=1, y1_px=2, x2_px=3, y2_px=4, score=0.912, class_name="car")
    return message


def alarm() -> common_pb2.DriftState:
    state = common_pb2.DriftState(
        camera="front",
        verdict=common_pb2.DRIFT_VERDICT_ALARM,
        observed=common_pb2.Instant(monotonic_ns=80_000_000_000),
        expected_false_alarms_per_day=0.01,
        kind=common_pb2.DRIFT_KIND_LIGHT,
        explanation="it got dark",
        estimated_map50_change=-0.123,
    )
    state.features.add(name="brightness", ks_d=0.93, window_s=30, shift_sigma=-4.2)
    return state


def test_a_frame_and_a_drift_state_in_one_line() -> None:
    assert frame_line(found()) == ("     0.70 s  front  frame 7  model abababab  12.3 ms  car 0.91 (1,2,3,4)")
    assert drift_line(alarm()) == (
        "    80.00 s  front  drift alarm (light)  brightness D 0.93 over 30 s"
        "  0.01 false alarms a day expected  it got dark  mAP50 -0.12, estimated without labels"
    )


def shown(view: View) -> str:
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    console.print(render(view, "unix:/p.sock"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_screen_shows_cameras_detections_drift_and_trouble() -> None:
    view = View()
    assert "unix:/p.sock: connecting; trying again" in shown(view)
    status = common_pb2.VehicleStatus()
    camera = status.cameras.add(camera="front", state=common_pb2.CAMERA_STATE_BACK_OFF, captured_frames=9)
    camera.outcomes.add(outcome=common_pb2.FRAME_OUTCOME_PUBLISHED, frames=6)
    camera.outcomes.add(outcome=common_pb2.FRAME_OUTCOME_RATE_LIMITED, frames=3)
    camera.detail = "[red]no markup[/red]"
    view.saw_status(status)
    view.saw_frame(perception_pb2.StreamDetectionsResponse(detections=found()))
    view.saw_drift(perception_pb2.StreamDriftResponse(state=alarm()))
    text = shown(view)
    for told in (
        "back off",
        "6 of 9",
        "rate limited 3",
        "car",
        "0.91",
        "drift: alarm",
        "brightness",
        "-4.2 sigma",
    ):
        assert told in text
    assert "[red]" in text
    assert "drift of all" not in text
    status.drift.add(camera="front")
    status.drift.add(camera="rear")
    status.device_drift.verdict = common_pb2.DRIFT_VERDICT_ALARM
    status.device_drift.cameras.append("rear")
    view.saw_status(status)
    assert "drift of all cameras: alarm (rear)" in shown(view)
    long = alarm()
    long.explanation = "brightness 3.1 sigma below the day reference, " * 4 + "since 18:42 UTC"
    view.saw_drift(perception_pb2.StreamDriftResponse(state=long))
    assert "since 18:42 UTC" in shown(view)  # all of it, on as many lines as it takes
    view.lost("the daemon stops")
    assert "the daemon stops; trying again" in shown(view)


def test_a_configurations_address_is_chosen_by_whether_there_is_an_authority(tmp_path: Path) -> None:
    def serve(tls: bool, *addresses: str) -> ServeConfig:
        files = TlsConfig.model_construct(cert=tmp_path, key=tmp_path) if tls else None
        return ServeConfig.model_construct(address=addresses[0], more_addresses=addresses[1:], tls=files)

    tcp, unix, ca = "127.0.0.1:1", "unix:/p.sock", tmp_path / "ca.crt"
    assert address_of(serve(False, tcp, unix), None) == tcp
    assert address_of(serve(True, tcp, unix), None) == unix
    assert address_of(serve(True, unix, tcp), ca) == tcp
    with pytest.raises(WatchError, match=r"127.0.0.1:1 speaks TLS: give --ca"):
        address_of(serve(True, tcp), None)
    with pytest.raises(WatchError, match="speaks no TLS"):
        address_of(serve(False, tcp), ca)


def watch(*arguments: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, "watch", *arguments], text=True, **options)


@pytest.mark.services
def test_it_waits_for_a_daemon_and_goes_on_with_the_next(tmp_path: Path) -> None:
    config = write_config(tmp_path, {"url": "sim:7?seconds=0&size=64x64"}, address=f"unix:{tmp_path}/p.sock")
    watching = watch("--config", str(config), stdout=subprocess.PIPE)
    assert watching.stdout is not None
    lines = iter(watching.stdout)

    def next_with(word: str) -> str:
        return next(line for line in lines if word in line)

    next_with("not connected")
    for _ in range(2):
        with DaemonProcess(config) as daemon:
            assert "camera0  frame" in next_with("frame")
            assert daemon.terminate() == 0
        next_with("not connected")
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=LONG_S)
    assert watching.returncode == 0


@pytest.mark.services
def test_a_limit_ends_it_and_a_refusal_is_one_line(tmp_path: Path) -> None:
    config = write_config(tmp_path, {"url": "sim:7?seconds=0&size=64x64"})
    with DaemonProcess(config) as daemon:
        done = subprocess.run(
            [*COMMAND, "watch", "--address", daemon.address, "--limit", "3"],
            capture_output=True,
            text=True,
            timeout=LONG_S,
            check=True,
        )
        assert len([line for line in done.stdout.splitlines() if "  frame " in line]) == 3
        refused = watch("--address", daemon.address, "--camera", "left", stderr=subprocess.PIPE)
        _, said = refused.communicate(timeout=LONG_S)
        assert refused.returncode == 1
        assert said.splitlines()[-1].endswith("no camera 'left'; there are camera0")
        assert daemon.terminate() == 0


@pytest.mark.services
def test_on_a_terminal_the_screen_is_drawn(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with DaemonProcess(write_config(tmp_path, {"url": "sim:7?seconds=0&size=64x64"})) as daemon:
        watching = watch("--address", daemon.address, stdout=theirs, env={**os.environ, "TERM": "xterm"})
        os.close(theirs)
        drawn = b""
        while b"published" not in drawn or b"frame" not in drawn:
            drawn += os.read(ours, 65_536)
        watching.send_signal(signal.SIGINT)
        while True:
            try:
                if not os.read(ours, 65_536):
                    break
            except OSError:  # Linux's way to say that the other end is closed
                break
        assert watching.wait(LONG_S) == 0
        assert daemon.terminate() == 0
    os.close(ours)
