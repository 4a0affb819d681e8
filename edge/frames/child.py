"""A child process that captures and writes what it captured into a pipe.

What cannot be interrupted in a thread (a name server that never answers, a driver that hangs, a decoder that
crashes) can be ended in a process; and nothing of it is left behind in the daemon.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge.frames import lifeline
from edge.frames.sources import SourceError

PIPE = "{pipe}"

# As much as an unprivileged process may have (pipe(7)): fewer turns of the scheduler to a picture.
_PIPE_BYTES = 1 << 20
_TAIL_BYTES = 4096  # of what it says on its standard error
_LAST_WORDS_S = 0.2  # for what it still says there once its pipe ended
_GRACE_S = 0.25  # to give cameras back by itself, before it is killed
_REAP_S = 2.0  # a killed process goes within that, unless a driver holds it


class SilenceError(SourceError):
    """Nothing came in time."""


class InterruptedReadError(SourceError):
    """Another thread asked for the end."""


class Child:
    """One run of the process at a time. One thread starts, reads and stops it; any may interrupt."""

    def __init__(self, name: str) -> None:
        """Nothing runs yet; `name` is for errors."""
        self._name = name
        self._lock = threading.Lock()
        self._is_interrupted = False
        self._wake: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._data = -1
        self._tail = b""

    def start(
        self, command: Sequence[str], *, given: bytes = b"", environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it.

        Args:
            command: program and arguments, with PIPE where the number of the pipe's descriptor belongs.
            given: what it finds on its standard input; at most what a pipe holds, 4 kB.
            environment: its variables; this process's unless given.

        Raises:
            InterruptedReadError: it was, before.
            SourceError: the program cannot be started.
        """
        with self._lock:
            if self._is_interrupted:
                raise InterruptedReadError("stopped")
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._data, theirs = os.pipe()
        try:
            with contextlib.suppress(OSError):  # the user's share of pipe memory may be used up
                fcntl.fcntl(self._data, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            os.set_blocking(self._data, False)
            parts = [part.replace(PIPE, str(theirs)) for part in command]
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(lifeline.__file__)), str(os.getpid()), *parts],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs,),
                env=environment,
                start_new_session=True,  # Ctrl-C in a terminal is for the daemon, which ends it in order
            )
        except OSError as error:
            raise SourceError(f"{self._name} cannot be started: {error.strerror}") from error
        finally:
            os.close(theirs)
        assert self._process.stdin is not None and self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        with contextlib.suppress(OSError), self._process.stdin as stream:
            stream.write(given)

    def read_into(self, buffer: memoryview, deadline: float) -> None:
        """Fill a buffer with what comes next.

        Args:
            buffer: of bytes, writable.
            deadline: monotonic seconds.

        Raises:
            SilenceError: it was not full by then.
            InterruptedReadError: another thread asked for the end.
            SourceError: the process ended; the message gives the last line that it said.
        """
        while buffer:
            if not self._wait(deadline):
                raise SilenceError(f"{self._name} gave nothing")
            try:
                count = os.readv(self._data, [buffer])
            except BlockingIOError:
                continue
            if not count:
                raise SourceError(self._last_words())
            buffer = buffer[count:]

    def interrupt(self) -> None:
        """Let the present and any later read end at once; from any thread."""
        with self._lock:
            self._is_interrupted = True
            if self._wake is not None:
                os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """End the process, reap it, and give back every descriptor. May be called twice."""
        process, self._process = self._process, None
        if self._data >= 0:
            os.close(self._data)
            self._data = -1
        if process is not None:
            _end(process)
        with self._lock:
            if self._wake is not None:
                os.close(self._wake)
                self._wake = None

    def _wait(self, deadline: float) -> bool:
        """Wait for data; what comes on standard error meanwhile is taken in."""
        assert self._process is not None and self._process.stderr is not None and self._wake is not None
        errors = self._process.stderr.fileno()
        poll = select.poll()
        for descriptor in (self._data, errors, self._wake):
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = dict(poll.poll(max(0.0, (deadline - time.monotonic()) * 1000)))
            if self._wake in ready:
                raise InterruptedReadError("stopped")
            if errors in ready and not self._hear(errors):
                poll.unregister(errors)
            if self._data in ready:
                return True
            if not ready:
                return False

    def _hear(self, errors: int) -> bool:
        try:
            said = os.read(errors, _TAIL_BYTES)
        except BlockingIOError:
            return True
        self._tail = (self._tail + said)[-_TAIL_BYTES:]
        return bool(said)

    def _last_words(self) -> str:
        assert self._process is not None and self._process.stderr is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_WORDS_S)
        while select.select([self._process.stderr], [], [], 0)[0] and self._hear(
            self._process.stderr.fileno()
        ):
            pass
        lines = [line.strip() for line in self._tail.decode(errors="replace").splitlines()]
        told = [line for line in lines if line]
        code = self._process.poll()
        if code is None:
            ended = "closed its pipe"
        else:
            ended = f"died by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{self._name} {ended}" + (f": {reason(told)[:300]}" if told else "")


def reason(lines: Sequence[str]) -> str:
    """The line that says most: the last one that names an error (GStreamer's), or the last one."""
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or list(lines))[-1]


def _end(process: subprocess.Popen[bytes]) -> None:
    # With SIGINT, cameras and hardware decoders are given back in order, which some drivers need.
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_REAP_S)
    if process.stderr is not None:
        process.stderr.close()
