"""The wall clock: plausible, and kept by somebody."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from pathlib import Path

from edge.config import EdgeConfig
from edge.doctor.finding import Finding, failure, ok, warning

_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_LATEST_S = 4_102_444_800  # 2100


@dataclass(frozen=True, slots=True)
class KernelClock:
    """What the kernel knows of its clock.

    Attributes:
        is_synchronised: a daemon (NTP, PTP) keeps it.
        error_s: by how much it may be wrong at most, as that daemon says.
    """

    is_synchronised: bool
    error_s: float


class _Timex(ctypes.Structure):
    # Up to the fields that are read; the rest is room (adjtimex(2), struct timex).
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_char * 256),
    )


def clock(config: EdgeConfig, root: Path = Path("/")) -> list[Finding]:
    """The time against this program's own age, and what keeps it."""
    findings = [judge_time(time.time(), Path(__file__).stat().st_mtime)]
    marked = (root / "run/systemd/timesync/synchronized").exists()
    findings.append(judge_keeper(kernel_clock(), marked, config.clock.source))
    device = config.clock.ptp_device
    if device is not None:
        there = device.exists()
        text = f"{device} {'is there' if there else 'is not there'}"
        advice = "name the card's clock (ls /dev/ptp*), and load its driver"
        findings.append(ok("ptp", text) if there else failure("ptp", text, advice))
    return findings


def judge_time(now_s: float, built_s: float) -> Finding:
    """Judge the time against when this program was put on the machine."""
    text = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(now_s))
    if now_s < built_s - 86400:
        advice = "set it, or wait for NTP: certificates and update metadata are judged by it"
        return failure("clock", f"{text}, before this program was installed", advice)
    if now_s > _LATEST_S:
        return failure("clock", f"{text}, which is far ahead", "set it: update metadata would seem expired")
    return ok("clock", text)


def judge_keeper(kernel: KernelClock | None, marked: bool, source: str) -> Finding:
    """Judge what keeps the clock.

    Args:
        kernel: as the kernel says; None where it does not.
        marked: whether systemd-timesyncd has left its mark.
        source: clock.source of the configuration.
    """
    if kernel is not None and kernel.is_synchronised:
        return ok("clock kept", f"synchronised, wrong by {kernel.error_s * 1e3:.0f} ms at most")
    if marked:
        return ok("clock kept", "synchronised once since the start, by systemd-timesyncd")
    text = "not synchronised" if kernel is not None else "unknown: the kernel does not say"
    if source != "system":
        advice = f"clock.source says {source}, and nobody keeps the clock: start phc2sys, chrony or gpsd"
        return warning("clock kept", text, advice)
    return warning(
        "clock kept", text, "turn on NTP (timedatectl set-ntp true), or chrony with a GNSS receiver"
    )


def kernel_clock() -> KernelClock | None:
    """Ask the kernel; None where it does not answer (adjtimex(2), without changing anything)."""
    ask = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
    if ask is None:
        return None
    found = _Timex()
    state = ask(ctypes.byref(found))
    return None if state < 0 else KernelClock(state != _TIME_ERROR, found.maxerror / 1e6)
