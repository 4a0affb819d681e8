"""How soon is a change found, and does the first alarm name what changed?

Streams with an autocorrelation time of 3 s, as features of real drives have, in which from one frame on one
or two features lie beside where they lay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.drift import DriftMonitor, Reference, Verdict
from tools.bench.drift.onsets import alarm_onsets, fill_frames
from tools.bench.drift.outcome import Outcome
from tools.bench.drift.promise import LONG_HOURS, make_reference
from tools.bench.drift.setting import DriftSettings, Progress
from tools.bench.drift.streams import JUDGED_SEEDS, RATE_HZ, TUNED_SEEDS, Family, ar1, rho_of
from tools.bench.report import Table, Target

TAU_S = 3.0
NAMED_SHARE = 0.95
_REFERENCES = 10  # the reference's own chance is part of the delay
_CALM_S = 60.0  # after every window is full, before the change
_AFTER_S = 1800.0
_SEED = 9_000  # behind those of the families
_NAMED_TRIALS = 100


@dataclass(frozen=True, slots=True)
class Shift:
    """A change of some features by so many standard deviations; `target_s` is what its median is held to."""

    features: int
    changed: int
    sigma: float
    target_s: float | None = None
    rate_hz: float = RATE_HZ

    @property
    def name(self) -> str:
        """For people."""
        at = "" if self.rate_hz == RATE_HZ else f" at {self.rate_hz:g} frames/s"
        return f"{self.changed} of {self.features} features by {self.sigma:g} sigma{at}"


SHIFTS = (
    Shift(8, 1, 2.0, 90.0),
    Shift(8, 2, 2.0, 40.0),
    Shift(8, 1, 1.0),
    Shift(16, 1, 2.0, 90.0),
    Shift(16, 2, 2.0, 40.0),
    Shift(16, 1, 1.0),
    Shift(8, 1, 2.0, 90.0, 10.0),
    Shift(8, 2, 2.0, 40.0, 10.0),
)


@dataclass(frozen=True, slots=True)
class Delays:
    """Of one shift.

    Attributes:
        shift: which.
        seconds: from the first changed frame to the alarm; infinite where there was none in half an hour.
        disturbed: trials that do not count: a false alarm came before the change.
    """

    shift: Shift
    seconds: Sequence[float]
    disturbed: int

    def quantile(self, share: float) -> float:
        """Seconds; infinite where so many were not found, or there was no trial."""
        return spread(self.seconds, share)


def spread(seconds: Sequence[float], share: float) -> float:
    """A quantile of delays of which some may be infinite, by the nearest rank."""
    if not seconds:
        return math.inf
    return float(np.sort(seconds)[min(len(seconds) - 1, max(0, math.ceil(share * len(seconds)) - 1))])


def steady(rate_hz: float = RATE_HZ) -> Family:
    """The streams of all trials."""
    tau = TAU_S * rate_hz
    return Family(f"tau {TAU_S:g} s", tau, lambda rng, n, f: ar1(rng, rho_of(tau), n, f), rate_hz)


def changed_series(
    family: Family, seed: int, trial: int, calm: int, frames: int, shift: Shift
) -> tuple[npt.NDArray[np.float32], list[int]]:
    """A stream that changes after `calm` frames, and which features do; another one each trial."""
    series = family.series(seed, 2 + trial, frames, shift.features)
    # Side by side they would be neighbours in any order that a monitor may have.
    step = shift.features // shift.changed
    columns = [(trial + number * step) % shift.features for number in range(shift.changed)]
    series[calm:, columns] += np.float32(shift.sigma if trial % 2 else -shift.sigma)
    return series, columns


def measure_delay(settings: DriftSettings, progress: Progress) -> Outcome:
    """Time the first alarm after each shift, and look what it names."""
    count = 1 if settings.quick else _REFERENCES
    trials = 4 if settings.quick else max(1, settings.trials // count)
    shifts = SHIFTS[:2] if settings.quick else SHIFTS
    seeds = TUNED_SEEDS if settings.tuning else JUDGED_SEEDS
    settled = sorted({_setting(shift) for shift in shifts})
    of, done = len(settled) * count + len(shifts) + 1, 0
    references: dict[tuple[float, int], list[Reference]] = {}
    for place, (rate_hz, features) in enumerate(settled):
        made = references[rate_hz, features] = []
        for number in range(count):
            hours = LONG_HOURS if number % 2 else 0.0
            seed = seeds[_SEED + 100 * place + number]
            made.append(make_reference(steady(rate_hz), seed, features, hours)[0])
            progress(done := done + 1, of)
    found = []
    for shift in shifts:
        found.append(_delays(shift, references[_setting(shift)], trials, seeds[_SEED + 400]))
        progress(done := done + 1, of)
    wanted = 3 if settings.quick else _NAMED_TRIALS
    named = _named(SHIFTS[0], references[_setting(SHIFTS[0])], wanted, seeds[_SEED + 401])
    progress(of, of)
    return _outcome(found, named, wanted)


def _setting(shift: Shift) -> tuple[float, int]:
    return shift.rate_hz, shift.features


def _delays(shift: Shift, references: Sequence[Reference], trials: int, seed: int) -> Delays:
    family, seconds, disturbed = steady(shift.rate_hz), [], 0
    for number, reference in enumerate(references):
        calm, frames = _lengths(reference)
        for trial in range(trials):
            series, _ = changed_series(family, seed, number * trials + trial, calm, frames, shift)
            onsets = alarm_onsets(reference, series)
            if (onsets < calm).any():
                disturbed += 1
                continue
            seconds.append(float(onsets[0] + 1 - calm) / shift.rate_hz if len(onsets) else math.inf)
    return Delays(shift, seconds, disturbed)


def _lengths(reference: Reference) -> tuple[int, int]:
    """Frames before the change, and all."""
    calm = fill_frames(reference) + round(_CALM_S * reference.rate_hz)
    return calm, calm + round(_AFTER_S * reference.rate_hz)


def _named(shift: Shift, references: Sequence[Reference], trials: int, seed: int) -> int:
    """In how many trials the first alarm's foremost feature is one that changed; no alarm is a miss."""
    right = 0
    for trial in range(trials):
        reference = references[trial % len(references)]
        calm, frames = _lengths(reference)
        series, columns = changed_series(steady(shift.rate_hz), seed, trial, calm, frames, shift)
        right += _foremost(reference, series) in {reference.names[column] for column in columns}
    return right


