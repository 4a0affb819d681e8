"""Simulated drives: quiet on further days of the same kind, and which changes are found, how soon, as what.

The reference is made of many short drives, since one seed is one sun, one street and one camera: what the
next drive has of its own is in the reference only if many drives are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge.drift import DriftMonitor, DriftState, Reference, Verdict, fit
from edge.drift.features import NAMES, ORIGINS
from edge.drift.kinds import kind_of
from edge.drift.state import Kind
from edge.frames.sources import SourceError
from tools.bench.drift.delay import spread
from tools.bench.drift.drives import RATE_HZ, Drive, drive_features
from tools.bench.drift.outcome import Outcome
from tools.bench.drift.setting import TARGET_HOURS, DriftSettings, Progress
from tools.bench.drift.streams import JUDGED_SEEDS, TUNED_SEEDS
from tools.bench.report import Table, Target
from tools.bench.subject import MODELS
from tools.drives.source import parse_drive_url

NIGHT_S = 60.0
KIND_SHARE = 0.8
NOT_SIMULATED = "not in this simulator"
CONTEXT = "daytime"
_DAY, _EFFECT = 1_000, 4_000  # where their seeds begin, among those of the drives
_PARKED_S = 600.0  # between two drives


@dataclass(frozen=True, slots=True)
class Effect:
    """A change that a simulated drive can have.

    Attributes:
        name: for people.
        keys: of the drive's URL; `{at}` is the second at which it begins.
        kind: what a state may call it.
    """

    name: str
    keys: str
    kind: Kind

    def url(self, seed: int, at_s: float, seconds: float) -> str:
        """The drive in which it happens."""
        base = f"sim:{seed}?seconds={seconds:g}&rate={RATE_HZ:g}"
        return f"{base}&{self.keys.format(at=f'{at_s:g}')}"


EFFECTS = (
    Effect("dusk to night", "light=noon-night&dusk={at}&fade=30", Kind.LIGHT),
    Effect("rain", "weather=rain&weather_at={at}", Kind.WEATHER),
    Effect("fog", "weather=fog&weather_at={at}", Kind.WEATHER),
    Effect("smeared lens", "lens=smear&lens_at={at}", Kind.LENS),
    Effect("camera turned by 5 degrees", "turn=5&turn_at={at}", Kind.CAMERA_MOVED),
    Effect("exposure 2 stops over", "exposure=2&exposure_at={at}", Kind.EXPOSURE),
    Effect("exposure 2 stops under", "exposure=-2&exposure_at={at}", Kind.EXPOSURE),
)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How many drives of each sort, and how long."""

    reference: int
    reference_s: float
    day: int
    day_s: float
    effect: int
    before_s: float
    after_s: float

    @classmethod
    def of(cls, settings: DriftSettings) -> _Plan:
        if settings.quick:
            return cls(2, 10.0, 1, 20.0, 1, 5.0, 10.0)
        # Five hours of reference: an hour more than promises anything.
        return cls(30, 600.0, math.ceil(settings.simulated_hours * 2), 1800.0, 6, 300.0, 240.0)


@dataclass(slots=True)
class Seen:
    """What came of one effect's drives.

    Attributes:
        delays_s: from its begin to the alarm, a drive each; infinite where there was none.
        disturbed: drives with an alarm before it began; they do not count.
        kinds: what the alarms called it when they began.
        settled: what the last state in alarm of each drive called it: by then the windows hold nothing older.
        foremost: the alarms' foremost features.
    """

    delays_s: list[float] = field(default_factory=list)
    disturbed: int = 0
    kinds: list[Kind] = field(default_factory=list)
    settled: list[Kind] = field(default_factory=list)
    foremost: list[str] = field(default_factory=list)

    @property
    def found(self) -> int:
        """Drives in which it was."""
        return sum(math.isfinite(delay) for delay in self.delays_s)


