"""What a demonstration's record shows: the rules by which its figures are counted. No I/O, no words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import median

from cloud.datasets.classes import canonical
from edge.frames.outcomes import Outcome
from tools.demo.record import DemoRecord, DriftPoint, ModelRecord, Score, SwapRecord

ALARM, LEARNING = "alarm", "learning"
JUDGED = frozenset({"stable", "uncalibrated", ALARM})
WAYS_OUT = tuple(outcome.value for outcome in Outcome)

SAME_OBJECT_IOU = 0.5

Detected = tuple[float, float, float, float, float, str]
Labelled = tuple[float, float, float, float, str]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of drive in which the monitor said one thing under one model.

    Attributes:
        begin_s: of its first state.
        end_s: of the state that ended it; of the last one where the record ends.
        verdict, model: of all its states.
        features: that were in alarm, in the order in which they came.
    """

    begin_s: float
    end_s: float
    verdict: str
    model: str
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alarms:
    """Every alarm, in exactly one of three places.

    Attributes:
        by_day: it began before dusk: a false alarm.
        at_night: it began after dusk, under the model that only knows the day.
        after_swap: at night under the new model. An alarm that outlives the swap counts again here: the
            monitor has asked anew, and says it of the new model too. So does one that begins later under the
            old model, if the vehicle has gone back to it.
    """

    by_day: tuple[Span, ...]
    at_night: tuple[Span, ...]
    after_swap: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Gaps:
    """Times between two publications around the swap, that of the swap included; None: not measured."""

    worst_ms: float | None
    median_ms: float | None


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a record shows beyond what stands in it.

    Attributes:
        spans: of the drift monitor's verdicts.
        alarms: among them.
        judged_by_day_s: for how much of the drive before dusk the monitor judged, and did not only learn.
        alarm_after_s: drive time from dusk to the alarm under the old model; None: there was none.
        learning_s, judged_s: for how much of it the monitor learned the new model, and judged it. No alarm
            while it only learns means nothing.
        gaps: around the swap.
        night_gain: the new model's mAP50 by night in multiples of the old one's.
        wall_s: wall time of the whole run.
        other_share: of it, what is neither training nor evaluation, 0 to 1.
    """

    spans: tuple[Span, ...]
    alarms: Alarms
    judged_by_day_s: float
    alarm_after_s: float | None
    learning_s: float
    judged_s: float
    gaps: Gaps
    night_gain: float | None
    wall_s: float | None
    other_share: float | None


def find(record: DemoRecord) -> Findings:
    """Apply every rule to a record."""
    said = spans(record.drift)
    candidate = record.candidate.sha256
    alarms = sort_alarms(said, record.night_from_s, record.swap.drive_s, candidate)
    under_new = [span for span in said if span.model == candidate]
    before, after = (score(model, "night") for model in (record.baseline, record.candidate))
    return Findings(
        spans=said,
        alarms=alarms,
        judged_by_day_s=_seconds(_before(said, record.night_from_s), JUDGED),
        alarm_after_s=alarms.at_night[0].begin_s - record.night_from_s if alarms.at_night else None,
        learning_s=_seconds(under_new, [LEARNING]),
        judged_s=_seconds(under_new, JUDGED),
        gaps=gaps(record.swap),
        night_gain=after.map50 / before.map50 if before and after and before.map50 > 0 else None,
        wall_s=wall_seconds(record.timings, record.wall_s),
        other_share=other_share(record.timings, record.train_and_evaluate, record.wall_s),
    )


def score(model: ModelRecord, name: str) -> Score | None:
    """A model's score on a slice; None where it has none or the figure is no number."""
    found = model.scores.get(name)
    return found if found and math.isfinite(found.map50) else None


def spans(points: Sequence[DriftPoint]) -> tuple[Span, ...]:
    """Put states that follow each other with the same verdict and model together."""
    runs = [list(run) for _, run in groupby(points, lambda point: (point.verdict, point.model))]
    ends = [run[0].drive_s for run in runs[1:]] + [run[-1].drive_s for run in runs[-1:]]
    return tuple(
        Span(
            run[0].drive_s,
            end,
            run[0].verdict,
            run[0].model,
            tuple(dict.fromkeys(name for point in run for name in point.alarming)),
        )
        for run, end in zip(runs, ends, strict=True)
    )


def sort_alarms(all_spans: Iterable[Span], night_from_s: float, swap_s: float, candidate: str) -> Alarms:
    """Tell false alarms, the alarm that was wanted, and those that should be gone apart.

    Args:
        all_spans: of any verdict.
        night_from_s: when dusk begins.
        swap_s: of the first frame under the new model.
        candidate: SHA-256 of the new model.
    """
    by_day, at_night, after_swap = [], [], []
    for span in all_spans:
        if span.verdict != ALARM:
            continue
        if span.begin_s < night_from_s:
            by_day.append(span)
        elif span.model == candidate or span.begin_s >= swap_s:
            after_swap.append(span)
        else:
            at_night.append(span)
    return Alarms(tuple(by_day), tuple(at_night), tuple(after_swap))


