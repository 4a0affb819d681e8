"""Asking a child process about a model: bytes in, one JSON answer out, within limits of memory and time.

A model that hangs, crashes a library or takes all memory takes this child along and nothing else; and a
child at low priority leaves the frame loop both its core and the interpreter's lock, as a thread would not.
The child gets the very bytes that are asked about, by its standard input.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from typing import Any

from edge.errors import TrafficVisionError
from edge.machine import children
from edge.machine.priority import put_last, take_up
from edge.perception.child_limits import ChildLimits, resident_bytes_of

_POLL_S = 0.05
# Where the frames leave no core idle, a check would not come to its end by what is left over alone.
LAST_S = 5.0


class ModelRefusedError(TrafficVisionError):
    """A model that must not come near the frames; the message says why.

    Attributes:
        is_final: the model itself failed, and would fail again. False: the check came to no end, or it was
            the machine that failed.
    """

    def __init__(self, message: str, *, is_final: bool = True) -> None:
        super().__init__(message)
        self.is_final = is_final


def ask_child(
    module: str,
    about: dict[str, Any],
    data: bytes,
    limits: ChildLimits,
    *,
    timeout_s: float,
    stopping: threading.Event,
    what: str = "its check",
) -> dict[str, Any]:
    """Run a module of this program over a model's bytes, and return the JSON object that it ends with.

    Args:
        module: its `main` calls `question` first, and prints its answer last.
        about: JSON values for it.
        data: the model file.
        limits: that the child holds itself to, and this process holds it to.
        timeout_s: after which the child is killed.
        stopping: once set, the child is killed.
        what: it is that the child does, in errors.

    Raises:
        ModelRefusedError: it came to no answer.
    """
    header = json.dumps({**about, "limits": asdict(limits)}).encode()
    command = [sys.executable, "-m", module]
    # A file in memory, not a pipe: nothing has to be written while the child is waited for.
    with os.fdopen(os.memfd_create("model"), "w+b") as given:
        given.write(header + b"\n")
        given.write(data)
        given.seek(0)
        child = subprocess.Popen(
            command,
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=children.environment(),
        )
        is_last = put_last(child.pid)
    with child:
        out, err = _communicate(child, timeout_s, stopping, limits, what, is_last=is_last)
    answer = _last_json(out)
    if child.returncode != 0 or answer is None:
        said = err.decode(errors="replace").strip().splitlines()
        reason = f"{what} died ({_ended(child.returncode)})" + (f": {said[-1][:300]}" if said else "")
        # SIGKILL comes from outside: the kernel out of memory, or somebody by hand.
        raise ModelRefusedError(reason, is_final=child.returncode != -signal.SIGKILL)
    return answer


def question() -> tuple[dict[str, Any], ChildLimits]:
    """In the child: what was asked, and the limits; the model's bytes are what is left of standard input."""
    about = json.loads(sys.stdin.buffer.readline())
    return about, ChildLimits(**about.pop("limits"))


def took_too_much(limits: ChildLimits, what: str = "its check") -> str:
    """Say that the limit of memory was reached."""
    whose = "that is what this machine has left" if limits.is_machines else f"the limit of {what}"
    return f"it takes more than {limits.memory_bytes / 1e6:.0f} MB of memory, {whose}"


def _communicate(
    child: subprocess.Popen[bytes],
    timeout_s: float,
    stopping: threading.Event,
    limits: ChildLimits,
    what: str,
    *,
    is_last: bool,
) -> tuple[bytes, bytes]:
    began = time.monotonic()
    deadline = began + timeout_s
    try:
        while True:
            try:
                return child.communicate(timeout=_POLL_S)
            except subprocess.TimeoutExpired:  # what it read so far, it keeps
                pass
            if stopping.is_set():
                raise ModelRefusedError(f"{what} was broken off: the daemon stops", is_final=False)
            if resident_bytes_of(child.pid) > limits.memory_bytes:
                raise ModelRefusedError(took_too_much(limits, what), is_final=not limits.is_machines)
            if is_last and time.monotonic() > began + LAST_S:
                take_up(child.pid)
                is_last = False
            if time.monotonic() > deadline:
                raise ModelRefusedError(f"{what} took longer than {timeout_s:g} s", is_final=False)
    finally:
        if child.poll() is None:
            child.kill()


def _last_json(out: bytes) -> dict[str, Any] | None:
    # Libraries may print, so the answer is the last line.
    lines = out.decode(errors="replace").strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _ended(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
