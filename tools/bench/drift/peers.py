"""Ours beside what others publish: the same streams, the same features, in turns.

A detector with several features alarms where any of them does, and may alarm again 20 s later. A delay says
something only beside the wait for a false alarm: who alarms every 20 s is never far from a change either.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge.drift import DriftMonitor, Reference
from tools.bench.drift.delay import Shift, changed_series, spread, steady
from tools.bench.drift.onsets import fill_frames
from tools.bench.drift.outcome import Outcome
from tools.bench.drift.peer_processes import PEERS, PeerProcess, Taken
from tools.bench.drift.promise import LONG_HOURS, finite, make_reference
from tools.bench.drift.setting import TARGET_HOURS, DriftSettings, Progress
from tools.bench.drift.streams import JUDGED, JUDGED_SEEDS, Family, Series, ar1
from tools.bench.report import Table
from tools.bench.rounds import BenchError

OURS = "this project"
FEATURES = 8
_CHUNK_S = 600.0
_PEER_WARM = 300  # frames that peers see before it counts: their windows are full; ours is given all it wants
_AFTER_S = 240.0
_TRIALS = 20
_SEED = 9_970
INDEPENDENT = Family("independent frames", 1.0, lambda rng, n, f: ar1(rng, 0.0, n, f))
FAMILIES = (INDEPENDENT, *JUDGED[:3], JUDGED[4])
SHIFTS = (
    Shift(FEATURES, 1, 2.0),
    Shift(FEATURES, 2, 2.0),
    Shift(FEATURES, 1, 0.0),  # the wait for a false alarm
)


class Contender(Protocol):
    """A detector on one stream after another."""

    def begin(self, reference: npt.NDArray[np.float32], rate_hz: float) -> None:
        """Begin anew."""

    def take(self, frames: npt.NDArray[np.float32]) -> Taken:
        """The next frames."""


class Ours:
    """The monitor, frame after frame."""

    def __init__(self) -> None:
        """Begin with no stream."""
        self.known: Reference | None = None

    def begin(self, reference: npt.NDArray[np.float32], rate_hz: float) -> None:
        """Begin anew with the reference `known`, which was made of these frames."""
        assert self.known is not None
        self._monitor = DriftMonitor(self.known)
        self._period_ns, self._frame, self._alarm = 1e9 / rate_hz, 0, False

    def take(self, frames: npt.NDArray[np.float32]) -> Taken:
        """The next frames: at which an alarm began."""
        onsets = []
        started = time.process_time()
        for number, vector in enumerate(frames):
            state = self._monitor.observe(round((self._frame + number) * self._period_ns), vector)
            if state is not None:
                if state.alarm and not self._alarm:
                    onsets.append(number)
                self._alarm = state.alarm
        spent = time.process_time() - started
        self._frame += len(frames)
        return Taken(np.array(onsets, np.int64), spent)


@dataclass(slots=True)
class Found:
    """What one contender came to.

    Attributes:
        alarms_per_hour: of each family of streams without a change, by its name.
        delays_s: of each shift, a trial each; infinite where there was no alarm.
        us_a_frame: processor time of the streams without a change, of each family.
    """

    alarms_per_hour: dict[str, float] = field(default_factory=dict)
    delays_s: dict[Shift, list[float]] = field(default_factory=dict)
    us_a_frame: dict[str, float] = field(default_factory=dict)

    @property
    def mean_us(self) -> float:
        """Of all families."""
        return float(np.mean(list(self.us_a_frame.values())))


def measure_peers(settings: DriftSettings, progress: Progress) -> Outcome:
    """Run all that can be had in turns on the same streams."""
    families = FAMILIES[1:2] if settings.quick else FAMILIES
    hours = 0.1 if settings.quick else settings.peer_hours
    trials = 1 if settings.quick else _TRIALS
    known_hours = 0.0 if settings.quick else LONG_HOURS
    of, done = len(families) * _chunks(hours) + len(SHIFTS) * trials, 0
    with tempfile.TemporaryDirectory(prefix="traffic-vision-bench-") as name, ExitStack() as opened:
        contenders, releases, missing = _open(settings, Path(name), opened)
        ours = contenders[OURS]
        assert isinstance(ours, Ours)
        found = {name: Found() for name in contenders}
        for number, family in enumerate(families):
            for _ in _without_change(family, number, hours, known_hours, ours, contenders, found):
                progress(done := done + 1, of)
        reference, values = _reference(steady(), JUDGED_SEEDS[_SEED + 20], known_hours)
        ours.known = reference
        for shift in SHIFTS:
            for trial in range(trials):
                _trial(shift, trial, reference, values, contenders, found)
                progress(done := done + 1, of)
    return _outcome(found, releases, missing, hours, trials)


def _open(
    settings: DriftSettings, scratch: Path, opened: ExitStack
) -> tuple[dict[str, Contender], dict[str, str], dict[str, str]]:
    """Ours and the peers that start; releases by name, and why others are not there."""
    contenders: dict[str, Contender] = {OURS: Ours()}
    releases, missing = {}, {}
    for peer in PEERS:
        try:
            process = opened.enter_context(PeerProcess(peer, settings.peers, scratch))
        except BenchError as error:
            missing[peer.name] = str(error)
        else:
            contenders[peer.name], releases[peer.name] = process, process.release
    return contenders, releases, missing


def _reference(family: Family, seed: int, hours: float) -> tuple[Reference, Series]:
    reference, hours = make_reference(family, seed, FEATURES, hours)
    return reference, family.series(seed, 0, round(hours * 3600 * family.rate_hz), FEATURES)


def _without_change(
    family: Family,
    number: int,
    hours: float,
    known_hours: float,
    ours: Ours,
    contenders: Mapping[str, Contender],
    found: Mapping[str, Found],
) -> Iterator[None]:
    """Count alarms and time, chunk by chunk, each contender in turn."""
    reference, values = _reference(family, JUDGED_SEEDS[_SEED + number], known_hours)
    ours.known = reference
    fill = max(_PEER_WARM, fill_frames(reference))
    frames = round(hours * 3600 * family.rate_hz)
    series = family.series(JUDGED_SEEDS[_SEED + number], 1, fill + frames, FEATURES)
    for contender in contenders.values():
        contender.begin(values, family.rate_hz)
        contender.take(series[:fill] if contender is ours else series[fill - _PEER_WARM : fill])
    alarms, cpu_s = dict.fromkeys(contenders, 0), dict.fromkeys(contenders, 0.0)
    for turn, chunk in enumerate(np.array_split(series[fill:], _chunks(hours))):
        for name in _rotated(contenders, turn):
            taken = contenders[name].take(chunk)
            alarms[name] += len(taken.alarms)
            cpu_s[name] += taken.cpu_s
        yield
    for name in contenders:
        found[name].alarms_per_hour[family.name] = alarms[name] / hours
        found[name].us_a_frame[family.name] = 1e6 * cpu_s[name] / frames


def _trial(
    shift: Shift,
    trial: int,
    reference: Reference,
    values: Series,
    contenders: Mapping[str, Contender],
    found: Mapping[str, Found],
) -> None:
    """Time each contender's first alarm after one change."""
    family = steady()
    calm = max(_PEER_WARM, fill_frames(reference))
    frames = calm + round(_AFTER_S * family.rate_hz)
    series, _ = changed_series(family, JUDGED_SEEDS[_SEED + 20], trial, calm, frames, shift)
    for name in _rotated(contenders, trial):
        contender = contenders[name]
        contender.begin(values, family.rate_hz)
        contender.take(series[:calm] if isinstance(contender, Ours) else series[calm - _PEER_WARM : calm])
        alarms = contender.take(series[calm:]).alarms
        delay = float(alarms[0] + 1) / family.rate_hz if len(alarms) else math.inf
        found[name].delays_s.setdefault(shift, []).append(delay)


