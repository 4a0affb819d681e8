"""Room and rights where the daemon keeps its state, and what it may write in a day."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from edge.config import EdgeConfig
from edge.doctor.finding import Finding, failure, ok, warning
from edge.machine.disk_budget import FILE_NAME, DiskBudget

# Beside the spool: two models in slots and one on its way, the metadata, the monitors' state.
_OTHER_BYTES = 500_000_000
_SLOW_SYNC_S = 0.5
_PROBE_BYTES = 1 << 20


def disk(config: EdgeConfig) -> list[Finding]:
    """Free space against the limits, a synced write, the day's bytes."""
    folder = _existing(config.state_folder)
    free = shutil.disk_usage(folder).free
    used = sum(path.stat().st_size for path in (config.state_folder / "spool").rglob("*.item"))
    findings = [judge_space(free, used, config.spool.limit_bytes), _write(folder)]
    budget = DiskBudget(config.disk.bytes_per_day, _readable(config.state_folder / FILE_NAME))
    findings.append(judge_budget(budget.written(), config.disk.bytes_per_day, config.spool.bytes_per_day))
    return findings


def judge_space(free: int, used: int, limit: int) -> Finding:
    """Judge free bytes against what the spool, which holds `used`, may still grow by."""
    wanted = max(0, limit - used) + _OTHER_BYTES
    text = f"{free / 1e9:.1f} GB free, spool {used / 1e9:.1f} of at most {limit / 1e9:.1f} GB"
    if free < _OTHER_BYTES:
        advice = f"make room: models and state need {_OTHER_BYTES / 1e9:.1f} GB"
        return failure("disk space", text, advice)
    if free < wanted:
        advice = f"lower spool.limit_bytes to {max(0, free - _OTHER_BYTES + used)} or make room"
        return warning("disk space", text, advice)
    return ok("disk space", text)


def judge_budget(written: int, limit: int, samples: int) -> Finding:
    """Judge what was written in the last 24 hours against disk.bytes_per_day and the samples' part of it."""
    text = (
        f"{written / 1e6:.0f} of {limit / 1e6:.0f} MB written in 24 h, samples at most {samples / 1e6:.0f} MB"
    )
    if written >= limit:
        return warning("disk budget", text, "samples and series are refused; raise disk.bytes_per_day?")
    if samples > limit:
        return warning("disk budget", text, "spool.bytes_per_day has no effect: disk.bytes_per_day is less")
    return ok("disk budget", text)


def _write(folder: Path) -> Finding:
    try:
        began = time.monotonic()
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
        took_s = time.monotonic() - began
    except OSError as error:
        advice = "run this as the service's user (sudo -u traffic-vision), or give it the folder"
        return failure("disk write", f"{folder}: {error.strerror}", advice)
    text = f"{folder}: 1 MB written and synced in {took_s * 1e3:.0f} ms"
    if took_s > _SLOW_SYNC_S:
        return warning("disk write", text, "the flash is slow or worn: samples will be dropped")
    return ok("disk write", text)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there: the daemon makes the rest."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _readable(path: Path) -> Path | None:
    return path if os.access(path, os.R_OK) else None
