"""How accuracy falls: the regression, the measurement, the check, and the model file that takes it along."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.datasets import Box, Dataset, DatasetWriter, LabeledImage, read_dataset
from cloud.pipeline.corruptions import KINDS, SEVERITIES
from cloud.pipeline.drop_check import check_drop
from cloud.pipeline.drop_estimate import FEATURES, DropError, DropOptions, Seen, measure_drop, spread
from cloud.pipeline.drop_prior import with_drop
from cloud.pipeline.drop_regression import FEATURE_SETS, PENALTIES, MetaPoint, fit_drop_model, ridge
from edge.drift import Origin, Reference, Scope, fit
from edge.drift.drop import DropModel, estimate
from edge.drift.features import NAMES, ORIGINS
from edge.perception.metadata import ModelMetadata, to_json
from edge.perception.model_file import ModelFile
from tests import models_factory as factory

HW = (64, 96)
CLEAN = MetaPoint("clean", 0, {"mean_confidence": 0.6, "low_confidence_share": 0.3, "count": 8.0}, 0.55)
SLOPES = (1.2, -0.4)


def meta_set(seed: int, noise: float = 0.0, kinds: int = 6) -> list[MetaPoint]:
    """Corruptions whose loss is SLOPES times what they change."""
    rng = np.random.default_rng(seed)
    points = []
    for kind in range(kinds):
        for severity in SEVERITIES:
            changes = rng.uniform(-0.04, 0.02, 2) * severity * [1, -2]
            loss = float(np.dot(SLOPES, changes))
            means = {
                "mean_confidence": 0.6 + changes[0],
                "low_confidence_share": 0.3 + changes[1],
                "count": 8.0 * (1 + loss),
            }
            loss += rng.normal(0, noise)
            points.append(MetaPoint(str(kind), severity, means, 0.55 + loss))
    return points


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_loss_that_is_linear_is_found_and_told_of_kinds_never_seen(seed: int) -> None:
    points = meta_set(seed)
    drop = fit_drop_model(CLEAN, points, "a test")
    assert drop is not None and drop.features == FEATURE_SETS[0]
    np.testing.assert_allclose(drop.slopes, SLOPES, atol=0.03)
    assert drop.residual < 0.005 and drop.map50 == CLEAN.map50
    # Unseen points of the same law, within its range.
    for point in meta_set(seed + 1):
        told = estimate(drop, point.means, CLEAN.means)
        assert told == pytest.approx(max(point.map50, 0.0) - CLEAN.map50, abs=0.02)
    assert estimate(drop, CLEAN.means, CLEAN.means) == 0.0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_residual_is_what_is_missed(seed: int) -> None:
    drop = fit_drop_model(CLEAN, meta_set(seed, noise=0.05, kinds=12), "")
    assert drop is not None
    assert 0.03 < drop.residual < 0.09


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_points_says_nothing(seed: int) -> None:
    points = meta_set(seed, noise=0.02)
    mixed = [points[number] for number in np.random.default_rng(seed).permutation(len(points))]
    one, other = fit_drop_model(CLEAN, points, ""), fit_drop_model(CLEAN, mixed, "")
    assert one is not None and other is not None
    np.testing.assert_allclose(one.slopes, other.slopes, rtol=1e-6, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(1e-3, 1e3))
def test_the_unit_of_a_feature_says_nothing(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    changes, losses = rng.normal(0, 1, (40, 3)), rng.normal(0, 1, 40)
    scaled = ridge(changes * [factor, 1, 1], losses, 0.1)
    np.testing.assert_allclose(scaled * [factor, 1, 1], ridge(changes, losses, 0.1), rtol=1e-6, atol=1e-9)


def test_a_penalty_holds_the_slopes_back_and_what_never_changes_tells_nothing() -> None:
    rng = np.random.default_rng(0)
    change = rng.normal(0, 1, 50)
    changes = np.stack([change, np.zeros(50)], axis=1)
    assert ridge(changes, 3 * change, 1e-9) == pytest.approx([3, 0])
    assert ridge(changes, 3 * change, 1.0) == pytest.approx([1.5, 0])
    sizes = [float(np.abs(ridge(changes, 3 * change, penalty)).sum()) for penalty in PENALTIES]
    assert sizes == sorted(sizes, reverse=True)


def test_a_change_that_takes_all_detections_is_told_by_the_count() -> None:
    points = meta_set(3)
    for number in range(0, 30, 5):
        means = {"count": 0.0}  # nothing found, so no confidence
        points[number + 4] = replace(points[number + 4], means=means, map50=0.0)
    drop = fit_drop_model(CLEAN, points, "")
    assert drop is not None
    assert [one.features for one in drop.alternatives] == list(FEATURE_SETS[1:])
    told = estimate(drop, {"count": 0.0}, CLEAN.means)
    assert told is not None and told < -0.35


def test_too_few_kinds_are_no_meta_set() -> None:
    assert fit_drop_model(CLEAN, meta_set(0, kinds=2), "") is None
    blind = replace(CLEAN, means={"count": 0.0}, map50=0.0)
    assert fit_drop_model(blind, [replace(point, means={"count": 0.0}) for point in meta_set(0)], "") is None


def write_pictures(folder: Path, count: int = 16) -> Path:
    """Red things on a grey ground, by day; by night too dark to be found."""
    rng = np.random.default_rng(5)
    with DatasetWriter(folder, factory.NAMES) as writer:
        for number in range(count):
            night = number % 2 == 1
            x, y = int(rng.integers(4, 40)), int(rng.integers(4, 20))
            corners = (x, y, x + int(rng.integers(16, 40)), y + int(rng.integers(16, 36)))
            picture = factory.picture(HW, (*corners, "red"), grey=int(rng.integers(20, 60)))
            if night and number % 4 == 1:
                picture //= 4
            image = LabeledImage(
                f"{number:02d}.jpg",
                None,
                HW[1],
                HW[0],
                (Box(*corners, "red"),),
                {"timeofday": "night" if night else "daytime"},
                f"drive{number // 4}",
            )
            writer.add(image, factory.jpeg(picture))
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_dataset(write_pictures(tmp_path_factory.mktemp("drop") / "data"))


def a_model(**fields: object) -> ModelFile:
    return factory.loaded(factory.rectangles_model(HW, **fields))


OPTIONS = DropOptions(min_boxes=4, threads=1)


def by_day(dataset: Dataset) -> list[LabeledImage]:
    return [image for image in dataset.images if image.attributes["timeofday"] == "daytime"]


def test_what_is_measured_is_what_the_model_does_on_corrupted_pictures(dataset: Dataset) -> None:
    measured = measure_drop(a_model(), by_day(dataset), OPTIONS)
    assert measured.judged == ("red",) and len(measured.images) == 8
    assert measured.clean.map50 == measured.drop.map50 > 0.9
    points = {(point.kind, point.severity): point for point in measured.points}
    assert list(points) == [(kind, severity) for kind in KINDS for severity in SEVERITIES]
    # The finder wants saturated colours: without contrast it finds nothing, and has no confidence to tell.
    gone = points["contrast", 5]
    assert gone.map50 == 0.0 and gone.means == {"count": 0.0}
    # And the fit is of these points.
    assert measured.drop == fit_drop_model(measured.clean, measured.points, measured.drop.method)
    text = measured.to_text()
    assert all(kind in text for kind in KINDS) and "residual on kinds left out" in text


def test_the_same_pictures_and_seed_give_the_same_measurement(dataset: Dataset) -> None:
    few = replace(OPTIONS, pictures=4)
    one, again = (measure_drop(a_model(), by_day(dataset), few) for _ in range(2))
    assert one.drop == again.drop and one.points == again.points
    other = measure_drop(a_model(), by_day(dataset), replace(few, seed=1))
    assert [image.name for image in other.images] != [image.name for image in one.images]


def test_pictures_that_tell_nothing_are_one_clear_error(dataset: Dataset) -> None:
    with pytest.raises(DropError, match="no class of the model has 20 boxes in 8 pictures"):
        measure_drop(a_model(), by_day(dataset), DropOptions(threads=1))
    with pytest.raises(DropError, match="no class of the model has 4 boxes in 0 pictures"):
        measure_drop(a_model(), [], OPTIONS)
    with pytest.raises(DropError, match="finds too little"):
        measure_drop(a_model(score_threshold=0.99), by_day(dataset), OPTIONS)


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    count=st.integers(0, 40),
    seed=st.integers(0, 10),
)
def test_every_drive_has_its_turn(sizes: list[int], count: int, seed: int) -> None:
    images = [
        LabeledImage(f"{drive}-{number}", Path("x"), None, None, (), {}, str(drive))
        for drive, size in enumerate(sizes)
        for number in range(size)
    ]
    chosen = spread([*images, LabeledImage("lost", None, None, None, (), {}, "0")], count, seed)
    names = [image.name for image in chosen]
    assert len(set(names)) == len(names) == min(count, len(images)) and names == sorted(names)
    taken = [sum(image.drive == str(drive) for image in chosen) for drive in range(len(sizes))]
    # Whoever has fewer than another has no more to give.
    assert all(n + 1 >= max(taken) or n == size for n, size in zip(taken, sizes, strict=True))
    assert spread(images[::-1], count, seed) == chosen


def test_means_are_over_the_pictures_that_have_the_feature() -> None:
    rows = np.full((2, len(FEATURES)), np.nan)
    rows[:, FEATURES.index("count")] = 2, 4
    rows[1, FEATURES.index("mean_confidence")] = 0.5
    seen = Seen(list(rows), [])
    assert seen.means() == {"count": 3.0, "mean_confidence": 0.5}
    assert Seen().means() == {}


def test_the_estimate_is_held_against_what_is_measured(dataset: Dataset) -> None:
    check = check_drop(a_model(), dataset.images, "timeofday", "daytime", None, OPTIONS)
    assert (check.base.name, check.base.pictures, check.classes) == ("daytime", 8, ("red",))
    (night,) = check.comparisons
    assert night.part.name == "night" and night.part.pictures == 8
    # Half of the night's things are too dark to be found.
    assert night.change == pytest.approx(-0.5, abs=0.1)
    told = {one.features: one for one in night.told}
    assert list(told) == list(FEATURE_SETS)
    by_count = told["count",]
    (slope,) = check.drop.alternatives[0].slopes
    fewer = night.part.means["count"] / check.base.means["count"] - 1
    assert fewer < 0 and by_count.change == pytest.approx(slope * fewer)
    # As sure as ever of what it finds: by the confidence, nothing is lost.
    by_confidence = told[FEATURE_SETS[0]]
    assert by_confidence.change == pytest.approx(0.0, abs=0.05)
    text = check.to_text()
    assert f"changed by {night.change:+.3f}" in text
    assert f"estimated {by_count.change:+.3f} +- {by_count.residual:.3f}" in text
    assert json.loads(json.dumps(check.to_json(), allow_nan=False))["base"]["map50"] == check.base.map50
    # By an estimate that is given, nothing is fitted.
    given_one = DropModel(("count",), (0.25,), 0.1, 1.0, "given")
    again = check_drop(a_model(), dataset.images, "timeofday", "daytime", given_one, OPTIONS)
    (told_by,) = again.comparisons[0].told
    assert told_by.change == pytest.approx(0.25 * (night.part.means["count"] / check.base.means["count"] - 1))


def test_nothing_to_compare_is_one_clear_error(dataset: Dataset) -> None:
    with pytest.raises(DropError, match=r"timeofday is dusk, and others.*there are 8 with daytime, 8 with"):
        check_drop(a_model(), dataset.images, "timeofday", "dusk", None, OPTIONS)
    with pytest.raises(DropError, match="there are none"):
        check_drop(a_model(), dataset.images, "weather", "rainy", None, OPTIONS)
    drop = DropModel(("count",), (0.25,), 0.1, 1.0, "")
    with pytest.raises(DropError, match="has 20 boxes in each of daytime, night"):
        check_drop(a_model(), dataset.images, "timeofday", "daytime", drop, DropOptions(threads=1))


def a_prior(drop: DropModel | None = None) -> str:
    drives = [np.random.default_rng(seed).normal(size=(60, len(NAMES))) for seed in range(3)]
    made = fit(drives, 2.0, NAMES, origins=ORIGINS, context="daytime", scope=Scope.FLEET)
    return replace(made.without({Origin.DETECTIONS}), drop=drop).to_bytes().decode()


def prior_of(metadata: ModelMetadata) -> Reference:
    assert metadata.drift_prior is not None
    return Reference.from_bytes(metadata.drift_prior.encode())


OLD_DROP = DropModel(("count",), (9.0,), 0.1, 0.5, "of the model before")


def test_a_new_model_takes_its_own_drop_along(dataset: Dataset) -> None:
    model = a_model(drift_prior=a_prior(OLD_DROP))
    equipped = with_drop(model, dataset.images, "timeofday", replace(OPTIONS, pictures=8))
    prior = prior_of(equipped.model.metadata)
    assert prior.drop is not None and prior.drop.method != OLD_DROP.method
    # Nothing else is another.
    assert replace(prior, drop=OLD_DROP).to_bytes().decode() == model.metadata.drift_prior
    kept, before = (to_json(replace(one.metadata, drift_prior=None)) for one in (equipped.model, model))
    assert kept == before
    facts = json.loads(json.dumps(equipped.facts, allow_nan=False))
    assert facts["pictures"] == 8 and facts["map50"] == prior.drop.map50
    assert facts["fits"][0]["residual"] == prior.drop.residual
    # So few pictures of a slice say too little.
    assert facts["slices"] == []


def test_the_record_tells_how_the_estimate_does_on_each_slice(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.pipeline.drop_prior.MIN_PICTURES", 8)
    model = a_model(drift_prior=a_prior())
    facts = with_drop(model, dataset.images, "timeofday", OPTIONS).facts
    assert [one["part"]["name"] for one in facts["slices"]] == ["daytime", "night"]
    day, night = (one["change"] for one in facts["slices"])
    assert day > 0.1 > -0.1 > night
    assert all(len(one["told"]) == len(FEATURE_SETS) for one in facts["slices"])


@pytest.mark.parametrize(
    ("prior", "options", "why"),
    [
        (None, OPTIONS, "no drift reference"),
        (a_prior(OLD_DROP), replace(OPTIONS, pictures=0), "drop_pictures is 0"),
        (a_prior(OLD_DROP), replace(OPTIONS, min_boxes=100), "no class of the model has 100 boxes"),
    ],
)
def test_a_drop_that_is_not_measured_is_nobodys(
    dataset: Dataset, prior: str | None, options: DropOptions, why: str
) -> None:
    model = a_model(drift_prior=prior)
    equipped = with_drop(model, dataset.images, "timeofday", options)
    assert why in equipped.facts["none"]
    if prior is None:
        assert equipped.model is model
    else:
        assert prior_of(equipped.model.metadata).drop is None


def test_a_model_file_that_has_none_to_lose_stays_as_it_is(dataset: Dataset) -> None:
    model = a_model(drift_prior=a_prior())
    assert with_drop(model, dataset.images, "timeofday", replace(OPTIONS, pictures=0)).model is model
