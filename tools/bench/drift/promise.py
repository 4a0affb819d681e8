"""Is the promise kept? Months of streams without a change, and the alarms that there are all the same.

Each family of streams has several references, some as short as a reference that promises may be, some of a
day; 8 to 16 features. Hours count from where every window is full.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from edge.drift import Reference, fit
from edge.drift.reference import CALIBRATED_HOURS, CALIBRATED_TAU
from tools.bench.drift.onsets import alarm_onsets, fill_frames
from tools.bench.drift.outcome import Outcome
from tools.bench.drift.setting import TARGET_HOURS, DriftSettings, Progress
from tools.bench.drift.streams import JUDGED, TUNED, Family, seed_of
from tools.bench.report import Table, Target

LEAST_RATIO, MOST_RATIO = 0.75, 2.0
FEATURES = (8, 12, 16)
LONG_HOURS = 24.0
_ROOM = 1.1  # over the least that calibrates: tau is an estimate
_SHORT = 1.5  # times that
_QUICK_HOURS = 10.0
_QUICK_FAMILIES = 2


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one reference came to.

    Attributes:
        family: its number.
        features: how many.
        reference_hours: that it was made of.
        short: whether that is hardly more than a reference needs to promise.
        calibrated: whether it promises anything.
        hours: of driving judged, without a change.
        alarms: that there were.
    """

    family: int
    features: int
    reference_hours: float
    short: bool
    calibrated: bool
    hours: float
    alarms: int


@dataclass(frozen=True, slots=True)
class Kept:
    """Hours of driving and their alarms: the mean time between them.

    Attributes:
        hours, alarms: sums.
        low, high: 95 % interval of the mean time, hours, as of a Poisson process (Garwood, 1936).
    """

    hours: float
    alarms: int
    low: float
    high: float

    @classmethod
    def of(cls, stretches: Sequence[Stretch]) -> Kept:
        """Of one stretch at least."""
        hours = sum(each.hours for each in stretches)
        alarms = sum(each.alarms for each in stretches)
        high = 2 * hours / float(chi2.ppf(0.025, 2 * alarms)) if alarms else math.inf
        return cls(hours, alarms, 2 * hours / float(chi2.ppf(0.975, 2 * alarms + 2)), high)

    @property
    def mean_hours(self) -> float:
        """Hours to one alarm; infinite where there was none."""
        return self.hours / self.alarms if self.alarms else math.inf

    @property
    def at_least_hours(self) -> float:
        """The same, finite: as if there had been one where there was none."""
        return self.hours / max(1, self.alarms)

    @property
    def broken(self) -> bool:
        """Whether chance alone does not explain how far it is off what is asked."""
        return self.high < LEAST_RATIO * TARGET_HOURS or self.low > MOST_RATIO * TARGET_HOURS

    def to_json(self) -> dict[str, object]:
        """Infinite is null."""
        return {
            "hours": round(self.hours, 1),
            "alarms": self.alarms,
            "hours_to_one": finite(self.mean_hours),
            "interval_95": [finite(self.low), finite(self.high)],
            "ratio_to_promise": finite(self.mean_hours / TARGET_HOURS),
        }

    def to_row(self, name: str) -> tuple[str | float | None, ...]:
        """Name, hours, alarms, mean time and its interval, ratio."""
        ratio = self.mean_hours / TARGET_HOURS
        values = (self.hours, float(self.alarms), self.mean_hours, self.low, self.high, ratio)
        return (name, *(finite(value) for value in values))


def measure_promise(settings: DriftSettings, progress: Progress) -> Outcome:
    """Count the alarms of all families."""
    families = TUNED if settings.tuning else JUDGED
    chosen = families[:_QUICK_FAMILIES] if settings.quick else families
    replicates = 1 if settings.quick else settings.replicates
    hours = (_QUICK_HOURS if settings.quick else settings.hours) / len(chosen) / replicates
    stretches = []
    for number in range(len(chosen)):
        for replicate in range(replicates):
            stretches.append(_stretch(families, number, replicate, hours))
            progress(len(stretches), len(chosen) * replicates)
    return _outcome(families, stretches)


