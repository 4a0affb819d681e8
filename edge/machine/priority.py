"""Who waits for whom where processor time is short: the frame loop for nobody.

Work that a new model brings goes to child processes that run where nobody else wants the core (`put_last`).
What must happen in the daemon and is not Python (to load a session, to run it for the first time) goes to
threads at low priority. What must and is Python goes to threads like any other, since a thread that is put
off with the interpreter's lock in its hands puts off all of them: while slots were read by threads at low
priority, a frame waited 117 ms. They give the lock away soon.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

# Niceness (sched(7)). Where both want the same core, of the time of who has none:
LOW = 10  # a tenth
LOWEST = 19  # a seventieth
SWITCH_S = 0.0005  # of Python's 5 ms: a frame takes the interpreter's lock some ten times


def give_lock_away_soon() -> None:
    """Have a thread that computes give the interpreter's lock to one that waits for it half a millisecond."""
    sys.setswitchinterval(SWITCH_S)


def lower(pid: int, niceness: int = LOW) -> None:
    """Give a child process that was just started low priority; it keeps one that is lower yet.

    By its parent, since the imports of a program that would lower itself are heavy already.
    """
    with suppress(OSError):  # it has ended
        os.setpriority(os.PRIO_PROCESS, pid, max(niceness, os.getpriority(os.PRIO_PROCESS, pid)))


def put_last(pid: int) -> bool:
    """Have a child process that was just started run only while a core has nothing else to do.

    That is the kernel's idle class (sched(7), SCHED_IDLE): whoever wakes up takes its core at once, where
    one of the lowest niceness would still be given slices of some milliseconds beside the frames. And on one
    core alone: beside a task of this class that may run on any of two cores, the daemon's inference took 38.5
    ms at p99, and 34.8 where the task kept to one (30.7 alone; see docs/updates.md). Why is not known.

    Returns:
        Whether it was. False: it has the lowest niceness alone, since it could not be taken out of that class
        again (`take_up`), and where all cores are busy all the time it would hardly ever come to its end.
    """
    lower(pid, LOWEST)
    if not _may_raise():
        return False
    try:
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
        os.sched_setaffinity(pid, {max(os.sched_getaffinity(0))})
    except OSError:  # it has ended, or a sandbox forbids it
        return False
    return True


def take_up(pid: int) -> None:
    """Give a child process that was put last a share of the cores again: that of the lowest niceness."""
    taken: set[int] = set()
    # A thread that one still in the idle class started meanwhile is in it too.
    while new := _threads(pid) - taken:
        for thread in new:
            with suppress(OSError):  # it has ended
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
                os.sched_setaffinity(thread, os.sched_getaffinity(0))
        taken |= new


@contextmanager
def lowered() -> Iterator[None]:
    """Run the block at low priority on this thread. Threads that start in it have the process's own after it.

    Does nothing where a priority cannot be raised again: without CAP_SYS_NICE and with an RLIMIT_NICE below
    20 less the process's niceness (setrlimit(2); systemd's LimitNICE=).
    """
    own = _priority_of(os.getpid())
    if own >= LOW or not _may_raise():
        yield
        return
    thread = threading.get_native_id()
    before, there = _priority_of(thread), _threads()
    os.setpriority(os.PRIO_PROCESS, thread, LOW)
    try:
        yield
    finally:
        for started in _threads() - there:
            with suppress(OSError):  # it has ended
                os.setpriority(os.PRIO_PROCESS, started, own)
        os.setpriority(os.PRIO_PROCESS, thread, before)


@cache
def _may_raise() -> bool:
    """Try, on a thread whose priority does not matter: capabilities may be those of a user namespace."""
    if sys.platform != "linux":  # there alone a thread has a priority of its own
        return False
    may = []

    def try_it() -> None:
        thread = threading.get_native_id()
        before = _priority_of(thread)
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, before + 1)
            os.setpriority(os.PRIO_PROCESS, thread, before)
            may.append(True)

    tried = threading.Thread(target=try_it)
    tried.start()
    tried.join()
    return bool(may)


def _priority_of(thread: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, thread)


def _threads(pid: int | None = None) -> set[int]:
    try:
        return {int(path.name) for path in Path(f"/proc/{pid or 'self'}/task").iterdir()}
    except OSError:  # it has ended
        return set()
