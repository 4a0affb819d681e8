"""The daemon as a process of its own, on a configuration that the test writes."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from edge.serve.client import PerceptionClient
from protos.traffic_vision.v1 import common_pb2
from tests.models_factory import rectangles_model
from tests.replays import COMMAND

LONG_S = 60.0  # a wait that is never waited out
POLL_S = 0.05


def write_config(folder: Path, *cameras: dict[str, Any], address: str = "127.0.0.1:0", **more: Any) -> Path:
    """An edge.toml with these cameras, and a model file unless there is one.

    Args:
        folder: where it is written.
        cameras: keys of each [[cameras]] section.
        address: of the perception service.
        more: further sections, by name, as dicts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "factory.onnx"
    if not model.exists():
        model.write_bytes(rectangles_model(version="1"))
    lines = ['vehicle = "test-1"', 'state_folder = "state"']
    for number, camera in enumerate(cameras):
        lines += ["[[cameras]]", *_keys({"name": f"camera{number}", **camera})]
    sections = {"model": {"factory": "factory.onnx", "threads": 1}, "serve": {"address": address}, **more}
    for name, section in sections.items():
        lines += [f"[{name}]", *_keys(section)]
    path = folder / "edge.toml"
    path.write_text("\n".join(lines))
    return path


def _keys(section: dict[str, Any]) -> list[str]:
    return [f"{key} = {json.dumps(value)}" for key, value in section.items()]


class DaemonProcess:
    """`traffic-vision edge run`, its log as it comes, and a client for it."""

    def __init__(
        self, config: Path, *, environment: Mapping[str, str] | None = None, under: Sequence[str] = ()
    ) -> None:
        """Start it.

        Args:
            config: its edge.toml.
            environment: in place of this process's.
            under: a command that runs it.
        """
        self.log: list[dict[str, Any]] = []
        self.errors: list[str] = []  # what is no log line
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [*under, *COMMAND, "edge", "run", "--config", str(config)],
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> DaemonProcess:
        self.address = self.event("started")["address"]
        self.client = PerceptionClient(self.address)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.wait()

    def event(self, name: str, count: int = 1) -> dict[str, Any]:
        """Wait for the so-manieth log line of that event."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.log if line.get("event") == name]

        with self._news:
            came = self._news.wait_for(
                lambda: len(found()) >= count or not self._reader.is_alive(), timeout=LONG_S
            )
            assert came and len(found()) >= count, f"no {name!r} in {self.log} {self.errors}"
            return found()[count - 1]

    def cameras(self) -> dict[str, common_pb2.CameraStatus]:
        return {camera.camera: camera for camera in self.client.status().status.cameras}

    def until_serving(self) -> None:
        """Wait until its health service says that it serves: it starts before its first frame."""
        with grpc.insecure_channel(self.address) as channel:
            watched = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(), timeout=LONG_S
            )
            for answer in watched:
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
        raise AssertionError(f"it never serves: {self.log} {self.errors}")

    def until_ended(self) -> dict[str, dict[str, int]]:
        """Wait until every recording has ended and every frame has left; the counts of each camera."""
        for _ in range(round(LONG_S / POLL_S)):
            cameras = self.cameras().values()
            if all(
                camera.state == common_pb2.CAMERA_STATE_ENDED
                and camera.captured_frames == sum(count.frames for count in camera.outcomes)
                for camera in cameras
            ):
                return {camera.camera: counts_of(camera) for camera in cameras}
            threading.Event().wait(POLL_S)
        raise AssertionError(f"the recordings never ended: {self.cameras()}")

    def terminate(self) -> int:
        """SIGTERM; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(LONG_S)
        self._reader.join(LONG_S)
        return code

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                with self._news:
                    try:
                        self.log.append(json.loads(line))
                    except ValueError:
                        self.errors.append(line.rstrip())
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()


def counts_of(camera: common_pb2.CameraStatus) -> dict[str, int]:
    """`captured` and each way out that a frame took, by the names in logs."""
    counts = {
        common_pb2.FrameOutcome.Name(count.outcome).removeprefix("FRAME_OUTCOME_").lower(): count.frames
        for count in camera.outcomes
        if count.frames
    }
    return {"captured": camera.captured_frames, **counts}


def refused(config: Path) -> str:
    """Run a daemon that must not start; gives its one line."""
    daemon = DaemonProcess(config)
    code = daemon.wait()
    assert code == 1, (code, daemon.log, daemon.errors)
    (line,) = daemon.errors
    assert line.startswith("traffic-vision: error: ")
    return line.removeprefix("traffic-vision: error: ")
