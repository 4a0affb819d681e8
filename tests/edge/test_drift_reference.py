from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.drift import (
    DriftMonitor,
    DriftReferenceError,
    Origin,
    Reference,
    Scope,
    align,
    combine,
    fit,
    scan,
    unlearned,
)
from edge.drift.calibration import quantile_edges
from edge.drift.distances import distance
from edge.drift.drop import DropModel
from edge.drift.features import NAMES as WATCHED
from edge.drift.features import ORIGINS as WATCHED_ORIGINS
from edge.drift.features import fleet_prior, watched_reference
from edge.drift.reference_file import PLAIN
from tests.edge.drift_references import DATA, NAMES, OLD_FILE, ORIGINS, REFERENCE, made, refused
from tests.edge.drift_streams import ar1

PLAIN_DATA = REFERENCE.to_bytes(PLAIN)


def changed(change: dict[str, object], *path: str | int) -> bytes:
    document = json.loads(PLAIN_DATA)
    part = document
    for key in path:
        part = part[key]
    part.update(change)
    return json.dumps(document).encode()


def test_a_reference_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    REFERENCE.save(path)
    loaded = Reference.load(path)
    assert loaded.digest == REFERENCE.digest
    assert loaded.to_bytes() == DATA
    assert loaded.names == tuple(NAMES)
    for one, other in zip(loaded.contexts, REFERENCE.contexts, strict=True):
        assert (one.name, one.misfit) == (other.name, other.misfit)
        for left, right in zip(one.features, other.features, strict=True):
            np.testing.assert_array_equal(left.edges, right.edges)
            np.testing.assert_array_equal(left.lower, right.lower)
            np.testing.assert_array_equal(left.upper, right.upper)
            assert left.tails == right.tails


def test_the_same_drives_and_seed_give_the_same_bytes() -> None:
    assert made().to_bytes() == made().to_bytes()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-1000, 1000, width=32) | st.integers(0, 9).map(float), min_size=60, max_size=300),
    st.lists(st.floats(-1000, 1000, width=32), min_size=20, max_size=60),
)
def test_coarse_edges_make_no_distance_less_exact(values: list[float], window: list[float]) -> None:
    """By bins at any edges, D is the largest difference at these edges; it is here, to what shares keep."""
    feature = fit(np.array(values)[:, None], 1.0, ["a"]).contexts[0].features[0]
    if not feature.tails:
        return
    seen, known = np.array(window, np.float32), np.array(values)
    bins = np.searchsorted(feature.edges, seen, side="left")
    counts = np.bincount(bins, minlength=len(feature.edges) + 1)
    found = float(distance(counts, feature.lower, feature.upper))
    shares = [(series[:, None] <= feature.edges).mean(axis=0) for series in (seen, known)]
    assert found == pytest.approx(float(np.abs(shares[0] - shares[1]).max()), abs=2**-14)
    exact = quantile_edges(np.sort(np.repeat(known, 2)))  # of what may lie to either side, here by nothing
    assert len(feature.edges) == len(np.unique(exact.astype(np.float32)))
    assert (feature.edges >= np.unique(exact.astype(np.float32))).all()


