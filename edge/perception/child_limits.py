"""What a child process that looks at a model may take, and how its parent holds it to that.

Three holds, since none does all of it:
- RLIMIT_DATA: an allocation past it fails at once, however large it is. It counts what is private and
  writable, so that neither code nor mapped files nor addresses that are only reserved do: with ONNX Runtime
  on a CPU, 320 MB for the shipped model, of which 150 are resident. RLIMIT_AS would count all (690 MB), and
  a device's libraries reserve many times the machine's memory; they map their own memory too, so with them
  only the next hold stands;
- the parent looks at the resident memory twenty times a second, and ends the child;
- the kernel, out of memory, ends the child before anything else (oom_score_adj(5)).

Of time: the parent's clock, and RLIMIT_CPU for a child whose parent is gone.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MEMORY_BYTES = 4_000_000_000  # of a check, unless the configuration says otherwise
SHARE_OF_FREE = 0.8  # of what is available on the machine, where that is less
RUN_S = 30.0  # of one inference on a CPU: the exchange of a model would not wait longer for a frame

_FIRST_TO_GO = "1000"
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # prctl(2)
_LEAST_CPU_S = 60


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """What the child may take.

    Attributes:
        memory_bytes: of memory.
        is_machines: that is what the machine has left, and not what the configuration allows.
        cpu_s: of processor time, all threads together.
        run_s: of one inference on a CPU.
    """

    memory_bytes: int
    is_machines: bool
    cpu_s: int
    run_s: float = RUN_S


def limits_for(memory_bytes: int, timeout_s: float, run_s: float = RUN_S) -> ChildLimits:
    """Limits for a check on this machine, now.

    Args:
        memory_bytes: that the configuration allows.
        timeout_s: of the whole check, by the parent's clock.
        run_s: of one inference on a CPU.
    """
    free = int(available_bytes() * SHARE_OF_FREE) or memory_bytes
    cpu_s = max(_LEAST_CPU_S, int(timeout_s * (os.cpu_count() or 1)))
    return ChildLimits(min(memory_bytes, free), free < memory_bytes, cpu_s, run_s)


def hold(limits: ChildLimits, *, hard_memory: bool) -> None:
    """Hold this process, the child, to its limits.

    Args:
        limits: what it may take.
        hard_memory: allocations past the limit fail; not for providers that map a device's memory.
    """
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_CPU, limits.cpu_s)
    if hard_memory:
        _lower(resource.RLIMIT_DATA, limits.memory_bytes)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def available_bytes() -> int:
    """Memory that the machine can give without swapping (proc(5), MemAvailable); 0: it does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0


def resident_bytes_of(pid: int) -> int:
    """Memory that a process holds (proc(5), statm); 0 where it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _lower(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))