def measure_simulated(settings: DriftSettings, progress: Progress) -> Outcome:
    """Draw, detect, fit, judge."""
    plan = _Plan.of(settings)
    seeds = TUNED_SEEDS if settings.tuning else JUDGED_SEEDS
    known = [each for each in EFFECTS if is_simulated(each)]
    learned = [day_url(seeds[number], plan.reference_s) for number in range(plan.reference)]
    further = [day_url(seeds[_DAY + number], plan.day_s) for number in range(plan.day)]
    changed = {
        effect: [
            effect.url(seeds[_EFFECT + number], plan.before_s, plan.before_s + plan.after_s)
            for number in range(plan.effect)
        ]
        for effect in known
    }
    urls = [*learned, *further, *(url for each in changed.values() for url in each)]
    model = settings.model or MODELS / "baseline.onnx"
    drives = drive_features(urls, model, settings.cache, workers=settings.workers, progress=progress)
    reference = fit(
        [drives[url].driven for url in learned],
        RATE_HZ,
        NAMES,
        origins=ORIGINS,
        context=CONTEXT,
        target_hours=TARGET_HOURS,
    )
    alarms = further_days(reference, [drives[url] for url in further])
    seen = {
        effect.name: effects_found(reference, [drives[url] for url in each], plan.before_s)
        for effect, each in changed.items()
    }
    return _outcome(plan, reference, alarms, seen)


def day_url(seed: int, seconds: float) -> str:
    """A drive in which nothing changes."""
    return f"sim:{seed}?light=noon&seconds={seconds:g}&rate={RATE_HZ:g}"


def is_simulated(effect: Effect) -> bool:
    """Whether the simulator knows its keys."""
    try:
        parse_drive_url(effect.url(1, 10.0, 20.0))
    except SourceError:
        return False
    return True


def further_days(reference: Reference, drives: Sequence[Drive]) -> list[DriftState]:
    """The states with which an alarm began, of one monitor that goes on from drive to drive."""
    monitor, begun, before, at_ns = DriftMonitor(reference), [], False, 0
    for drive in drives:
        for state in drive.judged_by(monitor, at_ns):
            if state.alarm and not before:
                begun.append(state)
            before = state.alarm
        at_ns += int(drive.times_ns[-1]) + round(_PARKED_S * 1e9)
    return begun


def effects_found(reference: Reference, drives: Sequence[Drive], at_s: float) -> Seen:
    """The first alarm of each drive, in which something begins at `at_s`; a monitor of its own for each."""
    seen = Seen()
    for drive in drives:
        alarms = _alarms(reference, drive)
        if not alarms:
            seen.delays_s.append(math.inf)
        elif alarms[0].time_ns < at_s * 1e9:
            seen.disturbed += 1
        else:
            first, last = alarms[0], alarms[-1]
            seen.delays_s.append(first.time_ns / 1e9 - at_s)
            seen.foremost.append(next(one.name for one in first.features if one.verdict is Verdict.ALARM))
            seen.kinds.append(kind_of(first.features))
            seen.settled.append(kind_of(last.features))
    return seen


def _alarms(reference: Reference, drive: Drive) -> list[DriftState]:
    """The states in alarm."""
    return [state for state in drive.judged_by(DriftMonitor(reference)) if state.alarm]