def feature_names(points: Sequence[DriftPoint]) -> tuple[str, ...]:
    """The features, those that alarm first in front, then those that go farthest from the reference."""
    first_alarm: dict[str, float] = {}
    farthest: dict[str, float] = {}
    for point in points:
        for name in point.alarming:
            first_alarm.setdefault(name, point.drive_s)
        for name, distance in point.ks.items():
            farthest[name] = max(farthest.get(name, 0.0), finite(distance) or 0.0)
    return tuple(sorted(farthest, key=lambda name: (first_alarm.get(name, math.inf), -farthest[name], name)))


def feature_alarms(points: Sequence[DriftPoint], feature: str) -> tuple[tuple[float, float], ...]:
    """When one feature was in alarm: begin and end, seconds of drive."""
    found = []
    runs = [list(run) for _, run in groupby(points, lambda point: feature in point.alarming)]
    for number, run in enumerate(runs):
        if feature in run[0].alarming:
            end = runs[number + 1][0] if number + 1 < len(runs) else run[-1]
            found.append((run[0].drive_s, end.drive_s))
    return tuple(found)


def gaps(swap: SwapRecord) -> Gaps:
    """The longest and the middle time between two publications around the swap."""
    around = [gap for _, gap in swap.gaps if math.isfinite(gap)]
    own = [swap.gap_ms] if math.isfinite(swap.gap_ms) else []
    return Gaps(max([*around, *own], default=None), median(around) if around else None)


def wall_seconds(timings: Mapping[str, float], measured_s: float | None) -> float | None:
    """Wall time of the whole run: as measured, or the sum of its stages; None where neither is known."""
    whole = measured_s if measured_s is not None else sum(_durations(timings).values())
    return whole if math.isfinite(whole) and whole > 0 else None


def other_share(
    timings: Mapping[str, float], counted: Iterable[str], measured_s: float | None
) -> float | None:
    """Share of the wall time that is neither training nor evaluation, 0 to 1; None where no time is known.

    Args:
        timings: stage to seconds.
        counted: names of the stages that are training or evaluation.
        measured_s: wall time of the whole run, if it was measured.
    """
    whole = wall_seconds(timings, measured_s)
    if whole is None:
        return None
    known = _durations(timings)
    return min(1.0, max(0.0, 1.0 - sum(known.get(name, 0.0) for name in set(counted)) / whole))


def stage_keys(timings: Mapping[str, float]) -> dict[str, float | None]:
    """Timings under names that a program likes, `<stage>_s`; stages whose names become one are added up."""
    keys: dict[str, float | None] = {}
    for name, seconds in timings.items():
        key = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") + "_s"
        value, before = finite(seconds), keys.get(key)
        keys[key] = value if before is None else before + (value or 0.0)
    return keys


def objects_found(detections: Iterable[Detected], truth: Sequence[Labelled]) -> int:
    """Count the labelled objects that are found: same class, IoU from 0.5, each by a detection of its own.

    The best-scored detection chooses first, as in COCO's evaluation.
    """
    free = list(truth)
    for *box, _, name in sorted(detections, key=lambda found: -found[4]):
        fits = [
            (overlap, number)
            for number, labelled in enumerate(free)
            if canonical(labelled[4]) == canonical(name)
            and (overlap := iou(box, labelled[:4])) >= SAME_OBJECT_IOU
        ]
        if fits:
            del free[max(fits)[1]]
    return len(truth) - len(free)


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Area that two boxes (x1, y1, x2, y2) share, of the area that they cover together; 0 for none."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    if not (across > 0 and down > 0):
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return across * down / (sum(areas) - across * down)


def finite(value: float | None) -> float | None:
    """The number, None where it is none: JSON knows no NaN."""
    return float(value) if value is not None and math.isfinite(value) else None


def _durations(timings: Mapping[str, float]) -> dict[str, float]:
    return {name: seconds for name, seconds in timings.items() if math.isfinite(seconds) and seconds >= 0}


def _before(said: Iterable[Span], moment_s: float) -> list[Span]:
    """The spans up to a moment, the one that holds it cut there."""
    return [replace(span, end_s=min(span.end_s, moment_s)) for span in said if span.begin_s < moment_s]


def _seconds(said: Iterable[Span], verdicts: Iterable[str]) -> float:
    wanted = frozenset(verdicts)
    return sum(span.end_s - span.begin_s for span in said if span.verdict in wanted)
