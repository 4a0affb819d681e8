"""Temperature, and whether the machine slows down for it or for want of power, where the board tells."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from edge.config import EdgeConfig
from edge.doctor.finding import Finding, ok, warning

_HOT_C = 85.0
_RUN_S = 5.0

# Bits of the Raspberry Pi's `vcgencmd get_throttled`: now, and 16 bits higher since the start.
_PI_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}


def heat(config: EdgeConfig, root: Path = Path("/")) -> list[Finding]:
    """What the board tells; nothing that it does not."""
    findings = []
    zones = read_zones(root / "sys/class/thermal")
    if zones:
        findings.append(judge_zones(zones))
    slowed = read_throttle_counts(root / "sys/devices/system/cpu")
    if slowed:
        findings.append(judge_throttle_counts(slowed))
    word = _run("vcgencmd", "get_throttled")
    if word is not None:
        findings.append(judge_pi(word))
    alarms = read_alarms(root / "sys/class/hwmon")
    if alarms:
        text = f"over-current or under-voltage events: {', '.join(alarms)}"
        findings.append(warning("power", text, "a supply of enough power; on a Jetson look at nvpmodel -q"))
    mode = _run("nvpmodel", "-q")
    if mode is not None:
        findings.append(ok("power mode", " ".join(mode.split())))
    return findings or [ok("temperature", "this machine does not tell")]


def read_zones(folder: Path) -> dict[str, float]:
    """Each thermal zone's temperature, degrees Celsius."""
    zones = {}
    for zone in sorted(folder.glob("thermal_zone*")):
        try:
            degrees = int((zone / "temp").read_text()) / 1000
            zones[f"{(zone / 'type').read_text().strip()}"] = degrees
        except (OSError, ValueError):  # a zone that is off answers EAGAIN
            continue
    return zones


def judge_zones(zones: Mapping[str, float]) -> Finding:
    """Judge temperatures."""
    name = max(zones, key=lambda zone: zones[zone])
    text = f"{zones[name]:.0f} °C at most ({name}), of {len(zones)} sensors"
    if zones[name] >= _HOT_C:
        return warning("temperature", text, "cool it: hot processors slow down, and frames get late")
    return ok("temperature", text)


def read_throttle_counts(folder: Path) -> dict[str, int]:
    """How often each kind of core was slowed down for its heat since the start (x86)."""
    counts: dict[str, int] = {}
    for kind in ("core", "package"):
        found = folder.glob(f"cpu[0-9]*/thermal_throttle/{kind}_throttle_count")
        numbers = [int(text) for path in found if (text := path.read_text().strip()).isdecimal()]
        if numbers:
            counts[kind] = max(numbers)
    return counts


def judge_throttle_counts(counts: Mapping[str, int]) -> Finding:
    """Judge what `read_throttle_counts` read."""
    if any(counts.values()):
        text = ", ".join(f"{kind} slowed down {count} times" for kind, count in counts.items() if count)
        return warning("throttling", f"{text} since the start", "cool it, or lower the power limit")
    return ok("throttling", "never since the start")


def judge_pi(word: str) -> Finding:
    """Judge the Raspberry Pi's `throttled=0x50000`."""
    try:
        bits = int(word.strip().removeprefix("throttled="), 16)
    except ValueError:
        return warning("throttling", f"vcgencmd says {word.strip()!r}", "run vcgencmd get_throttled by hand")
    now = [name for bit, name in _PI_BITS.items() if bits >> bit & 1]
    before = [name for bit, name in _PI_BITS.items() if bits >> (bit + 16) & 1]
    if not now and not before:
        return ok("throttling", "never since the start")
    text = f"now: {', '.join(now) or 'nothing'}; since the start: {', '.join(before) or 'nothing'}"
    return warning("throttling", text, "a supply and a cable of enough power, and cooling")


def read_alarms(folder: Path) -> list[str]:
    """Power monitors (the Jetson's INA3221) whose alarm is on."""
    alarms = []
    for path in sorted([*folder.glob("hwmon*/*_crit_alarm"), *folder.glob("hwmon*/oc*_event_cnt")]):
        try:
            if int(path.read_text()):
                alarms.append(f"{(path.parent / 'name').read_text().strip()} {path.name}")
        except (OSError, ValueError):
            continue
    return alarms


def _run(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_RUN_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