def make_reference(family: Family, seed: int, features: int, hours: float) -> tuple[Reference, float]:
    """A reference of at least so many hours, of stretch 0 of the stream, and of how many it is.

    What a fit calls too little is not the promise's business: it gets half as much again, up to twice.
    """
    names = [f"feature {number}" for number in range(features)]
    frames = round(max(hours, least_hours(family)) * 3600 * family.rate_hz)
    for more in (1.0, 1.5, 2.25):
        series = family.series(seed, 0, round(frames * more), features)
        reference = fit(series, family.rate_hz, names, target_hours=TARGET_HOURS, seed=seed)
        if reference.calibrated:
            break
    return reference, len(series) / family.rate_hz / 3600


def least_hours(family: Family) -> float:
    """The shortest reference that promises, and a tenth."""
    return _ROOM * max(CALIBRATED_HOURS, CALIBRATED_TAU * family.tau / family.rate_hz / 3600)


def _stretch(families: tuple[Family, ...], number: int, replicate: int, hours: float) -> Stretch:
    family, seed = families[number], seed_of(families, number, replicate)
    features = FEATURES[replicate % len(FEATURES)]
    wanted = LONG_HOURS if replicate % 2 else 0.0
    reference, reference_hours = make_reference(family, seed, features, wanted)
    fill = fill_frames(reference)
    frames = round(hours * 3600 * family.rate_hz)
    series = family.series(seed, 1, fill + frames, features)
    alarms = int((alarm_onsets(reference, series) >= fill).sum())
    short = reference_hours < _SHORT * least_hours(family)
    return Stretch(number, features, reference_hours, short, reference.calibrated, hours, alarms)


def _outcome(families: tuple[Family, ...], stretches: Sequence[Stretch]) -> Outcome:
    numbers = sorted({each.family for each in stretches})
    by_family = {families[n].name: [each for each in stretches if each.family == n] for n in numbers}
    groups = {
        "references that just promise": [each for each in stretches if each.short],
        "longer references": [each for each in stretches if not each.short],
        **{f"{count} features": [each for each in stretches if each.features == count] for count in FEATURES},
    }
    kept = {name: Kept.of(some) for name, some in by_family.items()}
    beside = {name: Kept.of(some) for name, some in groups.items() if some}
    pooled = Kept.of(stretches)
    low, high = _interval_over_references(stretches)
    broken = [name for name, each in kept.items() if each.broken]
    uncalibrated = sum(not each.calibrated for each in stretches)
    columns = ("family", "hours", "alarms", "h to one", "95 % from", "to", "of 24 h")
    rows = [
        *(each.to_row(name) for name, each in kept.items()),
        *(each.to_row(f"all: {name}") for name, each in beside.items()),
        pooled.to_row("all"),
    ]
    notes = [
        f"all, 95 % interval over references (bootstrap): {low:.1f} to {high:.1f} h; one in"
        f" {TARGET_HOURS:g} h is promised"
    ]
    if broken:
        notes.append(f"outside of what chance explains: {', '.join(broken)}")
    if uncalibrated:
        notes.append(f"{uncalibrated} of {len(stretches)} references called themselves uncalibrated")
    return Outcome(
        figures={
            "all": {**pooled.to_json(), "interval_95_over_references": [finite(low), finite(high)]},
            "families": {name: each.to_json() for name, each in kept.items()},
            "groups": {name: each.to_json() for name, each in beside.items()},
            "references": len(stretches),
            "uncalibrated_references": uncalibrated,
        },
        targets=[
            Target(
                "promise: hours to one false alarm, by the promised 24",
                round(pooled.at_least_hours / TARGET_HOURS, 3),
                LEAST_RATIO,
                at_least=True,
            ),
            Target(
                "promise: and not rarer than that, by the promised 24",
                round(pooled.at_least_hours / TARGET_HOURS, 3),
                MOST_RATIO,
            ),
            Target("promise: families outside of 0.75 to 2 by more than chance", len(broken), 0),
        ],
        tables=[Table(f"promise: {pooled.hours:.0f} h without a change", columns, rows)],
        notes=notes,
    )


def _interval_over_references(stretches: Sequence[Stretch]) -> tuple[float, float]:
    """95 % interval of the mean time when references are drawn anew: alarms of one reference go together."""
    hours = np.array([each.hours for each in stretches])
    alarms = np.array([each.alarms for each in stretches])
    drawn = np.random.default_rng(0).integers(0, len(stretches), (2000, len(stretches)))
    with np.errstate(divide="ignore"):
        means = hours[drawn].sum(axis=1) / alarms[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975], method="nearest")
    return float(low), float(high)


def finite(value: float) -> float | None:
    """As JSON has it: rounded, None for what is infinite."""
    return round(value, 3) if math.isfinite(value) else None
