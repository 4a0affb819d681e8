"""What the demonstration set out to show, beside what it showed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tools.demo.findings import Findings, Span, finite, score
from tools.demo.record import DemoRecord, Score

NIGHT_GAIN = 1.5  # mAP50 by night, new model to old
DAY_LOSS = 0.02  # mAP50
ALARM_WITHIN_S = 120.0  # of drive, after dusk begins
RESIDENT_MB = 350.0

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Promise:
    """One thing.

    Attributes:
        what: it is about.
        asked: the bound, for people.
        seen: the figure, for people.
        kept: whether it holds; None: it was not measured.
    """

    what: str
    asked: str
    seen: str
    kept: bool | None

    def to_json(self) -> dict[str, Any]:
        """Give JSON-able values."""
        return {**asdict(self), "kept": None if self.kept is None else bool(self.kept)}  # not numpy's


def promises(record: DemoRecord, found: Findings) -> tuple[Promise, ...]:
    """Compare the record with what was promised for its mode.

    Args:
        record: of the run.
        found: in it.
    """
    accuracy = _simulated(record, found.night_gain) if record.mode == "simulated" else _real(record)
    alarms, first = found.alarms, found.alarm_after_s
    resident = finite(record.edge.get("peak_resident_mb"))
    lost = record.swap.frames_lost
    return (
        *accuracy,
        Promise("frames lost by the swap", "0", str(lost), lost == 0),
        _quiet("false alarms by day", alarms.by_day, found.judged_by_day_s),
        Promise(
            "alarm after dusk",
            f"within {ALARM_WITHIN_S:.0f} s of drive",
            "none" if first is None else f"after {first:.0f} s",
            first is not None and first <= ALARM_WITHIN_S,
        ),
        _quiet("alarms at night under the new model", alarms.after_swap, found.judged_s),
        Promise(
            "memory of the vehicle's process",
            f"under {RESIDENT_MB:.0f} MB",
            "not measured" if resident is None else f"{resident:.0f} MB at most",
            None if resident is None else resident < RESIDENT_MB,
        ),
    )


def _quiet(what: str, alarms: Sequence[Span], judged_s: float) -> Promise:
    """No alarm; where the monitor judged nothing, that says nothing."""
    kept = False if alarms else True if judged_s > 0 else None
    return Promise(what, "0", f"{len(alarms)} in {judged_s:.0f} s judged", kept)


def _simulated(record: DemoRecord, gain: float | None) -> tuple[Promise, ...]:
    before, after = (score(model, "day") for model in (record.baseline, record.candidate))
    change = after.map50 - before.map50 if before and after else None
    return (
        Promise(
            "mAP50 by night",
            f"at least {NIGHT_GAIN:g} times the baseline's",
            "not measured" if gain is None else f"{gain:.2f} times",
            None if gain is None else gain >= NIGHT_GAIN,
        ),
        Promise(
            "mAP50 by day",
            f"not worse by more than {DAY_LOSS:g}",
            "not measured" if change is None else f"{change:+.3f}",
            None if change is None else change >= -DAY_LOSS - _ROUNDING,
        ),
    )


def _real(record: DemoRecord) -> tuple[Promise, ...]:
    night_before, night_after = (score(model, "night") for model in (record.baseline, record.candidate))
    day_before, day_after = (score(model, "day") for model in (record.baseline, record.candidate))
    return (
        _change("mAP50 by night", "up", night_before, night_after, lambda old, new: new.map50 > old.map50),
        _change(
            "mAP50 by day",
            "kept within the baseline's interval",
            day_before,
            day_after,
            lambda old, new: new.map50 >= old.low,
        ),
    )


def _change(
    what: str, asked: str, old: Score | None, new: Score | None, kept: Callable[[Score, Score], bool]
) -> Promise:
    if old is None or new is None:
        return Promise(what, asked, "not measured", None)
    return Promise(what, asked, f"{old.map50:.3f} to {new.map50:.3f}", kept(old, new))
