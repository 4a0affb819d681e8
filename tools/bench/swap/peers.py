"""The peers of `bench swap`: each a child process that runs blocks of paced frames when it is told to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

from tools.bench.edge.daemon import STOP_TIMEOUT_S
from tools.bench.edge.subject import Sized
from tools.bench.rounds import BenchError
from tools.bench.swap.blocks import Block, Pair
from tools.bench.swap.v2_protocol import V2Client

IN_LOOP = "ONNX Runtime, loaded by the loop"
IN_THREAD = "ONNX Runtime, loaded by a thread"
MLSERVER = "MLServer"
MLSERVER_RELEASE = "1.7.1"
_START_S = 120.0
_INSTALL_S = 1200.0
_LOOK_S = 0.25
# Whose 0.22 takes away a call that this MLServer makes in its workers.
_PINNED = "uvloop<0.22"


@dataclass(frozen=True, slots=True)
class Stage:
    """What all peers run alike.

    Attributes:
        sized: the model.
        models: two model files of the same weights, that take turns.
        video: that the cameras play.
        rate_hz: of the cameras.
        threads: of one inference.
        folder: for what they write.
    """

    sized: Sized
    models: tuple[Path, Path]
    video: Path
    rate_hz: float
    threads: int
    folder: Path


class PeerSide:
    """One peer in its child process, which does not outlive the bench."""

    def __init__(self, kind: str, stage: Stage, more: Mapping[str, Any] | None = None) -> None:
        """Start it and wait until it is ready.

        Args:
            kind: in_loop, in_thread or mlserver.
            stage: what it runs.
            more: what the kind needs beside that.

        Raises:
            BenchError: it does not start.
        """
        about = stage.sized.model.metadata
        order = {
            "kind": kind,
            "models": [str(path) for path in stage.models],
            "input_hw": list(stage.sized.input_hw),
            "layout": about.layout,
            "score_threshold": about.score_threshold,
            "iou_threshold": about.iou_threshold,
            "threads": stage.threads,
            "video": str(stage.video),
            "rate_hz": stage.rate_hz,
            "births": str(stage.folder / f"births-{kind}"),
            **(more or {}),
        }
        self.took_ms: list[float] = []
        self._kind = kind
        self._seconds = 0.0
        self._errors = stage.folder / f"{kind}.log"
        tied = [sys.executable, "-m", "tools.demo.lifeline", str(os.getpid()), sys.executable]
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [*tied, "-m", "tools.bench.swap.peer_child", json.dumps(order)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def pair(self, swaps: int, every_s: float, *, calm_first: bool) -> Pair:
        """Two blocks, as long as each other; the first pair of all begins with the changes.

        Raises:
            BenchError: a change did not come about, or the peer ended.
        """
        if calm_first and self._seconds:
            before = self._block(0, every_s)
            return Pair(self._block(swaps, every_s), before)
        changed = self._block(swaps, every_s)
        return Pair(changed, self._block(0, every_s))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_S)
        self._process.stdout.close()

    def __enter__(self) -> PeerSide:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        self.close()

    def _block(self, swaps: int, every_s: float) -> Block:
        assert self._process.stdin is not None
        asked = {"swaps": swaps, "every_s": every_s, "seconds": self._seconds}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if answer["trouble"] or len(answer["swapped_ns"]) != swaps:
            raise BenchError(
                f"{self._kind}: {len(answer['swapped_ns'])} of {swaps} changes of the model came about:"
                f" {answer['trouble']}"
            )
        if swaps:
            self._seconds = answer["seconds"]
            self.took_ms += answer["took_ms"]
        answered = dict(answer["answered"])
        return Block(answer["born_ns"], answered, answer["swapped_ns"], answer["failed"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            answer = json.loads(line)
        except ValueError:
            said = self._errors.read_text(errors="replace").strip()[-400:]
            raise BenchError(f"the peer {self._kind} ended: {said or line}") from None
        assert isinstance(answer, dict)
        return answer


def open_mlserver(stage: Stage, environment: Path, opened: ExitStack) -> PeerSide:
    """Start MLServer on the first model, and its client.

    Args:
        stage: what it runs.
        environment: a virtual environment with MLServer in it; made where there is none.
        opened: ends both.

    Raises:
        BenchError: it cannot be installed, or does not start.
    """
    command = _installed(environment)
    folder = stage.folder / "mlserver"
    served = _write_repository(folder, stage)
    rest, calls, metrics = _free_ports(3)
    settings = {
        "http_port": rest,
        "grpc_port": calls,
        "metrics_port": metrics,
        "host": "127.0.0.1",
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    log = folder / "mlserver.log"
    tied = [sys.executable, "-m", "tools.demo.lifeline", str(os.getpid())]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    here = {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*tied, "env", "-u", "PYTHONPATH", str(command), "start", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            env={**clean, **here},
            cwd=folder,
        )
    opened.callback(_end, process)
    address = f"127.0.0.1:{calls}"
    client = V2Client(address, "detector")
    try:
        _wait_ready(client, process, log)
    finally:
        client.close()
    return opened.enter_context(PeerSide("mlserver", stage, {"address": address, "served": str(served)}))


def _wait_ready(client: V2Client, process: subprocess.Popen[bytes], log: Path) -> None:
    pause, end = threading.Event(), time.monotonic() + _START_S
    while not client.is_ready(_LOOK_S):
        if process.poll() is not None or time.monotonic() > end:
            raise BenchError(f"MLServer did not start: {log.read_text(errors='replace').strip()[-400:]}")
        pause.wait(_LOOK_S)


def _installed(environment: Path) -> Path:
    """Its command; installed from the package index first, where it is not there yet."""
    command = environment.absolute() / "bin" / "mlserver"
    if command.exists():
        return command
    wanted = (f"mlserver=={MLSERVER_RELEASE}", f"onnxruntime=={version('onnxruntime')}", _PINNED)
    venv.create(environment, with_pip=True)
    made = subprocess.run(
        [command.with_name("python"), "-m", "pip", "install", "--quiet", *wanted],
        capture_output=True,
        text=True,
        timeout=_INSTALL_S,
        check=False,
    )
    if made.returncode:
        raise BenchError(f"{' '.join(wanted)} cannot be installed: {made.stderr.strip()[-400:]}")
    return command


def _write_repository(folder: Path, stage: Stage) -> Path:
    """Its model repository: one model, whose file is exchanged; gives that file."""
    place = folder / "detector"
    place.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("mlserver_runtime.py"), place / "onnx_runtime.py")
    served = place / "model.onnx"
    shutil.copy(stage.models[0], served)
    settings = {
        "name": "detector",
        "implementation": "onnx_runtime.OnnxDetector",
        "parameters": {"uri": "./model.onnx", "extra": {"threads": stage.threads}},
    }
    (place / "model-settings.json").write_text(json.dumps(settings))
    return served


def _free_ports(count: int) -> list[int]:
    """So many ports that are free now, each another: MLServer takes none by itself."""
    with ExitStack() as opened:
        held = [opened.enter_context(socket.socket()) for _ in range(count)]
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in held]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its workers too: the lifeline made them one group
        process.wait(STOP_TIMEOUT_S)
