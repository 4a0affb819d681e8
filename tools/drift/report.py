"""The drift report: one HTML file, no script, nothing fetched. What it says is judged in `judging`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.drift import DriftState, FeatureDrift, Reference, Verdict
from edge.drift.calibration import WINDOWS_TAU
from edge.drift.explaining import label
from edge.drift.reference import ContextReference
from edge.perception.model_file import ModelFile
from tools.charts.pages import NOTHING, jpeg_uri, number, page_environment
from tools.charts.svg import clock
from tools.drift import charts
from tools.drift.exact import Confirmation
from tools.drift.given import Given
from tools.drift.judged import Alarm, Distribution, JudgedDrive
from tools.drift.limits import limits
from tools.drift.words import figure, promise_text, room_text
from tools.replay.outputs import OutputError, check_named, put_in_place, temporary_beside

_MOST_DISTRIBUTIONS = 6  # of an alarm


@dataclass(frozen=True, slots=True)
class CarrierRow:
    """A feature in alarm: the monitor's judgement, and the exact test's."""

    feature: FeatureDrift
    label: str
    limit: float
    exact: Confirmation | None


@dataclass(frozen=True, slots=True)
class AlarmView:
    """An alarm on the page.

    Attributes:
        title, kind, strongest: words; `strongest` is empty where it says the same as the beginning.
        pictures: caption and data URI.
        charts: distributions, SVG.
        left_out: distributions that are not shown.
    """

    number: int
    title: str
    kind: str
    began: DriftState
    strongest: str
    features: str
    carriers: tuple[CarrierRow, ...]
    pictures: tuple[tuple[str, str], ...]
    charts: tuple[str, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class DriveView:
    """A drive on the page; `distributions` are of all of it, in the context that most of it was judged in."""

    number: int
    source: str
    facts: str
    timeline: str
    alarms: tuple[AlarmView, ...]
    context: str
    distributions: tuple[str, ...]
    notes: tuple[str, ...]


def check_page(path: Path) -> None:
    """Find out before the work whether a page can be written there.

    Raises:
        OutputError: it cannot, or its name does not end in .html.
    """
    check_named(path, "a page", ".html", ".htm")


def write_report(drives: Sequence[JudgedDrive], known: Given, path: Path, *, model: ModelFile | None) -> None:
    """Write the page, whole or not at all.

    Args:
        drives: as they were judged.
        known: what was judged by, as its file has it.
        path: the page.
        model: that found what is in the frames; None: the picture alone was judged.

    Raises:
        OutputError: it cannot be written.
    """
    temporary = temporary_beside(path)
    try:
        temporary.write_text(page(drives, known, model), "utf-8", "backslashreplace")
        put_in_place(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


def page(drives: Sequence[JudgedDrive], known: Given, model: ModelFile | None) -> str:
    """Lay the drives out as HTML; for the arguments see `write_report`."""
    reference = known.reference
    environment = page_environment("tools.drift")
    environment.filters.update(figure=number, value=_value, limit=_limit_words, p=_chance)
    views = [_drive(number, drive) for number, drive in enumerate(drives, 1)]
    return environment.get_template("page.html.jinja").render(
        drives=views,
        headline=_headline(drives, reference),
        tiles=_tiles(drives),
        alarm_count=sum(len(drive.alarms) for drive in drives),
        model=model.metadata if model else None,
        reference=reference,
        reference_rows=_reference_rows(drives[0].reference if drives else reference),
        promise=promise_text(reference),
        room=room_text(drives[0].reference if drives else reference),
        no_values=known.no_values,
        origin=known.origin,
        misfits=any(drive.series.misfits is not None for drive in drives),
        windows_tau=" and ".join(f"{times:g}" for times in WINDOWS_TAU),
    )


def alarm_text(drive: JudgedDrive, alarm: Alarm) -> str:
    """An alarm in one line, for a terminal."""
    kind = _kind(alarm.began)
    text = f"{drive.source}: alarm ({kind}): {alarm.began.explanation}"
    exact = [one.exact for one in alarm.distributions if one.exact]
    if exact:
        text += "; exactly: " + ", ".join(f"{label(one.feature)} p {_chance(one.p)}" for one in exact)
    return text


def _headline(drives: Sequence[JudgedDrive], reference: Reference) -> str:
    hours = sum(_seconds(drive) for drive in drives) / 3600
    alarms = [alarm for drive in drives for alarm in drive.alarms]
    driven = f"{_span(3600 * hours)} of driving"
    if not alarms:
        return f"No alarm in {driven}."
    kinds = Counter(_kind(alarm.began) for alarm in alarms)
    if len(alarms) == 1:
        return f"1 alarm in {driven} ({next(iter(kinds))})."
    told = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    return f"{len(alarms)} alarms in {driven}: {told}."


def _tiles(drives: Sequence[JudgedDrive]) -> list[tuple[str, str]]:
    alarms = [alarm for drive in drives for alarm in drive.alarms]
    judged = sum(
        verdict in (Verdict.STABLE, Verdict.UNCALIBRATED, Verdict.ALARM)
        for drive in drives
        for verdict in drive.series.verdicts
    )
    total = sum(len(drive.series.verdicts) for drive in drives)
    tiles = [
        (str(len(alarms)), "alarm" if len(alarms) == 1 else "alarms"),
        (_span(sum(_seconds(drive) for drive in drives)), "of driving"),
        (f"{100 * judged / total:.0f} %" if total else NOTHING, "of it judged; before, windows fill"),
    ]
    changes = [
        alarm.strongest.estimated_map50_change
        for alarm in alarms
        if alarm.strongest.estimated_map50_change is not None
    ]
    if changes:
        tiles.append((f"{min(changes):+.3f}", "mAP50, estimated without labels, at worst"))
    return tiles


def _drive(number: int, drive: JudgedDrive) -> DriveView:
    context, distributions = _whole(drive)
    seconds = _seconds(drive)
    facts = f"{_span(seconds)} of drive, {len(drive.series.times_s):,} frames looked at"
    return DriveView(
        number=number,
        source=drive.source,
        facts=facts,
        timeline=charts.timeline_chart(drive) if len(drive.series.judged_s) else "",
        alarms=tuple(_alarm(place, drive, alarm) for place, alarm in enumerate(drive.alarms, 1)),
        context=context,
        distributions=distributions,
        notes=drive.last.notes if drive.last else (),
    )


def _alarm(number: int, drive: JudgedDrive, alarm: Alarm) -> AlarmView:
    began = alarm.began
    end = "to the end" if alarm.end_s is None else f"to {clock(math.floor(alarm.end_s))}"
    shown = alarm.distributions[:_MOST_DISTRIBUTIONS]
    strongest = alarm.strongest.explanation if alarm.strongest is not began else ""
    return AlarmView(
        number=number,
        title=f"{clock(began.time_ns // 1_000_000_000)} {end}",
        kind=_kind(began)
        if _kind(began) == _kind(alarm.strongest)
        else f"{_kind(began)}, then {_kind(alarm.strongest)}",
        began=began,
        strongest=strongest,
        features=", ".join(label(name) for name in alarm.features),
        carriers=_carriers(drive, alarm),
        pictures=tuple((_moment(shot.after_s), jpeg_uri(shot.jpeg)) for shot in alarm.shots),
        charts=tuple(_distribution(one) for one in shown),
        left_out=len(alarm.distributions) - len(shown),
    )


def _distribution(one: Distribution) -> str:
    words = f"the {one.window_s:.0f} s when the alarm began"
    return charts.distribution_chart(one.reference, one.values, words)


def _carriers(drive: JudgedDrive, alarm: Alarm) -> tuple[CarrierRow, ...]:
    contexts = {context.name: context for context in drive.reference.contexts}
    exact = {(one.context, one.reference.name): one.exact for one in alarm.distributions}
    return tuple(
        CarrierRow(
            one,
            label(one.name),
            _limit(drive.reference, contexts.get(one.context), one),
            exact.get((one.context, one.name)),
        )
        for one in alarm.began.features
        if one.verdict is Verdict.ALARM
    )


def _limit(reference: Reference, context: ContextReference | None, one: FeatureDrift) -> float:
    """The distance at which the alarm begins in the window that was judged by; NaN: there is none."""
    if context is None or not one.window_frames:
        return math.nan
    found = limits(reference, context, one.window_s / one.window_frames)
    for column, feature in enumerate(context.features):
        for window, tail in enumerate(feature.tails):
            if feature.name == one.name and tail.frames == one.window_frames:
                return float(found[window, column])
    return math.nan


def _whole(drive: JudgedDrive) -> tuple[str, tuple[str, ...]]:
    """The context that most frames were judged in, and the distributions of these against it."""
    series = drive.series
    judged = series.contexts[series.contexts >= 0]
    if not len(judged):
        return "", ()
    number = int(np.bincount(judged).argmax())
    context = drive.reference.contexts[number]
    rows = series.values[series.contexts == number]
    found = []
    for column, feature in enumerate(context.features):
        values = rows[:, column][np.isfinite(rows[:, column])]
        if feature.tails and len(values):
            found.append(charts.distribution_chart(feature, values, "all of the drive"))
    return context.name, tuple(found)


def _reference_rows(reference: Reference) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for context in reference.contexts:
        at_limit = limits(reference, context)
        for column, feature in enumerate(context.features):
            if not feature.known:
                continue
            windows = ", ".join(f"{tail.frames / reference.rate_hz:.0f} s" for tail in feature.tails)
            judged = ", ".join(_limit_words(float(limit)) for limit in at_limit[: len(feature.tails), column])
            rows.append(
                (
                    context.name,
                    label(feature.name),
                    figure(feature.mean),
                    figure(feature.sigma),
                    f"{feature.tau / reference.rate_hz:.1f}",
                    windows or "never changed: not judged",
                    judged or NOTHING,
                    _span(feature.frames / reference.rate_hz),
                    "yes" if feature.calibrated(reference.rate_hz) else "no",
                )
            )
    return rows


def _seconds(drive: JudgedDrive) -> float:
    return float(drive.series.times_s[-1] - drive.series.times_s[0])


def _kind(state: DriftState) -> str:
    return state.kind.value.replace("_", " ") if state.kind else "unknown kind"


def _moment(after_s: float) -> str:
    if abs(after_s) < 0.05:
        return "when the alarm began"
    return f"{_span(abs(after_s))} {'after' if after_s > 0 else 'before'}"


def _limit_words(limit: float) -> str:
    """The distance at which an alarm begins; one above 1 is never reached."""
    return "never" if limit > 1 else number(limit, 2)


def _value(value: float) -> str:
    return figure(value) if math.isfinite(value) else NOTHING


def _chance(value: float) -> str:
    """A probability or a rate: `0.031`, `2e-06`."""
    return f"{value:.3g}" if value >= 1e-3 else f"{value:.0e}"


def _span(seconds: float) -> str:
    if round(seconds) < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
