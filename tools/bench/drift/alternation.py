"""Day and night in turns, every half hour: quiet where both are known, an alarm where the day alone is.

Four features of the picture are six standard deviations apart, so that the context shows; four of the
detections one and a half, so that one reference for both would have to be blind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.drift import Reference, combine, fit
from tools.bench.drift.delay import TAU_S, spread
from tools.bench.drift.onsets import alarm_onsets, fill_frames
from tools.bench.drift.outcome import Outcome
from tools.bench.drift.promise import LEAST_RATIO, MOST_RATIO, Kept, Stretch
from tools.bench.drift.setting import TARGET_HOURS, DriftSettings, Progress
from tools.bench.drift.streams import JUDGED_SEEDS, RATE_HZ, TUNED_SEEDS, ar1, rho_of
from tools.bench.report import Table, Target

HOURS = 200.0
_TURN_S = 1800.0
_FADE_S = 30.0
_PICTURE, _DETECTIONS = 4, 4
_NIGHT = np.array([-6.0] * _PICTURE + [1.5] * _DETECTIONS)
_NAMES = [f"feature {number}" for number in range(_PICTURE + _DETECTIONS)]
_ORIGINS = ["picture"] * _PICTURE + ["detections"] * _DETECTIONS
_REFERENCE_HOURS = 24.0
_QUICK_HOURS = 2.0
_PIECE_HOURS = 10.0
_EVENINGS = 20
_SEED = 9_950


@dataclass(frozen=True, slots=True)
class _Known:
    """A pair of references, and the one of the day alone."""

    both: Reference
    day: Reference


def measure_alternation(settings: DriftSettings, progress: Progress) -> Outcome:
    """Count alarms with both contexts known, by a sharp change and by a fade; time the first night's."""
    seeds = TUNED_SEEDS if settings.tuning else JUDGED_SEEDS
    hours = _QUICK_HOURS if settings.quick else HOURS
    pieces = max(1, round(hours / _PIECE_HOURS))
    evenings = 2 if settings.quick else _EVENINGS
    of, done = 2 * pieces + 1, 0
    known = _known(seeds[_SEED], _QUICK_HOURS if settings.quick else _REFERENCE_HOURS)
    progress(done := done + 1, of)
    found: dict[str, list[Stretch]] = {}
    for name, fade_s in (("at once", 0.0), (f"in {_FADE_S:g} s", _FADE_S)):
        found[name] = []
        for piece in range(pieces):
            rng = np.random.default_rng([seeds[_SEED + 1], round(fade_s), piece])
            series = alternating(rng, hours / pieces, fade_s)
            alarms = len(alarm_onsets(known.both, series))
            found[name].append(Stretch(0, len(_NAMES), _REFERENCE_HOURS, False, True, hours / pieces, alarms))
            progress(done := min(done + 1, of - 1), of)
    delays = [
        first_night(known.day, np.random.default_rng([seeds[_SEED + 2], number]))
        for number in range(evenings)
    ]
    progress(of, of)
    return _outcome({name: Kept.of(each) for name, each in found.items()}, delays)


def alternating(rng: np.random.Generator, hours: float, fade_s: float) -> npt.NDArray[np.float32]:
    """`float32[frames, 8]`: by day and by night in turns, from one to the other in `fade_s`."""
    frames = round(hours * 3600 * RATE_HZ)
    at_s = np.arange(frames) / RATE_HZ
    turn, into_s = np.divmod(at_s, _TURN_S)
    dark = turn % 2
    if fade_s:
        share = np.clip(into_s / fade_s, 0.0, 1.0)
        dark = np.where(turn == 0, 0.0, dark * share + (1 - dark) * (1 - share))
    steady = ar1(rng, rho_of(TAU_S * RATE_HZ), frames, len(_NAMES))
    return np.asarray(steady + dark[:, None] * _NIGHT, np.float32)


def first_night(day: Reference, rng: np.random.Generator) -> float:
    """Seconds of the first night to the alarm, by the day's reference; infinite if there is none."""
    calm_s = fill_frames(day) / RATE_HZ + 60.0
    before = round((_TURN_S - calm_s) * RATE_HZ)
    series = alternating(rng, 2 * _TURN_S / 3600, 0.0)[before:]
    onsets = alarm_onsets(day, series)
    late = onsets[onsets >= round(calm_s * RATE_HZ)]
    return float(late[0] + 1 - round(calm_s * RATE_HZ)) / RATE_HZ if len(late) else math.inf


def _known(seed: int, hours: float) -> _Known:
    frames = round(hours * 3600 * RATE_HZ)
    made = []
    for number, (name, offset) in enumerate((("day", 0.0 * _NIGHT), ("night", _NIGHT))):
        rng = np.random.default_rng([seed, number])
        series = ar1(rng, rho_of(TAU_S * RATE_HZ), frames, len(_NAMES)) + offset
        made.append(
            fit(
                np.asarray(series, np.float32),
                RATE_HZ,
                _NAMES,
                origins=_ORIGINS,
                context=name,
                target_hours=TARGET_HOURS,
            )
        )
    return _Known(combine(*made), made[0])


def _outcome(kept: dict[str, Kept], delays: Sequence[float]) -> Outcome:
    median, worst = spread(delays, 0.5), spread(delays, 1.0)
    found = sum(math.isfinite(delay) for delay in delays)
    columns = ("day and night change", "hours", "alarms", "h to one", "95 % from", "to", "of 24 h", "held by")
    return Outcome(
        figures={
            "turn_s": _TURN_S,
            "both_known": {name: each.to_json() for name, each in kept.items()},
            "day_alone": {
                "evenings": len(delays),
                "found": found,
                "median_s": median if math.isfinite(median) else None,
                "worst_s": worst if math.isfinite(worst) else None,
            },
        },
        targets=[
            *(target for name, each in kept.items() for target in _promised(name, each)),
            Target("alternation: evenings with an alarm in the first night", found / len(delays), 1.0, True),
        ],
        tables=[
            Table(
                f"alternation: every {_TURN_S / 60:g} minutes, both known",
                columns,
                [(*each.to_row(name), held_by(each)) for name, each in kept.items()],
            )
        ],
        notes=[
            f"by the day's reference alone, the first night's alarm came in {found} of {len(delays)}"
            f" evenings, median {median:g} s, at worst {worst:g} s"
        ],
    )


def held_by(kept: Kept) -> str:
    """What of the hours to one alarm is where it was promised to be: the mean, or its interval alone.

    Two hundred hours hold eight alarms: what chance explains is no fault, and is said.
    """
    if kept.broken:
        return "nothing"
    inside = LEAST_RATIO * TARGET_HOURS <= kept.mean_hours <= MOST_RATIO * TARGET_HOURS
    return "mean" if inside else "interval"


def _promised(name: str, kept: Kept) -> tuple[Target, Target]:
    low, high = (round(min(end / TARGET_HOURS, 1e3), 3) for end in (kept.low, kept.high))
    what = f"alternation, {name}: hours to one false alarm by the promised 24"
    return (
        Target(f"{what}, upper end of its interval", high, LEAST_RATIO, at_least=True),
        Target(f"{what}, lower end of its interval", low, MOST_RATIO),
    )
