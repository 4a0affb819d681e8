"""What the machine did meanwhile: load, stolen time, and the processor time and memory of one process."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")  # proc(5), /proc/stat


@dataclass(frozen=True, slots=True)
class Ticks:
    """The processors' time by kind, in clock ticks, since boot."""

    by_kind: dict[str, int]

    @classmethod
    def now(cls) -> Ticks:
        """Read them; none where there is no /proc."""
        try:
            words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        except OSError:
            return cls({})
        return cls(dict(zip(_FIELDS, map(int, words), strict=False)))


class Watched:
    """The state of the machine over a benchmark, which says how far its figures can be trusted."""

    def __init__(self) -> None:
        """From now on."""
        self._before = Ticks.now()
        self._load_before = _load()
        self._began = time.monotonic()

    def to_json(self) -> dict[str, Any]:
        """Seconds, load before and after, shares of the processors' time that was stolen and busy."""
        after = Ticks.now().by_kind
        spent = {kind: after[kind] - before for kind, before in self._before.by_kind.items() if kind in after}
        total = max(1, sum(spent.values()))
        return {
            "seconds": round(time.monotonic() - self._began, 1),
            "load_before": self._load_before,
            "load_after": _load(),
            "steal_share": round(spent.get("steal", 0) / total, 4),
            "busy_share": round(1 - (spent.get("idle", 0) + spent.get("iowait", 0)) / total, 4),
        }

    def to_text(self) -> str:
        """One line."""
        state = self.to_json()
        return (
            f"machine over {state['seconds']:g} s: load {state['load_before']:g} before,"
            f" {state['load_after']:g} after; {100 * state['steal_share']:.1f} % of the processors'"
            f" time stolen, {100 * state['busy_share']:.0f} % busy"
        )


def _load() -> float:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0


def cpu_ns(pid: int) -> int:
    """Processor time of a process so far, all its threads, ns.

    By the process's own clock, as clock_getcpuclockid(3) names it: /proc/PID/stat counts in ticks of 10 ms.
    """
    return time.clock_gettime_ns((~pid << 3) | 2)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds.

    Attributes:
        rss_bytes: resident memory.
        threads: how many.
        descriptors: open ones.
    """

    rss_bytes: int
    threads: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> Footprint:
        """Read them.

        Raises:
            OSError: there is no such process.
        """
        process = Path("/proc") / str(pid)
        pages = int((process / "statm").read_text().split()[1])
        threads = len(list((process / "task").iterdir()))
        return cls(pages * os.sysconf("SC_PAGE_SIZE"), threads, len(list((process / "fd").iterdir())))


def read_bytes(pid: int) -> int:
    """What a process has had read from disk so far: how cold its start was."""
    for line in (Path("/proc") / str(pid) / "io").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "read_bytes":
            return int(value)
    return 0