def _outcome(
    plan: _Plan, reference: Reference, alarms: Sequence[DriftState], seen: Mapping[str, Seen]
) -> Outcome:
    hours = plan.day * plan.day_s / 3600
    kinds = {effect.name: effect.kind for effect in EFFECTS}
    told = sum(len(each.kinds) for each in seen.values())
    right = sum(each.kinds.count(kinds[name]) for name, each in seen.items())
    right_later = sum(each.settled.count(kinds[name]) for name, each in seen.items())
    rows: list[list[str | float | None]] = []
    figures: dict[str, dict[str, Any]] = {}
    for effect in EFFECTS:
        each = seen.get(effect.name)
        if each is None:
            rows.append([effect.name, NOT_SIMULATED, *[None] * 3, "-", "-"])
            figures[effect.name] = {"not_measured": NOT_SIMULATED}
            continue
        median, worst = (_or_none(spread(each.delays_s, share)) for share in (0.5, 1.0))
        drives = f"{each.found} of {len(each.delays_s)}"
        rows.append(
            [
                effect.name,
                drives,
                median,
                worst,
                float(each.disturbed),
                _most([kind.value for kind in each.kinds]) or "-",
                _most(each.foremost) or "-",
            ]
        )
        figures[effect.name] = {
            "drives": len(each.delays_s),
            "found": each.found,
            "median_s": median,
            "worst_s": worst,
            "alarm_before": each.disturbed,
            "kinds": _counts(each.kinds),
            "kinds_later": _counts(each.settled),
            "foremost_features": dict(Counter(each.foremost)),
        }
    notes = [
        f"further day drives: {len(alarms)} alarms in {hours:.1f} h (one in {TARGET_HOURS:g} h is promised)"
        + (": " + ", ".join(_told(state) for state in alarms) if alarms else "")
    ]
    if not reference.calibrated:
        notes.append("the drives' reference calls itself uncalibrated: it promises nothing")
    if told:
        notes.append(
            f"kind of change: {right} of {told} alarms told it right when they began, {right_later} at their"
            " drive's end"
        )
    return Outcome(
        figures={
            "day": {"hours": round(hours, 2), "alarms": len(alarms)},
            "reference": {"drives": plan.reference, "calibrated": reference.calibrated},
            "effects": figures,
            "kinds": {"told": told, "right": right, "right_later": right_later},
        },
        targets=_targets(len(alarms), seen, right, told),
        tables=[
            Table(
                f"simulated: {plan.effect} drives of each change; {plan.reference} day drives are known",
                ("change", "found in", "median s", "worst s", "alarm before", "kind", "foremost feature"),
                rows,
            ),
            *([kinds_table(seen)] if told else []),
        ],
        notes=notes,
    )


def kinds_table(seen: Mapping[str, Seen]) -> Table:
    """How often each change was called what: when its alarm began, and at its drive's end.

    Args:
        seen: what came of each effect's drives, by its name.
    """
    rows: list[list[str | float | None]] = []
    for effect in EFFECTS:
        each = seen.get(effect.name)
        if each is not None and each.kinds:
            first, last = Counter(each.kinds), Counter(each.settled)
            cells = (f"{first[kind]} {last[kind]}" if first[kind] or last[kind] else "-" for kind in Kind)
            rows.append([f"{effect.name}: {effect.kind.value}", *cells])
    return Table(
        "simulated: what each change is called, when its alarm begins and at its drive's end",
        ("change: its kind", *(kind.value for kind in Kind)),
        rows,
    )


def _targets(alarms: int, seen: Mapping[str, Seen], right: int, told: int) -> list[Target]:
    drives = sum(len(each.delays_s) for each in seen.values())
    found = sum(each.found for each in seen.values())
    targets = [Target("simulated: alarms on further day drives", alarms, 0)]
    if drives:
        share = round(found / drives, 3)
        targets.append(Target("simulated: share of changed drives found", share, 1.0, at_least=True))
    night = seen.get(EFFECTS[0].name)
    if night is not None and night.delays_s:
        median = min(spread(night.delays_s, 0.5), 1e6)
        targets.append(Target("simulated: from dusk to the alarm, median s", median, NIGHT_S))
    if told:
        share = round(right / told, 3)
        targets.append(
            Target("simulated: share of alarms that tell the right kind", share, KIND_SHARE, at_least=True)
        )
    return targets


def _counts(kinds: Sequence[Kind]) -> dict[str, int]:
    return {kind.value: times for kind, times in Counter(kinds).most_common()}


def _told(state: DriftState) -> str:
    carriers = [one for one in state.features if one.verdict is Verdict.ALARM]
    return " and ".join(f"{one.name} {one.shift_sigma:+.1f} sigma" for one in carriers[:2])


def _most(words: Sequence[str]) -> str:
    """The most frequent, and how often."""
    if not words:
        return ""
    (word, times), *_ = Counter(words).most_common(1)
    return f"{word} ({times})"


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
