"""Real clips, day into night. Half a minute each: too short to calibrate on, they illustrate.

The reference is made of the day clips; then each of them goes over into the night, which is another camera's.
"""

from __future__ import annotations

import math
from pathlib import Path

from edge.drift import DriftMonitor, Reference, Verdict, fit
from edge.drift.features import NAMES, ORIGINS
from tools.bench.drift.drives import RATE_HZ, Drive, drive_features
from tools.bench.drift.outcome import Outcome
from tools.bench.drift.setting import TARGET_HOURS, DriftSettings, Progress
from tools.bench.report import Table, Target
from tools.bench.rounds import BenchError
from tools.bench.subject import MODELS

NIGHT_S = 30.0
_ENDINGS = (".mp4", ".mkv", ".avi", ".mov")
_PERIOD_NS = round(1e9 / RATE_HZ)


def measure_real(settings: DriftSettings, progress: Progress) -> Outcome:
    """Drive each day clip into each night clip, or say why not."""
    if settings.drives is None:
        return _left_out("no clips: give --drives DIR, with day and night videos ('night' in their names)")
    day, night = clips(settings.drives)
    if not day or not night:
        return _left_out(
            f"{settings.drives} has {len(day)} day and {len(night)} night videos; one of each is needed"
        )
    model = settings.model or MODELS / "baseline.onnx"
    names = [str(path) for path in (*day, *night)]
    drives = drive_features(names, model, settings.cache, workers=settings.workers, progress=progress)
    reference = fit(
        [drives[str(path)].driven for path in day],
        RATE_HZ,
        NAMES,
        origins=ORIGINS,
        context="day",
        target_hours=TARGET_HOURS,
    )
    rows: list[list[str | float | None]] = []
    figures, delays, calm, modest = [], [], 0, 0
    for dusk in day:
        for dark in night:
            before, delay, verdict = into_night(reference, drives[str(dusk)], drives[str(dark)])
            told = delay if math.isfinite(delay) else None
            rows.append([f"{dusk.stem} into {dark.stem}", "alarm" if before else "none", told, verdict])
            figures.append(
                {
                    "day": dusk.name,
                    "night": dark.name,
                    "alarm_by_day": before,
                    "verdict_by_day": verdict,
                    "delay_s": told,
                }
            )
            delays.append(min(delay, 1e6))
            calm += not before
            modest += verdict == Verdict.UNCALIBRATED.value
    return Outcome(
        figures={"drives": figures, "calibrated": reference.calibrated},
        targets=[
            Target("real: from day to the alarm at night, worst s", max(delays), NIGHT_S),
            Target("real: drives without an alarm by day", calm / len(delays), 1.0, at_least=True),
            Target(
                "real: drives that are called uncalibrated by day", modest / len(delays), 1.0, at_least=True
            ),
        ],
        tables=[
            Table(
                f"real: {len(day)} day and {len(night)} night clips, which calibrate nothing",
                ("drive", "by day", "s to the alarm", "verdict by day"),
                rows,
            )
        ],
    )


def clips(folder: Path) -> tuple[list[Path], list[Path]]:
    """Day and night videos of a folder, by their names.

    Raises:
        BenchError: there is no such folder.
    """
    if not folder.is_dir():
        raise BenchError(f"{folder}: no such folder of clips")
    videos = sorted(path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS)
    return [path for path in videos if "night" not in path.stem], [
        path for path in videos if "night" in path.stem
    ]


def into_night(reference: Reference, day: Drive, night: Drive) -> tuple[bool, float, str]:
    """Whether day had an alarm, seconds of night to one (infinite: none), and the day's last verdict."""
    monitor = DriftMonitor(reference)
    before, verdict, begin_ns = False, Verdict.LEARNING, int(day.times_ns[-1]) + _PERIOD_NS
    for state in day.judged_by(monitor):
        before, verdict = before or state.alarm, state.verdict
    for state in night.judged_by(monitor, begin_ns):
        if state.alarm:
            return before, (state.time_ns - begin_ns + _PERIOD_NS) / 1e9, verdict.value
    return before, math.inf, verdict.value


def _left_out(why: str) -> Outcome:
    return Outcome(figures={"not_measured": why}, notes=[f"real: not measured: {why}"])
