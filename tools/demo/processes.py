"""The demonstration's child processes: each in a group of its own, its output in a file, none left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from tools.demo.errors import DemoError

GRACE_S = 4.0  # from SIGTERM to SIGKILL; the daemon and the server need less than 3
_JOIN_S = 2.0
_TAIL_LINES = 6
_TRAFFIC_VISION = (sys.executable, "-c", "from tools.cli import main; main()")

Hear = Callable[[str], None]


def _nothing(line: str = "") -> None:
    pass


class Child:
    """One child process. Started from the main thread, whose end is its own (see `tools.demo.lifeline`).

    Its standard error and output go, line by line, to a log file and to whoever listens.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        hear_output: Hear = _nothing,
        hear_errors: Hear = _nothing,
        ended: Callable[[], None] = _nothing,
    ) -> None:
        """Start it.

        Args:
            name: for messages.
            command: program and arguments.
            log: what it prints is appended here.
            hear_output: told each line of standard output, from a thread.
            hear_errors: told each line of standard error, from another thread.
            ended: told, from a thread, that it prints no more.

        Raises:
            DemoError: it cannot be started.
        """
        assert threading.current_thread() is threading.main_thread()
        self.name = name
        self.log = log
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        log.parent.mkdir(parents=True, exist_ok=True)
        tied = [sys.executable, "-m", "tools.demo.lifeline", str(os.getpid()), *command]
        try:
            self._process = subprocess.Popen(
                tied,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise DemoError(f"{name} cannot be started: {error.strerror}") from None
        assert self._process.stdout is not None and self._process.stderr is not None
        self._readers = [
            threading.Thread(
                target=self._read, args=(stream, hear, ended), name=f"demo-{name}-{kind}", daemon=True
            )
            for kind, stream, hear in (
                ("output", self._process.stdout, hear_output),
                ("errors", self._process.stderr, hear_errors),
            )
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Its process id, which is its group's too."""
        return self._process.pid

    def returncode(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def tell(self, number: signal.Signals) -> None:
        """Send it, alone, a signal; one that has ended gets none."""
        self._process.send_signal(number)

    def why(self) -> str:
        """How it ended and what it said last, for a message."""
        code = self.returncode()
        if code is None:
            how = "still runs"
        elif code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        else:
            how = f"ended with exit code {code}"
        return f"{how}; its last lines ({self.log}):\n" + "\n".join(f"  {line}" for line in self._tail)

    def wait(self, timeout_s: float) -> int | None:
        """Wait for its end; None where it goes on."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def interrupt(self) -> None:
        """Ask its whole group to end."""
        self._signal_group(signal.SIGTERM)

    def finish(self, until: float) -> None:
        """Wait until a moment (monotonic) for its end, then end what is left of its group.

        The group outlives its leader where the leader left children behind; its number is not given to
        another while one of them lives.
        """
        self.wait(max(0.0, until - time.monotonic()))
        self._signal_group(signal.SIGKILL)
        self.wait(_JOIN_S)
        for reader in self._readers:
            reader.join(_JOIN_S)

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:  # it has no group yet, or is gone with all of it
            self._process.send_signal(number)

    def _read(self, stream: IO[str], hear: Hear, ended: Callable[[], None]) -> None:
        with stream, self.log.open("a", buffering=1) as log:
            for line in stream:
                log.write(line)
                line = line.rstrip("\n")
                if line:
                    self._tail.append(line[:500])
                    hear(line)
        ended()


class Children:
    """All of them. As a context manager it leaves none."""

    def __init__(self, logs: Path, ended: Callable[[], None] = _nothing, *, grace_s: float = GRACE_S) -> None:
        """With none yet.

        Args:
            logs: folder for a log file of each.
            ended: told, from a thread, whenever one prints no more.
            grace_s: from SIGTERM to SIGKILL.
        """
        self._logs = logs
        self._grace_s = grace_s
        self._ended = ended
        self._children: list[Child] = []

    def start(
        self, name: str, *command: str, hear_output: Hear = _nothing, hear_errors: Hear = _nothing
    ) -> Child:
        """Start one; its log is NAME.log."""
        child = Child(
            name,
            command,
            self._logs / f"{name}.log",
            hear_output=hear_output,
            hear_errors=hear_errors,
            ended=self._ended,
        )
        self._children.append(child)
        return child

    def traffic_vision(
        self,
        name: str,
        *arguments: str | Path,
        hear_output: Hear = _nothing,
        hear_errors: Hear = _nothing,
    ) -> Child:
        """Start `traffic-vision ARGUMENTS`."""
        words = [str(argument) for argument in arguments]
        return self.start(name, *_TRAFFIC_VISION, *words, hear_output=hear_output, hear_errors=hear_errors)

    def stop(self, *names: str) -> None:
        """End these, or all, at once: SIGTERM, SIGKILL for what is left after the grace."""
        chosen = [child for child in self._children if not names or child.name in names]
        for child in chosen:
            child.interrupt()
        until = time.monotonic() + self._grace_s
        for child in chosen:
            child.finish(until)
        self._children = [child for child in self._children if child not in chosen]

    def __enter__(self) -> Children:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """End all."""
        self.stop()
