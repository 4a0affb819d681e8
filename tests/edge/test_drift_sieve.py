"""Which frames make a camera's own reference, and when it is fitted: the rules."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.drift.calibration import P_LEVELS, WINDOWS_TAU, Tail
from edge.drift.own import UNSORTED, Fitted
from edge.drift.progress import Progress, progress_text
from edge.drift.reference import ContextReference, FeatureReference, unknown_feature
from edge.drift.sieve import BLUR_S, HOLD_S, PATIENCE_S, Sieve
from edge.drift.state import Origin

S = 10**9
VECTOR = np.zeros(2, np.float32)


def held(sieve: Sieve, seconds: range, context: str, **alarm: bool) -> None:
    flags = {"by_prior": False, "by_own": False, **alarm}
    for second in seconds:
        sieve.add(second * S, VECTOR, context, **flags)


def seconds_of(sieve: Sieve) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for usual in sieve.take():
        found.setdefault(usual.context, []).append(usual.time_ns // S)
    return found


def test_what_came_shortly_before_an_alarm_does_not_count() -> None:
    sieve = Sieve(60.0)
    held(sieve, range(1000), "day")
    held(sieve, range(1000, 1500), "day", by_prior=True)
    held(sieve, range(1500, 2000), "day")
    sieve.end()
    assert seconds_of(sieve)["day"] == [*range(1000 - round(HOLD_S)), *range(1500, 2000)]


def test_what_lies_across_a_change_of_context_is_of_neither() -> None:
    sieve = Sieve(60.0)
    held(sieve, range(300), "day")
    held(sieve, range(300, 400), "night")
    held(sieve, range(400, 500), "")
    held(sieve, range(500, 600), "day")
    sieve.end()
    blur = round(BLUR_S)
    assert seconds_of(sieve) == {
        "day": [*range(300 - blur), *range(500, 600)],
        "night": [*range(300, 400 - blur)],
    }


def test_a_gap_and_a_time_that_goes_back_end_a_stretch() -> None:
    sieve = Sieve(60.0)
    held(sieve, range(100), "day")
    held(sieve, range(1000, 1100), "night")  # nothing is blurred over a gap
    held(sieve, range(50), "night")
    sieve.end()
    assert seconds_of(sieve) == {"day": [*range(100)], "night": [*range(1000, 1100), *range(50)]}


def test_a_prior_that_never_fits_is_not_believed_for_ever() -> None:
    sieve = Sieve(3600.0)
    day = round(PATIENCE_S)
    held(sieve, range(0, day + 601, 600), "", by_prior=True)
    assert not sieve.has_patience and not seconds_of(sieve).get("day")
    held(sieve, range(day + 1200, day + 6000, 600), "", by_prior=True)
    held(sieve, range(day + 6000, day + 9000, 600), "", by_own=True)
    sieve.end()
    found = seconds_of(sieve)
    assert set(found) == {UNSORTED}, "kept apart from what is known"
    assert max(found[UNSORTED]) < day + 6000, "its own alarm counts always"


@given(
    st.lists(
        st.tuples(st.integers(0, 90), st.sampled_from(["", "day", "night"]), st.booleans()), max_size=200
    )
)
def test_frames_come_through_once_in_order_and_none_in_alarm(steps: list[tuple[int, str, bool]]) -> None:
    sieve, now = Sieve(60.0), 0
    seen: dict[int, tuple[str, bool]] = {}
    for passed, context, alarm in steps:
        now += passed + 1
        seen[now] = (context, alarm)
        sieve.add(now * S, VECTOR, context, by_prior=alarm, by_own=False)
    sieve.end()
    through = [(usual.time_ns // S, usual.context) for usual in sieve.take()]
    assert [at for at, _ in through] == sorted({at for at, _ in through})
    assert all(seen[at] == (context, False) for at, context in through)


hours = st.floats(0, 40)


@given(hours, hours, hours, st.floats(0.1, 40))
def test_a_fit_ends_in_progress(waiting: float, model: float, fitted: float, asked: float) -> None:
    """Nothing is fitted twice of the same frames."""
    model = min(model, waiting)
    before = Progress("day", waiting, model, Fitted(fitted, min(fitted, 1.0)))
    next_fit = before.next_fit(asked)
    assert next_fit is None or next_fit > min(fitted, 1.0)
    if before.is_due(asked):
        after = Progress("day", waiting, model, Fitted(max(fitted, waiting), max(1.0, model)))
        assert not after.is_due(asked)
    if next_fit is None:
        assert not before.is_due(asked) and not before.wants(asked)


def test_it_is_fitted_after_4_8_16_and_24_hours() -> None:
    steps, fitted = [], Fitted()
    for quarter in range(4 * 30):
        progress = Progress("day", quarter / 4, quarter / 4, fitted)
        if progress.is_due(24.0):
            fitted = Fitted(quarter / 4, quarter / 4)
            steps.append(quarter / 4)
    assert steps == [4.0, 8.0, 16.0, 24.0]


def slow_feature(tau_s: float) -> FeatureReference:
    tails = tuple(Tail(length, -9.0, 1.0, (0.1,) * len(P_LEVELS)) for length in WINDOWS_TAU)
    some = np.array([0.5])
    return FeatureReference(
        "brightness", Origin.PICTURE, 9000, 9, 0.0, 1.0, 0.1, 0.0, tau_s * 2, some, some, some, tails
    )


def test_progress_is_told_in_hours_and_autocorrelation_times() -> None:
    features = (slow_feature(24.4), unknown_feature("count", Origin.DETECTIONS))
    judged = ContextReference("day", features, 1.0)
    early = Progress("day", 2.1, 2.1, Fitted())
    assert (
        progress_text(early, 24.0, judged, 2.0)
        == "2.1 of 4 h, 310 of 500 autocorrelation times of brightness"
    )
    assert progress_text(early, 24.0, None, 2.0) == "2.1 of 4 h"
    late = Progress("day", 9.0, 9.0, Fitted(8.0, 8.0))
    assert progress_text(late, 24.0, judged, 2.0) == "9.0 of 16 h"
    anew = Progress("day", 0.3, 0.3, Fitted(24.0, 0.0))
    assert progress_text(anew, 24.0, judged, 2.0) == "0.3 of 4 h of what the new model finds"
    assert progress_text(Progress("day", 0.0, 0.0, Fitted(24.0, 24.0)), 24.0, judged, 2.0) == ""
