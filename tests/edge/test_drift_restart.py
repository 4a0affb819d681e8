"""A monitor goes on after a restart of the daemon where it was; nothing in its file is trusted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.drift import DriftMonitor, DriftReferenceError, Verdict, combine, unlearned
from tests.edge.drift_drives import DAY, NAMES, NIGHT, RATE_HZ, drive, feature, reference_of, watch
from tests.edge.drift_streams import ar1


def test_a_restarted_monitor_goes_on_where_it_was() -> None:
    series = np.concatenate([drive(700), drive(701, level=-12.0)])
    whole, first, second = (DriftMonitor(combine(DAY, NIGHT), learn_s=60) for _ in range(3))
    for monitor in (whole, first):
        monitor.model_changed()
    expected = watch(whole, series)
    watch(first, series[:200])
    second.restore(first.to_bytes())
    rest = watch(second, series[200:], start_s=100)
    assert second.reference.digest == whole.reference.digest
    assert [state.verdict for state in rest[20:]] == [state.verdict for state in expected[120:]]
    for left, right in zip(rest[-1].features, expected[-1].features, strict=True):
        assert (left.name, left.verdict, left.d) == (right.name, right.verdict, pytest.approx(right.d))


def test_an_alarm_stands_since_the_same_moment_after_a_restart() -> None:
    series = drive(702, seconds=240)
    series[200:, 0] += 6
    first, second = DriftMonitor(DAY), DriftMonitor(DAY)
    since = feature(watch(first, series)[-1], "light").since_ns
    assert since > 0
    second.restore(first.to_bytes())
    assert feature(watch(second, series[-20:], start_s=240)[-1], "light").since_ns == since
    # A file from before this was kept: the alarm stands, since it was read.
    document = json.loads(first.to_bytes())
    for context in document["contexts"]:
        del context["alarmed_ns"]
    older = DriftMonitor(DAY)
    older.restore(json.dumps(document).encode())
    state = watch(older, series[-20:], start_s=240)[0]
    assert state.alarm
    assert feature(state, "light").since_ns == state.time_ns


def test_what_a_restart_finds_is_all_that_was_known() -> None:
    """A feature that takes long to learn is not asked about again, and what was infinite is still said."""
    rng = np.random.default_rng(0)
    series = np.concatenate([ar1(rng, 0.9, 3600, 1), ar1(rng, 0.0, 3600, 2)], axis=1)
    series[150, 2] = np.inf
    series[160:190, 1] = np.nan
    whole, first, second = (DriftMonitor(unlearned(RATE_HZ, NAMES), learn_s=30) for _ in range(3))
    expected = watch(whole, series)
    before = watch(first, series[:200])
    assert feature(before[-1], "light").verdict is Verdict.LEARNING
    assert before[-1].verdict is Verdict.UNCALIBRATED
    second.restore(first.to_bytes())
    after = watch(second, series[200:], start_s=100)
    assert any("infinite" in note and "cars" in note for note in after[0].notes)
    assert after == expected[len(before) :]
    assert second.reference.digest == whole.reference.digest


def test_a_file_from_before_all_was_kept_is_read() -> None:
    first, second = DriftMonitor(DAY, learn_s=30), DriftMonitor(DAY, learn_s=30)
    first.model_changed()
    watch(first, ar1(np.random.default_rng(0), 0.9, 120, 3))
    document = json.loads(first.to_bytes())
    for context in document["contexts"]:
        assert context.pop("needed") and context.pop("infinite")
    second.restore(json.dumps(document).encode())
    (found,) = second.snapshot().contexts
    assert found.needed == {} and not found.infinite.any()
    np.testing.assert_array_equal(found.learning[2], first.snapshot().contexts[0].learning[2])


def test_no_file_makes_a_feature_wait_for_ever() -> None:
    document = json.loads(SAVED)
    document["contexts"][0]["needed"] = {"2": 2**62}
    monitor = DriftMonitor(DAY)
    monitor.restore(json.dumps(document).encode())
    assert monitor.snapshot().contexts[0].needed == {2: 10 * 3600 * RATE_HZ}


@pytest.mark.parametrize("damage", [{"needed": {"0": 100}}, {"needed": {"2": 0}}, {"infinite": [True]}])
def test_what_does_not_fit_the_reference_is_refused(damage: dict[str, object]) -> None:
    document = json.loads(SAVED)
    document["contexts"][0].update(damage)
    with pytest.raises(DriftReferenceError, match="not a saved drift monitor"):
        DriftMonitor(DAY).restore(json.dumps(document).encode())


def test_a_saved_monitor_of_another_reference_is_refused() -> None:
    with pytest.raises(DriftReferenceError, match="another reference"):
        DriftMonitor(NIGHT).restore(DriftMonitor(DAY).to_bytes())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_saved_monitor_is_refused_or_works(data: st.DataObject) -> None:
    damaged = bytearray(SAVED)
    position = data.draw(st.integers(0, len(damaged) - 1))
    if data.draw(st.booleans()):
        damaged[position] = data.draw(st.integers(0, 255))
    else:
        del damaged[position : position + data.draw(st.integers(1, 9000))]
    monitor = DriftMonitor(DAY)
    try:
        monitor.restore(bytes(damaged))
    except DriftReferenceError:
        return
    watch(monitor, drive(1, seconds=5), start_s=60)


def _saved() -> bytes:
    monitor = DriftMonitor(DAY, learn_s=600)
    monitor.model_changed()
    watch(monitor, drive(2, seconds=60))
    return monitor.to_bytes()


SAVED = _saved()


def test_what_became_known_is_known_after_a_restart_and_no_more_than_that() -> None:
    monitor = DriftMonitor(combine(DAY, NIGHT).without(["detections"]))
    watch(monitor, drive(50, 100))
    monitor.know(DAY)
    again = DriftMonitor(combine(DAY, NIGHT).without(["detections"]))
    again.restore(monitor.to_bytes())
    assert [one.features[2].known for one in again.reference.contexts] == [True, False]
    assert again.snapshot().reference.digest == monitor.reference.digest
    before = again.reference.digest
    again.know(reference_of("day", 40.0, seed=3))
    assert again.reference.digest == before, "what is judged already stays what it was"