def _chunks(hours: float) -> int:
    return max(1, math.ceil(hours * 3600 / _CHUNK_S))


def _rotated(contenders: Mapping[str, Contender], turn: int) -> list[str]:
    names = list(contenders)
    first = turn % len(names)
    return names[first:] + names[:first]


def _outcome(
    found: Mapping[str, Found],
    releases: Mapping[str, str],
    missing: Mapping[str, str],
    hours: float,
    trials: int,
) -> Outcome:
    columns, waits = _columns(found), _false_alarm_waits(found)
    rows: list[list[str | float | None]] = []
    for name in found:
        cells: list[str | float | None] = [name]
        for values in columns.values():
            best = min(values.values())
            text = _text(values[name])
            cells.append(f"{text} *" if values[name] == best and math.isfinite(best) else text)
        rows.append([*cells, f"{waits[name]:.4g}" if math.isfinite(waits[name]) else f"> {_AFTER_S:g}"])
    rows += [[name, *["-"] * (len(columns) + 1)] for name in missing]
    notes = [
        "* the best of its column; alarms are those an hour of a stream without a change (this project"
        f" promises {1 / TARGET_HOURS:.2f}, and part promise counts them over more hours)"
    ]
    notes += [f"{name}: {why}" for name, why in missing.items()]
    notes += better(columns)
    return Outcome(
        figures={
            "hours_a_family": hours,
            "trials": trials,
            "releases": dict(releases),
            "not_measured": dict(missing),
            "contenders": {
                name: {column: finite(values[name]) for column, values in columns.items()} for name in found
            },
            "false_alarm_wait_s": {name: finite(wait) for name, wait in waits.items()},
            "us_a_frame": {
                name: {family: round(us, 1) for family, us in each.us_a_frame.items()}
                for name, each in found.items()
            },
        },
        tables=[
            Table(
                f"peers: {FEATURES} features, {hours:g} h of each family, {trials} trials a change",
                ("detector", *columns, "s to a false alarm, median"),
                rows,
            )
        ],
        notes=notes,
    )


def better(columns: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Where another is better than ours, a line each; all columns are the better the smaller."""
    lines = []
    for column, values in columns.items():
        ours = values[OURS]
        ahead = {name: value for name, value in values.items() if value < ours}
        if ahead:
            ranked = sorted(ahead.items(), key=lambda one: one[1])
            told = ", ".join(f"{name} {value:.4g}" for name, value in ranked)
            lines.append(f"better than ours in '{column}' (ours {_text(ours)}): {told}")
    return lines


def _columns(found: Mapping[str, Found]) -> dict[str, dict[str, float]]:
    """What is compared: by column, then by contender."""
    first = found[OURS]
    columns = {
        f"alarms/h {family}": {name: each.alarms_per_hour[family] for name, each in found.items()}
        for family in first.alarms_per_hour
    }
    for shift in first.delays_s:
        if shift.sigma:
            for label, share in (("median", 0.5), ("p90", 0.9)):
                columns[f"s to {shift.changed} by {shift.sigma:g} sigma, {label}"] = {
                    name: spread(each.delays_s[shift], share) for name, each in found.items()
                }
    columns["us a frame"] = {name: each.mean_us for name, each in found.items()}
    return columns


def _false_alarm_waits(found: Mapping[str, Found]) -> dict[str, float]:
    """Seconds from any moment to a false alarm, median, by contender."""
    return {
        name: spread(each.delays_s[shift], 0.5)
        for name, each in found.items()
        for shift in each.delays_s
        if not shift.sigma
    }


def _text(value: float) -> str:
    return "none" if math.isinf(value) else f"{value:.4g}"
