"""A daemon for a benchmark: a child process on a configuration of its own, that can be held between turns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tools.bench.rounds import BenchError

COMMAND = (sys.executable, "-c", "from tools.cli import main; main()")
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0  # from SIGTERM to SIGKILL; the daemon needs less than 3
PLUGINS = {"benchcam": "tools.bench.edge.cameras:open_camera"}


def write_config(folder: Path, camera: Mapping[str, Any], model: Path, threads: int, **more: Any) -> Path:
    """An edge.toml with one camera, the drift monitor, and the perception service on a free port.

    Args:
        folder: where it and the daemon's state go.
        camera: keys of its section beside the name.
        model: the model file.
        threads: of one inference.
        more: further sections.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sections: dict[str, Mapping[str, Any]] = {
        "model": {"factory": str(model), "threads": threads},
        "drift": {},
        "serve": {"address": "127.0.0.1:0"},
        **more,
    }
    lines = [
        'vehicle = "bench"',
        'state_folder = "state"',
        "[[cameras]]",
        *_keys({"name": "front", **camera}),
    ]
    for name, section in sections.items():
        lines += [f"[{name}]", *_keys(section)]
    path = folder / "edge.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _keys(section: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {json.dumps(value)}" for key, value in section.items()]


def environment(folder: Path) -> dict[str, str]:
    """This process's, with the bench's cameras as a source plug-in that no vehicle has installed.

    A plug-in is found by the metadata of a distribution on the path; this writes one of nothing else.
    """
    plugins = folder / "plugins"
    metadata = plugins / "traffic_vision_bench-0.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: traffic-vision-bench\nVersion: 0\n")
    points = "\n".join(f"{scheme} = {target}" for scheme, target in PLUGINS.items())
    (metadata / "entry_points.txt").write_text(f"[traffic_vision.sources]\n{points}\n")
    path = os.pathsep.join(filter(None, [str(plugins), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path}


class BenchDaemon:
    """`traffic-vision edge run` as a child. It does not outlive the bench, however that ends."""

    def __init__(self, config: Path) -> None:
        """Start it, from the main thread; `started` waits until it serves.

        Args:
            config: as `write_config` wrote it.
        """
        self.address = ""  # once it is started
        self.events: list[dict[str, Any]] = []
        self._messages: list[str] = []
        self._last_words = ""
        self._news = threading.Condition()
        # A daemon that is held by SIGSTOP could not end by itself: the kernel ends it with its parent.
        tied = [sys.executable, "-m", "tools.demo.lifeline", str(os.getpid()), *COMMAND]
        self._process = subprocess.Popen(
            [*tied, "edge", "run", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment(config.parent),
        )
        self._reader = threading.Thread(target=self._read, name="bench-daemon-log", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def started(self) -> dict[str, Any]:
        """Wait until it serves; gives that line of its log.

        Raises:
            BenchError: it ended, or took too long.
        """
        event = self.event("started", START_TIMEOUT_S)
        self.address = event["address"]
        return event

    def event(self, name: str, timeout_s: float, after: int = 0) -> dict[str, Any]:
        """Wait for the first line of its log with that event, among those that follow the first `after`.

        Raises:
            BenchError: it ended without, or took too long.
        """

        def found() -> dict[str, Any] | None:
            return next((event for event in self.events[after:] if event.get("event") == name), None)

        with self._news:
            self._news.wait_for(lambda: found() or not self._reader.is_alive(), timeout_s)
            event = found()
        if event is None:
            raise BenchError(f"the daemon gave no {name!r} within {timeout_s:g} s: {self.last_words()}")
        return event

    def said(self, words: str, timeout_s: float, after: int = 0) -> int:
        """Wait for a message of its log that begins with these words, among those that follow the first
        `after`; gives how many there were by then.

        Raises:
            BenchError: it ended without, or took too long.
        """

        def found() -> int | None:
            later = enumerate(self._messages[after:], after + 1)
            return next((count for count, message in later if message.startswith(words)), None)

        with self._news:
            self._news.wait_for(lambda: found() or not self._reader.is_alive(), timeout_s)
            count = found()
        if count is None:
            raise BenchError(f"the daemon said no {words!r} within {timeout_s:g} s: {self.last_words()}")
        return count

    def last_words(self) -> str:
        """What it printed last, for a message."""
        return self._last_words[-400:] or "it said nothing"

    def hold(self) -> None:
        """Stop it where it is, while another contender has its turn."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL if it must be."""
        if self.runs:
            self.go_on()
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)
        self._reader.join(STOP_TIMEOUT_S)

    def __enter__(self) -> BenchDaemon:
        """Itself, once it serves."""
        try:
            self.started()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Stop it."""
        self.stop()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                now_ns = time.monotonic_ns()
                try:
                    event = json.loads(line)
                except ValueError:
                    event = None
                with self._news:
                    if isinstance(event, dict):
                        if event.get("event"):
                            self.events.append({**event, "read_ns": now_ns})
                        self._last_words = str(event.get("message", ""))
                        self._messages.append(self._last_words)
                    else:
                        self._last_words = line.strip()
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()
