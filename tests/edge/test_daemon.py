"""The daemon as people run it: a process, a configuration, recordings, a client."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from protos.traffic_vision.v1 import common_pb2
from tests.daemons import LONG_S, DaemonProcess, counts_of, refused, write_config
from tests.models_factory import rectangles_model
from tests.recordings import damage_packets, write_pictures, write_video
from tests.replays import COMMAND, write_drive
from tests.waiting import eventually

pytestmark = pytest.mark.services


def test_a_drive_reaches_the_client(tmp_path: Path) -> None:
    """In lock-step, at a crawl until the client is there: what comes then comes to it whole."""
    write_drive(tmp_path / "drive", frames=12)
    drive = {"url": "drive", "pace": "lockstep", "still_rate_hz": 10}
    config = write_config(tmp_path, {**drive, "speed_limit": 0.1})  # a frame a second
    with DaemonProcess(config) as daemon:
        messages = daemon.client.detections()
        before = next(messages)
        write_config(tmp_path, drive)
        daemon.process.send_signal(signal.SIGHUP)
        while before.detections.frame.sequence < 11:
            message = next(messages)
            assert message.sequence == before.sequence + 1 and message.dropped_messages == 0
            assert message.detections.frame.sequence == before.detections.frame.sequence + 1
            assert {box.class_name for box in message.detections.detections} == {"red", "blue"}
            before = message
        counts = daemon.until_ended()["camera0"]
        assert counts["captured"] == 12
        status = daemon.client.status().status
        assert status.model.active.sha256 == before.detections.model.sha256
        assert status.model.active_slot == common_pb2.SLOT_FACTORY
        assert status.resident_bytes > 10_000_000
        assert list(status.execution_providers) == ["CPUExecutionProvider"]
        assert daemon.terminate() == 0
        assert daemon.errors == []
        assert daemon.event("frames")["frames"]["captured"] == 12


def test_the_ways_out_add_up_under_load(tmp_path: Path) -> None:
    """Recordings far faster than the model, one of them rate-limited, and a client that never reads."""
    write_video(tmp_path / "front.mp4", frames=150)
    write_drive(tmp_path / "rear", frames=80, hw=(720, 1280))
    (tmp_path / "factory.onnx").write_bytes(rectangles_model(hw=(640, 640)))
    config = write_config(
        tmp_path,
        {"name": "front", "url": "front.mp4", "pace": 100, "rate_limit_hz": 5},
        {"name": "rear", "url": "rear", "pace": 100},
    )
    with DaemonProcess(config) as daemon:
        _never_read = daemon.client.detections()
        counts = daemon.until_ended()
        assert daemon.terminate() == 0
    assert counts["front"]["captured"] == 150 and counts["rear"]["captured"] == 80
    assert 70 <= counts["front"]["rate_limited"] <= 75
    for camera in counts.values():
        captured = camera.pop("captured")
        assert captured == sum(camera.values())
        assert camera["published"] > 0


def test_term_in_the_middle_stops_in_order_and_counts_every_frame(tmp_path: Path) -> None:
    config = write_config(tmp_path, {"url": "sim:7?seconds=0&rate=10&size=128x96", "pace": "lockstep"})
    with DaemonProcess(config) as daemon:
        messages = daemon.client.detections()
        for _ in range(5):
            next(messages)
        assert daemon.terminate() == 0
        frames = daemon.event("frames")["frames"]
        assert not [line for line in daemon.log if line.get("event") == "hangs"]
        assert daemon.errors == []
    captured = frames.pop("captured")
    assert captured == sum(frames.values())
    assert frames["published"] >= 5 and frames["stopped"] <= 2


def test_a_corrupt_frame_costs_itself_alone(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", 9)
    (pictures / "frame4.jpg").write_bytes(b"\xff\xd8 no picture")
    video = write_video(tmp_path / "drive.avi", frames=20, fourcc="MJPG")
    damage_packets(video, 7)
    config = write_config(
        tmp_path,
        {"name": "folder", "url": "pictures", "pace": "lockstep"},
        {"name": "video", "url": "drive.avi", "pace": "lockstep"},
    )
    with DaemonProcess(config) as daemon:
        counts = daemon.until_ended()
        detail = daemon.cameras()["folder"].detail
        assert daemon.terminate() == 0
    assert counts["folder"] == {"captured": 9, "published": 8, "decode_error": 1}
    assert counts["video"]["captured"] == 20
    assert counts["video"]["published"] + counts["video"].get("decode_error", 0) == 20
    assert "frame 4: the picture does not decode" in detail


@pytest.mark.parametrize(
    ("camera", "reason"),
    [
        ({"url": "none.mp4"}, "camera 'camera0': source '{folder}/none.mp4' not found"),
        ({"url": "empty"}, "camera 'camera0': folder '{folder}/empty' holds no picture"),
        ({"url": "text.mp4"}, "camera 'camera0': '{folder}/text.mp4' is no readable video"),
        (
            {"url": "rtsq://me:secret@10.0.0.9/1"},
            "camera 'camera0': no such file, and 'rtsq:' is no known kind",
        ),
        (
            {"url": "drive", "pase": 1},
            "{folder}/edge.toml: unknown key 'cameras[0].pase'; did you mean 'pace'?",
        ),
        (
            {"url": "drive", "rate_limit_hz": "5"},
            "{folder}/edge.toml: cameras[0].rate_limit_hz = '5': expected",
        ),
    ],
)
def test_what_cannot_start_says_so_in_one_line(tmp_path: Path, camera: dict, reason: str) -> None:
    write_drive(tmp_path / "drive", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    line = refused(write_config(tmp_path, camera))
    assert line.startswith(reason.format(folder=tmp_path)), line
    assert "secret" not in line


def test_a_broken_model_and_a_missing_provider_are_refused(tmp_path: Path) -> None:
    write_drive(tmp_path / "drive", 1)
    config = write_config(
        tmp_path, {"url": "drive"}, model={"factory": "factory.onnx", "providers": ["cuda"]}
    )
    assert "execution provider 'cuda' is not in this ONNX Runtime" in refused(config)
    (tmp_path / "factory.onnx").write_bytes(rectangles_model()[:1000])
    assert "factory.onnx: not an ONNX file, or one that is cut off" in refused(
        write_config(tmp_path, {"url": "drive"})
    )


def test_updates_need_a_root_that_is_one_or_leave_for_unsigned_models(tmp_path: Path) -> None:
    write_drive(tmp_path / "drive", 1)
    (tmp_path / "root.json").write_text("{}")
    line = refused(write_config(tmp_path, {"url": "drive"}, updates={"root": "root.json"}))
    assert "updates.root" in line and "no root metadata of TUF" in line
    line = refused(write_config(tmp_path, {"url": "drive"}, updates={"probation_s": 1.0}))
    assert "updates.unsigned = False" in line and "expected `root`, or true" in line


def test_sighup_takes_over_a_speed_limit_and_refuses_a_broken_file(tmp_path: Path) -> None:
    drive = {"url": "sim:7?seconds=0&rate=10&size=64x64", "pace": "lockstep"}
    config = write_config(tmp_path, {**drive, "speed_limit": 1e-6})
    with DaemonProcess(config) as daemon:
        broken = config.read_text().replace("speed_limit", "speed_limits")
        config.write_text(broken)
        daemon.process.send_signal(signal.SIGHUP)
        assert "did you mean 'speed_limit'" in daemon.event("config_refused")["message"]
        write_config(tmp_path, drive, log={"level": "debug"}, spool={"limit_bytes": 7})
        daemon.process.send_signal(signal.SIGHUP)
        reloaded = daemon.event("config_reloaded")
        assert reloaded["changed"] == ["cameras[0].speed_limit", "log.level"]
        assert any("only a restart takes over spool.limit_bytes" in line["message"] for line in daemon.log)
        eventually(lambda: daemon.cameras()["camera0"].captured_frames > 50, "frames at full speed")
        assert daemon.terminate() == 0


def test_sighup_reaches_the_parts_that_only_some_vehicles_have(tmp_path: Path) -> None:
    drive = {"url": "sim:7?seconds=0&rate=10&size=64x64", "pace": "lockstep", "speed_limit": 20.0}
    http = {"address": "127.0.0.1:0"}
    often = {"baseline_spacing_s": 1, "near_duplicate_bits": 0}
    config = write_config(tmp_path, drive, sampler={**often, "bytes_per_day": 1}, http=http)
    with DaemonProcess(config) as daemon:
        eventually(lambda: daemon.cameras()["camera0"].captured_frames > 100, "10 s of the drive")
        assert daemon.client.status().status.spool.samples == 0
        write_config(tmp_path, drive, sampler=often, http=http, disk={"bytes_per_day": 10**8})
        daemon.process.send_signal(signal.SIGHUP)
        assert daemon.event("config_reloaded")["changed"] == ["disk.bytes_per_day", "sampler.bytes_per_day"]
        assert daemon.client.status().status.disk.limit_bytes_per_day == 10**8
        eventually(lambda: daemon.client.status().status.spool.samples > 2, "samples are taken")
        assert daemon.terminate() == 0


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    write_drive(tmp_path / "drive", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = refused(write_config(tmp_path, {"url": "drive"}, address=address))
    assert line.startswith(f"cannot serve at {address}: another process listens there")


def test_one_daemon_at_a_time_has_a_state_folder(tmp_path: Path) -> None:
    write_drive(tmp_path / "drive", 1)
    config = write_config(tmp_path, {"url": "drive"})
    with DaemonProcess(config) as daemon:
        assert f"is in use by another daemon (process {daemon.process.pid})" in refused(config)
        daemon.process.kill()
        daemon.wait()
        with DaemonProcess(config) as after_a_kill:  # the lock went with the process
            assert after_a_kill.terminate() == 0


def test_ctrl_c_ends_it_too(tmp_path: Path) -> None:
    write_drive(tmp_path / "drive", 1)
    with DaemonProcess(write_config(tmp_path, {"url": "drive"})) as daemon:
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.wait() == 0
        assert daemon.errors == []


def check(config: Path) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "edge", "check", "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=False)


def test_check_tells_what_the_daemon_would_do(tmp_path: Path) -> None:
    write_drive(tmp_path / "drive", 4)
    config = write_config(tmp_path, {"url": "drive", "pace": 2, "rate_limit_hz": 5})
    told = check(config)
    assert told.returncode == 0, told.stderr
    assert "10 frames/s, 4 frames, 2 times its speed, at most 5 frames/s" in told.stdout
    assert "1 golden frames verified" in told.stdout
    assert not (tmp_path / "state").exists()


def test_check_refuses_a_model_that_fails_its_golden_frames(tmp_path: Path) -> None:
    write_drive(tmp_path / "drive", 1)
    (tmp_path / "factory.onnx").write_bytes(rectangles_model(golden=()))
    told = check(write_config(tmp_path, {"url": "drive"}))
    assert told.returncode == 1
    assert "no golden frames" in told.stdout and told.stderr == ""


def test_check_reports_every_finding_and_goes_on_to_the_last(tmp_path: Path) -> None:
    config = write_config(tmp_path, {"url": "none.mp4"}, {"url": "rtsq://me:secret@10.0.0.9/1"})
    (tmp_path / "factory.onnx").write_bytes(b"no model")
    command = [*COMMAND, "edge", "check", "--json", "--config", str(config)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=False)
    assert told.returncode == 1 and "secret" not in told.stdout
    document = json.loads(told.stdout)
    failed = {one["subject"] for one in document["findings"] if one["level"] == "failure"}
    assert document["failed"] and {"camera camera0", "camera camera1", "model"} <= failed
    assert {"disk space", "clock", "cloud", "serve", "service"} <= {
        one["subject"] for one in document["findings"]
    }
    assert all(one["advice"] for one in document["findings"] if one["level"] != "ok")


def test_health_is_the_exit_code(tmp_path: Path) -> None:
    write_drive(tmp_path / "drive", 1)
    address = f"unix:{tmp_path}/s"
    config = write_config(tmp_path, {"url": "drive"}, address=address)
    command = [*COMMAND, "edge", "health", "--config", str(config)]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=False)
    assert asked.returncode == 1 and f"no daemon answers at {address}" in asked.stderr
    with DaemonProcess(config) as daemon:
        daemon.until_serving()  # its first frame comes after its start
        asked = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=False)
        assert (asked.returncode, asked.stdout, asked.stderr) == (0, f"serving at {address}\n", "")
        assert daemon.terminate() == 0


def test_the_counts_are_those_of_the_contract() -> None:
    status = common_pb2.CameraStatus(captured_frames=1)
    status.outcomes.add(outcome=common_pb2.FRAME_OUTCOME_STALE, frames=1)
    assert counts_of(status) == {"captured": 1, "stale": 1}
