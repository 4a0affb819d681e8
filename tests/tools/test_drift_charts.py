"""The drift report's charts: what is drawn stands where the figures say."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from edge.drift import DriftMonitor, Reference, Verdict, fit
from edge.drift.features import NAMES, ORIGINS
from tests.tools.drift_rows import RATE_HZ, noise, rows
from tools.drift.charts import distribution_chart, timeline_chart
from tools.drift.judged import JudgedDrive
from tools.drift.judging import judge_rows
from tools.drift.limits import limits
from tools.drift.replay import Row


@pytest.fixture(scope="module")
def reference() -> Reference:
    return fit(noise(1, 3_000), RATE_HZ, NAMES, origins=ORIGINS, context="day")


def judged(reference: Reference, step_s: float) -> JudgedDrive:
    drive = noise(2, 900)
    drive[300:500, 0] += 6
    return judge_rows("a drive", rows(drive, step_s), reference, None)


def heights(chart: str, panel: int, tag: str, kind: str, high: int = 34) -> list[float]:
    """How high the marks of a class stand in one of the panels that are `high` pixels, 0 to 1."""
    elements = ElementTree.fromstring(chart)
    panels = [
        one for one in elements.iter("rect") if (one.get("class"), one.get("height")) == ("panel", str(high))
    ]
    floor = float(panels[panel].get("y", "nan")) + high
    found = []
    for one in elements.iter(tag):
        if one.get("class") == kind:
            path = one.get("d")
            points = path[1:].split("L") if path else [f"0,{one.get('y1')}"]
            found += [(floor - float(point.split(",")[1])) / high for point in points]
    return [height for height in found if 0 <= height <= 1]


@pytest.mark.parametrize("step_s", [0.5, 2.0])
def test_each_window_and_the_distance_at_which_its_alarm_begins_is_drawn(
    reference: Reference, step_s: float
) -> None:
    drive = judged(reference, step_s)
    chart = timeline_chart(drive)
    for column in (0, 1, len(NAMES) - 1):
        for window in (0, 1):
            limit = heights(chart, column, "line", f"limit window-{window}")
            drawn = drive.series.limit[:, window, column]
            assert (min(limit), max(limit)) == pytest.approx((drawn.min(), drawn.max()), abs=0.01)
            distance = heights(chart, column, "path", f"distance window-{window}")
            assert max(distance) == pytest.approx(np.nanmax(drive.series.d[:, window, column]), abs=0.01)


@pytest.mark.parametrize("step_s", [0.5, 2.0])
def test_the_share_of_frames_that_fit_no_context_is_drawn_with_its_threshold(
    reference: Reference, step_s: float
) -> None:
    values = noise(7, 700)
    values[300:500] += 60
    drive = judge_rows("lost", rows(values, step_s), reference, None)
    misfits, judged_s = drive.series.misfits, drive.series.judged_s.tolist()
    assert misfits is not None
    monitor = DriftMonitor(reference)
    shown = []
    for row in rows(values, step_s):
        state = monitor.observe(row.time_ns, row.vector)
        for one in () if state is None else state.features:
            if one.name == "unknown_context":
                place = judged_s.index(row.time_ns / 1e9)
                assert misfits.alarming[place] == (one.verdict is Verdict.ALARM)
                assert np.nanmin(np.abs(misfits.shares[place] - one.mean)) < 1e-6
                shown.append(place)
    begins = int(np.flatnonzero(misfits.alarming)[0])
    assert begins in shown
    assert (misfits.shares[begins] >= misfits.limit[begins] - 1e-3).any()
    assert not (misfits.shares[shown[0] : begins] > misfits.limit[shown[0] : begins]).any()
    chart = timeline_chart(drive)
    assert "frames that fit" in chart and "known context in alarm from" in chart
    for window in (0, 1):
        limit = heights(chart, -1, "line", f"limit window-{window}", 54)
        drawn = misfits.limit[:, window]
        assert (min(limit), max(limit)) == pytest.approx((drawn.min(), drawn.max()), abs=0.01)
        shares = heights(chart, -1, "path", f"distance window-{window}", 54)
        assert max(shares) == pytest.approx(np.nanmax(misfits.shares[:, window]), abs=0.01)


def test_limits_are_drawn_at_the_rate_at_which_frames_came(reference: Reference) -> None:
    usual, slow = (judged(reference, step_s).series.limit[-1] for step_s in (0.5, 2.0))
    context = reference.contexts[0]
    np.testing.assert_allclose(usual, limits(reference, context), rtol=1e-6)
    np.testing.assert_allclose(slow, limits(reference, context, 2.0), rtol=1e-2)
    assert (slow < usual - 0.01).all()


def test_charts_draw_gaps_single_values_and_learned_features(reference: Reference) -> None:
    drive = rows(noise(5, 300))
    late = [Row(row.time_ns + 10**12, row.vector, row.frame) for row in rows(noise(6, 300))]
    unlearned = reference.without(["detections"])
    for known in (reference, unlearned):
        assert timeline_chart(judge_rows("gap", [*drive, *late], known, None)).startswith("<svg")
    feature = reference.contexts[0].features[0]
    assert "D 0.97" in distribution_chart(feature, np.array([1e6]), "one value")