@pytest.mark.parametrize(
    ("change", "path", "word"),
    [
        ({"format": "something else"}, (), "format"),
        ({"version": 3}, (), "update traffic-vision"),
        ({"rate_hz": 0}, (), "rate_hz"),
        ({"contexts": []}, (), "contexts"),
        ({"name": "night"}, ("contexts", 0), "same name"),
        ({"name": "other"}, ("contexts", 0, "features", 0), "differ in their features"),
        ({"origin": "weather"}, ("contexts", 0, "features", 0), "origin"),
        ({"edges": "AAAA"}, ("contexts", 0, "features", 0), "base64"),
        ({"edges": ""}, ("contexts", 0, "features", 0), "length"),
        ({"tails": []}, ("contexts", 0, "features", 0), "tail"),
        ({"sigma": 0}, ("contexts", 0, "features", 0), "never seen to change"),
        ({"slope": 1}, ("contexts", 0, "features", 0, "tails", 0), "slope"),
        ({"frames": 10**9}, ("contexts", 0, "features", 0, "tails", 0), "frames"),
        ({"quantiles": ""}, ("contexts", 0, "features", 0, "tails", 0), "table"),
        ({"scope": "city"}, ("contexts", 0), "scope"),
        ({"joint": 0}, ("contexts", 0), "joint"),
        ({"drop": {"features": ["a"]}}, (), "drop"),
        (
            {"drop": {"features": ["a"], "slopes": [], "residual": 0.1, "map50": 0.5, "method": ""}},
            (),
            "one slope",
        ),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_what_is_wrong(
    change: dict[str, object], path: tuple[str | int, ...], word: str
) -> None:
    assert word in refused(changed(change, *path))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_are_refused_or_read_as_a_sound_reference(data: st.DataObject) -> None:
    damaged = bytearray(DATA)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        if data.draw(st.booleans()):
            damaged[position] = data.draw(st.integers(0, 255))
        else:
            del damaged[position : position + data.draw(st.integers(1, 4000))]
            if not damaged:
                damaged = bytearray(b"\0")
    try:
        reference = Reference.from_bytes(bytes(damaged))
    except DriftReferenceError:
        return
    assert Reference.from_bytes(reference.to_bytes()).digest == reference.digest


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    assert "not a drift reference" in refused(data)


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DriftReferenceError, match=r"cannot read .*missing\.json.*No such file"):
        Reference.load(tmp_path / "missing.json")
    with pytest.raises(DriftReferenceError, match="cannot write"):
        REFERENCE.save(tmp_path / "no" / "folder.json")


@pytest.mark.parametrize(
    ("drives", "names", "rate_hz", "word"),
    [
        (np.zeros((0, 2)), ["a", "b"], 2.0, "no frames"),
        (np.zeros((9, 3)), ["a", "b"], 2.0, "shape"),
        (np.zeros(9), ["a"], 2.0, "shape"),
        (np.zeros((9, 2)), ["a", "a"], 2.0, "different names"),
        (np.zeros((9, 1)), ["a"], 0.0, "0 Hz"),
        ([], ["a"], 1.0, "no frames"),
    ],
)
def test_what_no_reference_can_be_made_of_is_refused(
    drives: np.ndarray, names: list[str], rate_hz: float, word: str
) -> None:
    with pytest.raises(DriftReferenceError, match=word):
        fit(drives, rate_hz, names)


def test_only_references_of_the_same_features_can_be_combined() -> None:
    other = fit(np.random.default_rng(0).normal(size=(200, 3)), 2.0, ["x", "y", "z"], context="fog")
    with pytest.raises(DriftReferenceError, match="names"):
        combine(REFERENCE, other)
    with pytest.raises(DriftReferenceError, match="same name"):
        combine(made(), made(1))


def test_a_constant_feature_and_one_that_was_never_there_are_told_apart() -> None:
    series = np.random.default_rng(0).normal(size=(300, 3))
    series[:, 1] = 5.0
    series[:, 2] = np.nan
    good, constant, unknown = fit(series, 2.0, NAMES).contexts[0].features
    assert (good.known, good.constant) == (True, False)
    assert (constant.known, constant.constant) == (True, True)
    assert (unknown.known, unknown.constant) == (False, False)


def test_nan_takes_its_frame_away_and_nothing_else() -> None:
    series = np.random.default_rng(0).normal(size=(600, 1))
    holes = np.repeat(series, 2, axis=0)
    holes[1::2] = np.nan
    whole, holed = (fit(drive, 2.0, ["a"]).contexts[0].features[0] for drive in (series, holes))
    assert (whole.frames, whole.mean, whole.tau) == (holed.frames, holed.mean, holed.tau)


def test_calibrated_takes_hours_and_autocorrelation_times() -> None:
    rng = np.random.default_rng(0)
    assert fit(rng.normal(size=(5 * 7200, 1)), 2.0, ["a"]).calibrated
    assert not fit(rng.normal(size=(3 * 7200, 1)), 2.0, ["a"]).calibrated
    # Long enough, and too slow a feature for its length.
    assert not fit(ar1(rng, 0.995, 5 * 7200), 2.0, ["a"]).calibrated


def test_the_band_is_as_wide_as_drives_differ() -> None:
    rng = np.random.default_rng(0)
    alike = fit([rng.normal(size=(200, 1)) for _ in range(8)], 2.0, ["a"]).contexts[0].features[0]
    apart = fit([rng.normal(size=(200, 1)) + 4 * d for d in range(8)], 2.0, ["a"]).contexts[0].features[0]
    one = fit(rng.normal(size=(1600, 1)), 2.0, ["a"]).contexts[0].features[0]
    assert apart.drive_sigma == pytest.approx(4 * np.std(range(8), ddof=1), rel=0.1)
    assert apart.margin > 4 * apart.drive_sigma
    assert alike.margin < 1.0
    assert one.margin == 0.0
    np.testing.assert_array_equal(one.lower, one.upper)
    # What is left within the drives is what tau is about.
    assert apart.tau < 2


def test_a_short_reference_takes_over_how_far_drives_differ() -> None:
    rng = np.random.default_rng(0)
    prior = made().contexts[0]
    single = rng.normal(size=(200, 3))
    alone = fit(single, 2.0, NAMES, origins=ORIGINS)
    informed = fit(single, 2.0, NAMES, origins=ORIGINS, prior=prior)
    for feature, before in zip(informed.contexts[0].features, prior.features, strict=True):
        assert feature.margin >= 4 * before.drive_sigma > 0
    assert all(feature.margin == 0 for feature in alone.contexts[0].features)


def test_an_unlearned_reference_knows_names_and_nothing_else() -> None:
    blank = unlearned(2.0, NAMES, origins=ORIGINS)
    assert Reference.from_bytes(blank.to_bytes()).digest == blank.digest
    assert not any(feature.known for feature in blank.contexts[0].features)
    assert blank.names == REFERENCE.names


def test_without_an_origin_only_its_features_are_forgotten() -> None:
    after = REFERENCE.without(["detections"])
    for context in after.contexts:
        assert [feature.known for feature in context.features] == [True, True, False]
    assert after.origins == REFERENCE.origins


def test_a_file_of_the_first_version_keeps_its_bytes_and_its_digest() -> None:
    data = OLD_FILE.read_bytes()
    old = Reference.from_bytes(data)
    assert old.to_bytes(PLAIN) == data
    assert old.digest == hashlib.sha256(data).hexdigest()
    assert [(context.scope, context.joint) for context in old.contexts] == [(Scope.SERIES, 1.0)]
    assert old.drop is None


def test_a_monitor_that_an_older_daemon_saved_goes_on() -> None:
    monitor = DriftMonitor(REFERENCE)
    for number, row in enumerate(np.random.default_rng(0).normal(size=(50, 3))):
        monitor.observe(number * 500_000_000, row)
    saved = json.loads(monitor.to_bytes())
    saved["reference"] = PLAIN_DATA.decode()
    assert saved["given"] == hashlib.sha256(PLAIN_DATA).hexdigest()
    for part in (saved, *saved["contexts"]):
        part.pop("step_s", None)
        part.pop("learning_ns", None)
    other = DriftMonitor(REFERENCE)
    other.restore(json.dumps(saved).encode())
    assert (
        other.snapshot().contexts[0].values[0].tolist() == monitor.snapshot().contexts[0].values[0].tolist()
    )


def test_what_a_reference_says_of_its_scope_and_of_the_drop_comes_back() -> None:
    drop = DropModel(("noise", "cars"), (-0.5, 0.01), 0.02, 0.6, "of corrupted pictures")
    day, night = REFERENCE.contexts
    own = replace(REFERENCE, contexts=(replace(day, scope=Scope.CAMERA, joint=2.5), night), drop=drop)
    back = Reference.from_bytes(own.to_bytes())
    assert back.drop == drop
    assert [context.scope for context in back.contexts] == [Scope.CAMERA, Scope.SERIES]
    assert [context.joint for context in back.contexts] == [2.5, 1.0]
    assert back.digest == own.digest != REFERENCE.digest


@settings(max_examples=50, deadline=None)
@given(st.permutations([*zip(NAMES, ORIGINS, strict=True), ("new", "picture"), ("cars", "picture")]))
def test_an_aligned_reference_has_the_wanted_features_and_what_was_known_of_them(
    wanted: list[tuple[str, str]],
) -> None:
    wanted = list({name: (name, origin) for name, origin in wanted}.values())
    names = [name for name, _ in wanted]
    aligned = align(REFERENCE, names, [Origin(origin) for _, origin in wanted])
    assert aligned.names == tuple(names)
    assert aligned.origins == tuple(origin for _, origin in wanted)
    for before, after in zip(REFERENCE.contexts, aligned.contexts, strict=True):
        known = {(one.name, one.origin): one for one in before.features}
        for feature in after.features:
            if (feature.name, feature.origin) in known:
                assert feature is known[(feature.name, feature.origin)]
            else:
                assert not feature.known
    assert Reference.from_bytes(aligned.to_bytes()).digest == aligned.digest


def test_a_reference_that_fits_is_aligned_to_itself_and_one_without_any_feature_is_refused() -> None:
    assert align(REFERENCE, NAMES, [Origin(origin) for origin in ORIGINS]) is REFERENCE
    with pytest.raises(DriftReferenceError, match="light, noise, cars, none of which is watched"):
        align(REFERENCE, ["speed"], [Origin.PICTURE])


def test_an_older_and_a_newer_reference_are_judged_by_what_they_share_with_the_watched() -> None:
    old = Reference.from_bytes(OLD_FILE.read_bytes())
    (day,) = old.contexts
    fewer = replace(old, contexts=(replace(day, features=day.features[:-2]),))
    aligned = watched_reference(fewer)
    assert (aligned.names, aligned.origins) == (WATCHED, WATCHED_ORIGINS)
    known = {feature.name for feature in aligned.contexts[0].features if feature.known}
    assert known == set(fewer.names)
    rng = np.random.default_rng(0)
    last = scan(aligned, rng.normal(100, 1, (400, len(WATCHED))), aligned.rate_hz)[-1]
    judged = {feature.name for feature in last.features if feature.window_s > 0 and feature.context}
    assert judged and judged <= set(fewer.names)


def test_a_saved_monitor_of_fewer_features_is_begun_anew() -> None:
    old = Reference.from_bytes(OLD_FILE.read_bytes())
    (day,) = old.contexts
    fewer = replace(old, contexts=(replace(day, features=day.features[:-2]),))
    saved = DriftMonitor(fewer).to_bytes()
    monitor = DriftMonitor(align(fewer, old.names, old.origins))
    with pytest.raises(DriftReferenceError, match="begins anew"):
        monitor.restore(saved)
    # Not even where the file says that it is of this reference.
    claimed = saved.replace(fewer.digest.encode(), monitor.given.digest.encode())
    with pytest.raises(DriftReferenceError, match="other features"):
        monitor.restore(claimed)


def test_only_hours_of_this_very_camera_promise_a_rate() -> None:
    long = fit(np.random.default_rng(0).normal(size=(5 * 7200, 1)), 2.0, ["a"], context="day")
    short = fit(np.random.default_rng(0).normal(size=(7200, 1)), 2.0, ["a"], context="night")
    both = combine(long, short)
    assert [both.promises("day"), both.promises("night")] == [True, False]
    assert long.scoped(Scope.CAMERA).promises("day")
    assert not long.scoped(Scope.FLEET).promises("day")
    with pytest.raises(DriftReferenceError, match="no context 'fog', only day, night"):
        both.promises("fog")


def test_a_model_files_reference_is_the_fleets_and_says_so_where_it_would_promise() -> None:
    old = OLD_FILE.read_text()
    scopes = [context.scope for context in Reference.from_bytes(old.encode()).contexts]
    assert [context.scope for context in fleet_prior(old).contexts] == scopes
    hours = np.random.default_rng(0).normal(size=(5 * 7200, 1))
    long = fit(hours, 2.0, WATCHED[:1], origins=WATCHED_ORIGINS[:1], context="day")
    assert long.promises("day")
    prior = fleet_prior(long.to_bytes().decode())
    assert not prior.promises("day")
    assert prior.contexts[0].scope is Scope.FLEET


def test_the_first_argument_is_called_features() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 1))
    made_of = fit(features=rows, rate_hz=2.0, names=["a"], scope=Scope.CAMERA)
    assert made_of.contexts[0].scope is Scope.CAMERA
    assert math.isfinite(made_of.contexts[0].misfit)