def _foremost(reference: Reference, series: npt.NDArray[np.float32]) -> str | None:
    monitor = DriftMonitor(reference)
    for number, vector in enumerate(series):
        state = monitor.observe(round(number * 1e9 / reference.rate_hz), vector)
        if state is not None and state.alarm:
            return next(one.name for one in state.features if one.verdict is Verdict.ALARM)
    return None


def _outcome(found: Sequence[Delays], named: int, trials: int) -> Outcome:
    rows = []
    figures = {}
    for each in found:
        missed = sum(math.isinf(value) for value in each.seconds)
        median, late = each.quantile(0.5), each.quantile(0.9)
        finite = [value if math.isfinite(value) else None for value in (median, late)]
        rows.append(
            (each.shift.name, float(len(each.seconds)), *finite, float(missed), float(each.disturbed))
        )
        figures[each.shift.name] = {
            "trials": len(each.seconds),
            "median_s": finite[0],
            "p90_s": finite[1],
            "not_found": missed,
            "false_alarm_before": each.disturbed,
        }
    return Outcome(
        figures={"tau_s": TAU_S, "shifts": figures, "named": {"trials": trials, "right": named}},
        targets=[
            *(
                Target(
                    f"delay: {each.shift.name}, median s",
                    min(each.quantile(0.5), _AFTER_S),
                    each.shift.target_s,
                )
                for each in found
                if each.shift.target_s is not None
            ),
            Target(
                "delay: share of first alarms whose foremost feature really changed",
                named / trials,
                NAMED_SHARE,
                at_least=True,
            ),
        ],
        tables=[
            Table(
                f"delay: autocorrelation time {TAU_S:g} s, {RATE_HZ:g} frames/s",
                ("change", "trials", "median s", "p90 s", "not found", "false alarm before"),
                rows,
            )
        ],
        notes=[f"the first alarm's foremost feature had changed in {named} of {trials} trials"],
    )
