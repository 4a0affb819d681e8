"""Servers of other projects as children of a command: started and stopped together, none left behind."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from edge.errors import TrafficVisionError

# After SIGTERM a child may still end by itself for so long.
GRACE_S = 10.0
LOOK_EVERY_S = 0.5

# Of /proc/PID/stat, counted from behind the name (proc(5)).
_PARENT_FIELD, _START_FIELD = 1, 19

_LOG = logging.getLogger(__name__)


class ChildError(TrafficVisionError):
    """A server cannot be started, or ended by itself."""


def run_children(
    commands: Mapping[str, Sequence[str]],
    environment: Mapping[str, str],
    folder: Path,
    look: Callable[[], None] = lambda: None,
    look_every_s: float = LOOK_EVERY_S,
) -> None:
    """Run these until SIGTERM or SIGINT, or until one of them ends. What they print goes to standard error.

    Args:
        commands: each under a name, for errors.
        environment: all of theirs.
        folder: that they work in.
        look: is called now and then meanwhile.
        look_every_s: so often.

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
            _stop(children)


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


def tree_of(pid: int) -> dict[int, str]:
    """Give a process and its descendants, in other sessions too: when each began, by its id."""
    started, children = {}, defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()  # the name before it may hold anything
        except OSError:
            continue  # it has ended meanwhile
        number = int(path.parent.name)
        started[number] = fields[_START_FIELD]
        children[int(fields[_PARENT_FIELD])].append(number)
    found, waiting = {}, [pid]
    while waiting:
        number = waiting.pop()
        if number in started:
            found[number] = started[number]
        waiting += children[number]
    return found


def _stop(children: Mapping[str, subprocess.Popen[bytes]]) -> None:
    # What they started may have made itself independent, as Airflow's tasks do.
    trees = [tree_of(child.pid) for child in children.values() if child.poll() is None]
    for child in children.values():
        _signal_group(child, signal.SIGTERM)
    end = time.monotonic() + GRACE_S
    for name, child in children.items():
        try:
            child.wait(max(end - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            _LOG.warning("%s does not end within %.0f s, and is killed", name, GRACE_S)
        _signal_group(child, signal.SIGKILL)  # what it left behind
        child.wait()
    for tree in trees:
        for pid, began in tree.items():
            if tree_of(pid).get(pid) == began:  # and not another process that got its number
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)
