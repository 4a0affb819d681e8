"""A camera's own reference beside what a model file brings: which of them is believed in what."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.drift import fit
from edge.drift.calibration import P_LEVELS, WINDOWS_TAU, Tail
from edge.drift.frame_rate import at_rate
from edge.drift.own import UNNAMED, Fitted, Own, is_judged, joined, merged
from edge.drift.reference import (
    ContextReference,
    DriftReferenceError,
    FeatureReference,
    Reference,
    unknown_feature,
)
from edge.drift.state import Origin, Scope

A, B = "a" * 64, "b" * 64
ORIGINS = {"brightness": Origin.PICTURE, "haze": Origin.PICTURE, "count": Origin.DETECTIONS}
CALIBRATED = 20_000  # frames at 1 Hz, tau 1: 5.6 h


def feature(name: str, mean: float, frames: int = CALIBRATED) -> FeatureReference:
    if frames == 0:
        return unknown_feature(name, ORIGINS[name])
    edges = mean + np.array([-1.0, 0.0, 1.0])
    shares = np.array([0.25, 0.5, 0.75])
    tails = tuple(Tail(length, -9.0, 1.0, (0.1,) * len(P_LEVELS)) for length in WINDOWS_TAU)
    return FeatureReference(
        name, ORIGINS[name], frames, 9, mean, 1.0, 0.1, 0.0, 1.0, edges, shares, shares, tails
    )


def context(name: str, scope: Scope, mean: float, frames: tuple[int, ...]) -> ContextReference:
    features = tuple(feature(one, mean, count) for one, count in zip(ORIGINS, frames, strict=True))
    return ContextReference(name, features, abs(mean) + 1.0, scope, 1.5 if scope is Scope.CAMERA else 1.0)


def references(scope: Scope, mean: float, names: tuple[str, ...]) -> st.SearchStrategy[Reference]:
    frames = st.tuples(*[st.sampled_from([0, 500, CALIBRATED])] * len(ORIGINS))
    return st.dictionaries(st.sampled_from(names), frames, min_size=1).map(
        lambda them: Reference(
            1.0, 24.0, tuple(context(name, scope, mean, frames) for name, frames in them.items())
        )
    )


OWNS = st.builds(
    Own, references(Scope.CAMERA, 10.0, ("day", "night", UNNAMED)), st.sampled_from([A, B]), st.just({})
)
PRIORS = references(Scope.FLEET, 20.0, ("day", "night", "fog", UNNAMED))


def of(reference: Reference) -> dict[str, ContextReference]:
    return {one.name: one for one in reference.contexts}


@given(st.none() | OWNS, st.none() | PRIORS)
def test_each_feature_is_the_cameras_own_where_it_may_be_and_the_fleets_where_not(
    own: Own | None, prior: Reference | None
) -> None:
    found = merged(own, prior, A)
    if found is None:
        assert own is None and prior is None
        return
    mine = {} if own is None else of(own.reference)
    theirs = {} if prior is None else of(prior)
    expected = set(mine) | set(theirs)
    if prior is not None and UNNAMED not in theirs:
        expected.discard(UNNAMED)
    assert set(of(found)) == expected
    for name, one in of(found).items():
        ours, fleets = mine.get(name), theirs.get(name)
        for number, got in enumerate(one.features):
            usable = (
                own is not None
                and ours is not None
                and ours.features[number].known
                and (got.origin is Origin.PICTURE or own.model == A)
            )
            want = ours if usable else fleets
            if want is None:
                assert not got.known
            else:
                assert got.known == want.features[number].known
                assert not got.known or got.mean == want.features[number].mean
        foreign = any(one.mean == 20.0 and one.tails for one in one.features)
        assert not (foreign and found.promises(name)), "the fleet's drives promise nothing of this camera"
        if not foreign and ours is not None:
            assert one.scope is Scope.CAMERA


@given(st.none() | OWNS, st.none() | PRIORS, st.sampled_from(["day", "fog", UNNAMED]))
def test_frames_are_of_what_judges_and_without_a_prior_of_other_names_too(
    own: Own | None, prior: Reference | None, name: str
) -> None:
    found = merged(own, prior, A)
    judges = found is not None and name in of(found)
    may_be = prior is None and (name != UNNAMED or own is None)
    assert is_judged(name, own, prior) == (judges or may_be)


@given(OWNS, st.none() | PRIORS)
def test_merging_is_the_same_each_time_and_makes_a_file(own: Own, prior: Reference | None) -> None:
    found = merged(own, prior, A)
    assert found is not None
    again = merged(own, prior, A)
    assert again is not None and again.digest == found.digest
    assert Reference.from_bytes(found.to_bytes()).digest == found.digest


@given(PRIORS)
def test_without_an_own_one_the_prior_is_left_alone(prior: Reference) -> None:
    assert merged(None, prior, A) is prior


def test_under_a_new_model_the_picture_stays_and_what_it_found_is_the_models() -> None:
    own = Own(Reference(1.0, 24.0, (context("day", Scope.CAMERA, 10.0, (CALIBRATED,) * 3),)), A)
    prior = Reference(
        1.0,
        24.0,
        tuple(context(name, Scope.FLEET, 20.0, (CALIBRATED, CALIBRATED, 0)) for name in ("day", "night")),
    )
    under_a, under_b = merged(own, prior, A), merged(own, prior, B)
    assert under_a is not None and under_b is not None
    assert [one.mean for one in of(under_a)["day"].features] == [10.0, 10.0, 10.0]
    assert under_a.promises("day") and not under_a.promises("night")
    day = of(under_b)["day"]
    assert [one.known for one in day.features] == [True, True, False] and day.features[0].mean == 10.0
    assert of(under_b)["night"].features[0].mean == 20.0
    back = merged(own, prior, A)
    assert back is not None and back.digest == under_a.digest, "a model that is taken back is known again"


@given(st.floats(0.51, 1.99), st.floats(0.5, 100.0))
def test_another_rate_keeps_the_seconds(ratio: float, rate_hz: float) -> None:
    before = replace(REFERENCE, rate_hz=rate_hz)
    after = at_rate(before, rate_hz * ratio)
    (one,), (other,) = before.contexts[0].features, after.contexts[0].features
    assert other.frames / after.rate_hz == pytest.approx(one.frames / before.rate_hz, rel=1e-2)
    # Of sparser frames each says a little more than its share.
    assert other.tau == pytest.approx(max(one.tau * ratio, 1 + (one.tau - 1) * ratio))
    for new, old in zip(other.tails, one.tails, strict=True):
        assert abs(new.frames - old.frames * other.tau / one.tau) <= 0.5 + 1e-6
        assert new.rate(0.3) == old.rate(0.3)
    Reference.from_bytes(after.to_bytes())


REFERENCE = fit(
    np.cumsum(np.random.default_rng(1).normal(size=(2000, 1)), axis=0) % 50, 1.0, ["brightness"], seed=1
)


@given(st.floats(2.1, 29.0), st.floats(0.5, 100.0))
def test_a_reference_of_few_frames_a_second_is_brought_up_where_that_is_asked_for(
    ratio: float, rate_hz: float
) -> None:
    before = replace(REFERENCE, rate_hz=rate_hz)
    with pytest.raises(DriftReferenceError, match="cannot be judged"):
        at_rate(before, rate_hz * ratio)
    with pytest.raises(DriftReferenceError, match="cannot be judged"):
        at_rate(before, rate_hz / ratio, most_ratio=30.0)
    after = at_rate(before, rate_hz * ratio, most_ratio=30.0)
    (one,), (other,) = before.contexts[0].features, after.contexts[0].features
    assert other.tau / after.rate_hz == pytest.approx(one.tau / before.rate_hz)
    for new, old in zip(other.tails, one.tails, strict=True):
        assert new.frames / after.rate_hz == pytest.approx(old.frames / before.rate_hz, rel=0.05)
    assert Reference.from_bytes(after.to_bytes()).digest == after.digest


def test_a_rate_that_is_almost_the_same_does_not_keep_a_prior_out() -> None:
    own = Own(Reference(2.0, 24.0, (context("day", Scope.CAMERA, 10.0, (CALIBRATED,) * 3),)), A)
    prior = Reference(2.002, 24.0, (context("night", Scope.FLEET, 20.0, (CALIBRATED,) * 3),))
    found = merged(own, prior, A)
    assert found is not None and found.rate_hz == 2.0 and set(of(found)) == {"day", "night"}
    with pytest.raises(DriftReferenceError, match="10 frames a second cannot be judged at 2"):
        merged(own, replace(prior, rate_hz=10.0), A)


def test_what_was_fitted_of_more_driving_is_kept() -> None:
    """After an update the detections are fitted anew, of less driving than the picture was."""
    first = joined(None, context("day", Scope.CAMERA, 10.0, (9000,) * 3), Fitted(24.0, 24.0), LIKE, A)
    then = joined(first, context("day", Scope.CAMERA, 30.0, (3000,) * 3), Fitted(4.0, 4.0), LIKE, B)
    (day,) = then.reference.contexts
    assert [one.mean for one in day.features] == [10.0, 10.0, 30.0]
    assert day.misfit == 11.0 and day.scope is Scope.CAMERA
    assert then.model == B and then.fitted == {"day": Fitted(24.0, 4.0)}
    more = joined(then, context("day", Scope.CAMERA, 40.0, (9500,) * 3), Fitted(25.0, 8.0), LIKE, B)
    assert [one.mean for one in more.reference.contexts[0].features] == [40.0, 40.0, 40.0]
    assert more.reference.contexts[0].misfit == 41.0


def test_another_context_is_added_and_what_an_older_model_found_goes() -> None:
    first = joined(None, context("night", Scope.CAMERA, 10.0, (9000,) * 3), Fitted(4.0, 4.0), LIKE, A)
    then = joined(first, context("day", Scope.CAMERA, 30.0, (3000,) * 3), Fitted(8.0, 8.0), LIKE, B)
    assert [one.name for one in then.reference.contexts] == ["day", "night"]
    assert [one.known for one in then.reference.contexts[1].features] == [True, True, False]
    assert then.fitted == {"night": Fitted(4.0, 0.0), "day": Fitted(8.0, 8.0)}


LIKE = Reference(1.0, 24.0, (context("day", Scope.CAMERA, 0.0, (0, 0, 0)),))


def test_it_is_kept_as_a_file(tmp_path: Path) -> None:
    own = joined(None, context("day", Scope.CAMERA, 10.0, (9000, 9000, 0)), Fitted(4.0, 1.5), LIKE, A)
    size = own.save(tmp_path / "own.json")
    assert size == (tmp_path / "own.json").stat().st_size
    again = Own.load(tmp_path / "own.json")
    assert (again.model, again.fitted) == (own.model, own.fitted)
    assert again.reference.digest == own.reference.digest
    assert math.isclose(again.reference.contexts[0].misfit, 11.0)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"format": "traffic-vision own drift reference", "version": 9}', "\x00"]
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "own.json").write_text(content)
    with pytest.raises(DriftReferenceError, match=r"own\.json"):
        Own.load(tmp_path / "own.json")
    with pytest.raises(FileNotFoundError):
        Own.load(tmp_path / "other.json")


def test_a_file_whose_reference_is_damaged_is_refused(tmp_path: Path) -> None:
    own = joined(None, context("day", Scope.CAMERA, 10.0, (9000,) * 3), Fitted(4.0, 4.0), LIKE, A)
    own.save(tmp_path / "own.json")
    text = (tmp_path / "own.json").read_text().replace("brightness", "")
    (tmp_path / "own.json").write_text(text)
    with pytest.raises(DriftReferenceError):
        Own.load(tmp_path / "own.json")
