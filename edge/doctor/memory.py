"""Memory that the daemon can have."""

from __future__ import annotations

from pathlib import Path

from edge.config import EdgeConfig
from edge.doctor.finding import Finding, failure, ok, warning

# Resident, with one model of 12 MB and everything on: 240 MB; a swap holds two models for a moment.
_BASE_BYTES = 250_000_000
_TIMES_MODEL = 8
_LEAST_SPARE = 1.5


def memory(config: EdgeConfig, root: Path = Path("/")) -> list[Finding]:
    """Free memory, and a limit of the control group's."""
    available = parse_available((root / "proc/meminfo").read_text())
    limit = _limit(root / "sys/fs/cgroup/memory.max")
    needed = _BASE_BYTES + _TIMES_MODEL * config.model.factory.stat().st_size
    return [judge(available, limit, needed)]


def judge(available: int | None, limit: int | None, needed: int) -> Finding:
    """Judge bytes that are available, and a limit, against what is needed."""
    if available is None:
        return warning("memory", "the system does not say how much is free", "look at /proc/meminfo")
    usable = available if limit is None else min(available, limit)
    text = f"{usable / 1e9:.2f} GB available, some {needed / 1e9:.2f} GB needed"
    if usable < needed:
        return failure("memory", text, "stop other programs, raise the limit, or take a smaller model")
    if usable < needed * _LEAST_SPARE:
        return warning("memory", text, "little is left for other programs")
    return ok("memory", text)


def parse_available(meminfo: str) -> int | None:
    """MemAvailable of /proc/meminfo, bytes."""
    for line in meminfo.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "MemAvailable:" and words[1].isdecimal():
            return int(words[1]) * 1024
    return None


def _limit(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
