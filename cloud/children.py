"""Servers of other projects as children of a command: started and stopped together, none left behind."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from edge.errors import TrafficVisionError

GRACE_S = 10.0
LOOK_EVERY_S = 0.5

_LOG = logging.getLogger(__name__)


class ChildError(TrafficVisionError):
    """A server cannot be started, or ended by itself."""


def run_children(
    commands: Mapping[str, Sequence[str]],
    environment: Mapping[str, str],
    folder: Path,
    look: Callable[[], None] = lambda: None,
    look_every_s: float = LOOK_EVERY_S,
    grace_s: float = GRACE_S,
) -> None:
    """Run these until SIGTERM or SIGINT, or until one of them ends. What they print goes to standard error.

    Args:
        commands: each under a name, for errors.
        environment: all of theirs.
        folder: that they work in.
        look: is called now and then meanwhile.
        look_every_s: so often.
        grace_s: after SIGTERM each may still end by itself for so long.

    Raises:
        ChildError: one cannot be started, or ended by itself; the others were stopped.
    """
    with _stopped_by_signal() as stop:
        children: dict[str, subprocess.Popen[bytes]] = {}
        try:
            for name, command in commands.items():
                children[name] = _start(name, command, environment, folder)
            next_look = time.monotonic()
            while not stop.is_set():
                for name, child in children.items():
                    code = child.poll()
                    if code is not None:
                        raise ChildError(f"{name} ended by itself, with {code}: see what it printed above")
                if time.monotonic() >= next_look:
                    look()
                    next_look = time.monotonic() + look_every_s
                stop.wait(LOOK_EVERY_S)
        finally:
            _stop(children, grace_s)


def run_to_end(name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
    """Run what ends by itself; what it prints goes to standard error.

    Raises:
        ChildError: it cannot be started, or failed.
    """
    child = _start(name, command, environment, folder)
    try:
        code = child.wait()
    finally:
        _stop({name: child})
    if code:
        raise ChildError(f"{name} failed, with {code}: see what it printed above")


@contextmanager
def _stopped_by_signal() -> Iterator[threading.Event]:
    stop = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(
    name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path
) -> subprocess.Popen[bytes]:
    try:
        # A group of its own: Ctrl-C is for us, and what it started goes with it.
        return subprocess.Popen(command, env=dict(environment), cwd=folder, stdout=2, start_new_session=True)
    except OSError as error:
        raise ChildError(f"{name}: {command[0]}: {error.strerror}") from None


def _stop(children: Mapping[str, subprocess.Popen[bytes]], grace_s: float = GRACE_S) -> None:
    # What they started may have made itself independent, as Airflow's tasks do.
    started = [
        process
        for child in children.values()
        if child.poll() is None  # the number of one that was waited for may be another's
        for process in psutil.Process(child.pid).children(recursive=True)
    ]
    for child in children.values():
        _signal_group(child, signal.SIGTERM)
    end = time.monotonic() + grace_s
    for name, child in children.items():
        try:
            child.wait(max(end - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            _LOG.warning("%s does not end within %.0f s, and is killed", name, grace_s)
        _signal_group(child, signal.SIGKILL)  # what it left behind
        child.wait()
    for process in started:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # it knows another one that got its number
            process.kill()


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)
