"""The drift report: what it shows is what the monitor said, on one page that needs nothing else."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from edge.drift import DriftMonitor, Reference, Verdict, fit
from edge.drift.features import NAMES, ORIGINS
from edge.errors import TrafficVisionError
from edge.perception.jpeg import jpeg_size
from tests.tools.drift_rows import RATE_HZ, noise, rows
from tests.tools.html_page import Page
from tools.drift.exact import confirm
from tools.drift.given import Given
from tools.drift.judged import JudgedDrive
from tools.drift.judging import judge_rows, picture_only
from tools.drift.report import page
from tools.drift.values import MOST_VALUES, Values, ValuesError, load_values, save_values, thinned, values_of
from tools.drift.words import UNITS, figure


@pytest.fixture(scope="module")
def reference() -> Reference:
    return fit(noise(1, 3_000), RATE_HZ, NAMES, origins=ORIGINS, context="day")


@pytest.fixture(scope="module")
def values(reference: Reference) -> Values:
    return values_of(reference, [noise(1, 3_000)])


@pytest.fixture(scope="module")
def moved() -> np.ndarray:
    """Half a drive as it was, then the first feature is higher, then as it was."""
    drive = noise(2, 900)
    drive[300:500, 0] += 6
    return drive


@pytest.fixture(scope="module")
def judged(reference: Reference, values: Values, moved: np.ndarray) -> JudgedDrive:
    return judge_rows("a drive", rows(moved), reference, values)


@pytest.mark.parametrize("step_s", [0.5, 2.0])
def test_what_is_drawn_is_what_the_monitor_says(
    reference: Reference, moved: np.ndarray, step_s: float
) -> None:
    monitor = DriftMonitor(reference)
    states = [monitor.observe(row.time_ns, row.vector) for row in rows(moved, step_s)]
    told = [state for state in states if state is not None]
    series = judge_rows("a drive", rows(moved, step_s), reference, None).series
    assert series.verdicts == tuple(state.verdict for state in told)
    tails = {feature.name: feature.tails for feature in reference.contexts[0].features}
    for place, state in enumerate(told):
        for one in state.features:
            if one.context != "day":
                continue
            column = NAMES.index(one.name)
            assert series.alarming[place, column] == (one.verdict is Verdict.ALARM)
            if not one.window_s:
                assert np.isnan(series.d[place, :, column]).all()
                continue
            window = [tail.frames for tail in tails[one.name]].index(one.window_frames)
            distance = series.d[place, window, column]
            assert distance == pytest.approx(one.d, abs=1e-6)
            if one.verdict is not Verdict.ALARM:
                assert distance <= series.limit[place, window, column] + 1e-6
    # The limits are those at which it begins: some window is beyond its own at the first alarm.
    first = next(place for place, state in enumerate(told) if state.alarm)
    assert (series.d[first] >= series.limit[first] - 1e-6).any()
    assert not (series.d[:first] >= series.limit[:first] + 1e-6).any()


def test_an_alarm_has_words_frames_and_the_exact_test(judged: JudgedDrive) -> None:
    alarm = judged.alarms[0]
    assert alarm.began.explanation.startswith("brightness ")
    assert alarm.began.kind is not None
    assert alarm.end_s is not None and alarm.end_s > 250
    assert alarm.features[0] == "brightness"
    assert [shot.after_s for shot in alarm.shots] == [-60.0, -5.0, 0.0, 5.0]
    assert all(jpeg_size(shot.jpeg) == (24, 320) for shot in alarm.shots)
    first = alarm.distributions[0]
    exact = first.exact
    assert exact is not None and exact.feature == "brightness"
    assert exact.p < 1e-3
    assert exact.n < len(first.values)


def test_a_quiet_drive_has_no_alarm(reference: Reference) -> None:
    assert judge_rows("quiet", rows(noise(3, 200)), reference, None).alarms == ()


def test_a_drive_without_a_frame_is_refused(reference: Reference) -> None:
    with pytest.raises(TrafficVisionError, match="gave no frame"):
        judge_rows("nothing", [], reference, None)


def test_without_a_model_the_picture_alone_is_judged(reference: Reference) -> None:
    left = picture_only(reference)
    assert set(left.names) == {
        name for name, origin in zip(NAMES, ORIGINS, strict=True) if origin == "picture"
    }
    with pytest.raises(TrafficVisionError, match="--model"):
        picture_only(reference.without(["picture"]))


@given(
    window=st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=60),
    reference=st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=200),
    tau=st.floats(0.1, 30),
)
@settings(max_examples=40)
def test_the_exact_test_is_scipy_s_on_values_a_tau_apart(
    window: list[float], reference: list[float], tau: float
) -> None:
    found = confirm("brightness", "day", np.array(window, np.float32), tau, np.array(reference, np.float32))
    step = int(np.ceil(tau))
    sample = window[len(window) - 1 :: -step]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = ks_2samp(sample, reference)
    assert (found.n, found.m) == (len(sample), len(reference))
    assert (found.d, found.p) == pytest.approx((expected.statistic, expected.pvalue))


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=4), st.floats(1, 50), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_thinned_values_are_a_tau_apart_and_not_too_many(lengths: list[int], tau: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = iter(np.split(np.arange(sum(lengths), dtype=np.float32), np.cumsum(lengths)[:-1]))
    drives = [np.where(rng.random(len(drive)) < 0.1, np.nan, drive) for drive in numbers]
    kept = thinned(drives, tau)
    assert len(kept) <= MOST_VALUES and np.isfinite(kept).all()
    begins = np.cumsum([0, *lengths])
    for begin, end in pairwise(begins.tolist()):
        inside = kept[(kept >= begin) & (kept < end)]
        assert len(np.unique(inside)) == len(inside)
        assert (np.diff(inside) >= tau).all()


def test_values_come_back_as_they_were_and_for_their_reference_alone(
    tmp_path: Path, reference: Reference, values: Values
) -> None:
    path = tmp_path / "day.values.npz"
    save_values(values, reference, path)
    back = load_values(path, reference)
    assert {key: array.tolist() for key, array in back.of.items()} == {
        key: array.tolist() for key, array in values.of.items()
    }
    other = fit(noise(4, 200), RATE_HZ, NAMES, origins=ORIGINS, context="day")
    with pytest.raises(ValuesError, match="another reference"):
        load_values(path, other)
    with pytest.raises(ValuesError, match="cannot read"):
        load_values(tmp_path / "nowhere.npz", reference)


@given(st.data())
@settings(max_examples=40)
def test_a_damaged_file_of_values_is_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, reference: Reference, values: Values, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("values") / "day.values.npz"
    save_values(values, reference, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        load_values(path, reference)
    except ValuesError as error:
        assert "day.values.npz" in str(error)


def test_every_feature_that_is_drawn_has_a_unit() -> None:
    assert all(name in UNITS for name in NAMES if not name.startswith("embedding"))
    assert all(len(words) <= 26 for words in UNITS.values())  # room beside the charts


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_figures_are_short(value: float) -> None:
    assert abs(float(figure(value)) - value) <= abs(value) / 20
    assert float(figure(value)) or figure(value) == "0"


def test_what_is_of_no_context_or_of_one_that_was_left_is_shown(reference: Reference) -> None:
    """All features jump far: the share of frames that fit no context is in alarm beside them."""
    drive = noise(7, 900)
    drive[300:] += 60
    judged = judge_rows("lost", rows(drive), reference, None)
    assert "unknown_context" in judged.alarms[0].features
    text = page([judged], Given(reference, "", None, "there are none"), None)
    assert not Page(text).open and "frames that fit no known context" in text
    row = "The last row counts the frames"
    assert row in text
    without = replace(judged, series=replace(judged.series, misfits=None))
    assert row not in page([without], Given(reference, "", None, "there are none"), None)


def test_several_alarms_are_listed_first(reference: Reference) -> None:
    """One drive that changes twice, and one that is quiet."""
    twice = noise(8, 900)
    twice[300:400, 0] += 6
    twice[700:800, 1] -= 6
    drives = [judge_rows(name, rows(values), reference, None) for name, values in (
        ("twice", twice), ("quiet", noise(9, 200)))]  # fmt: skip
    assert [len(drive.alarms) for drive in drives] == [2, 0]
    text = page(drives, Given(reference, "", None, "there are none"), None)
    found = Page(text)
    targets = [uri for uri in found.uris if uri.startswith("#alarm")]
    assert targets == ["#alarm-1-1", "#alarm-1-2"]
    assert all(f'id="{target[1:]}"' in text for target in targets)
