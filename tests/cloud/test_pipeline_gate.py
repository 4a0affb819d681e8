"""The gate: its scores are COCO's, and its verdicts follow from intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cloud.config import GateConfig
from cloud.datasets import Box, LabeledImage
from cloud.pipeline.bootstrap import paired_bootstrap
from cloud.pipeline.evaluation_coco import Matches, RankedClass
from cloud.pipeline.gate import OVERALL, Judgement, SliceFigures, judge, measure, to_text
from cloud.store.states import VerdictKind

NAMES = ("car", "pedestrian")


def pictures(count: int, per_drive: int = 4, seed: int = 0) -> list[LabeledImage]:
    """Random boxes; every second drive by night."""
    generator = np.random.default_rng(seed)
    images = []
    for number in range(count):
        boxes = []
        for _ in range(int(generator.integers(1, 5))):
            x, y = generator.uniform(0, 80, 2)
            boxes.append(Box(x, y, x + 15, y + 15, NAMES[int(generator.integers(0, 2))]))
        drive = number // per_drive
        light = {"timeofday": "night" if drive % 2 else "daytime"}
        images.append(LabeledImage(f"{number}.jpg", None, 100, 100, tuple(boxes), light, f"d{drive}"))
    return images


def detections(
    images: list[LabeledImage], found: dict[str, float], seed: int
) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """A detector that finds this share of the boxes by light, and invents one box a picture."""
    generator = np.random.default_rng(seed)
    rows = []
    for image in images:
        share = found[image.attributes["timeofday"]]
        of_image = [[1, 1, 4, 4, generator.uniform(0.1, 0.9), 0]]
        for box in image.boxes:
            if generator.uniform() < share:
                jitter = generator.normal(0, 0.8, 4)
                corners = np.array([box.x1, box.y1, box.x2, box.y2]) + jitter
                of_image.append([*corners, generator.uniform(0.2, 1), NAMES.index(box.category)])
        rows.append(np.array(of_image, np.float32))
    return rows


def ranked(images: list[LabeledImage], found: dict[str, float], seed: int) -> list[RankedClass]:
    return Matches(images, detections(images, found, seed), NAMES, NAMES).ranked()


def verdict_on(champion: dict[str, float], challenger: dict[str, float], count: int = 160) -> Judgement:
    images = pictures(count)
    gate = GateConfig(min_boxes=20, resamples=200)
    figures = measure(images, ranked(images, champion, 1), ranked(images, challenger, 2), gate)
    return judge(figures, ("night",), 0.1)


def test_scores_of_resamples_are_those_of_the_reference_code() -> None:
    images = pictures(24)
    matches = Matches(images, detections(images, {"daytime": 0.8, "night": 0.5}, 3), NAMES, NAMES)
    classes = matches.ranked()
    for chosen in (range(24), range(5), [0, 0, 3, 7, 7, 7], [23]):
        times = np.bincount(np.array(chosen), minlength=24)
        scores = matches.score(chosen).classes
        for entry in classes:
            expected = scores[entry.name].ap50
            found = entry.ap50(times)
            assert found == (expected if expected is None else pytest.approx(expected, abs=1e-12))


def test_both_models_are_scored_on_the_same_draws() -> None:
    images = pictures(40)
    classes = ranked(images, {"daytime": 0.8, "night": 0.5}, 1)
    drives = [image.drive for image in images]
    same = paired_bootstrap(classes, classes, drives, range(40), 100)
    assert (
        same.resamples.shape == (100, 2) and not same.differences.any() and same.champion == same.challenger
    )
    other = ranked(images, {"daytime": 0.8, "night": 0.9}, 2)
    first, again, otherwise = (
        paired_bootstrap(classes, other, drives, range(40), 100, seed).differences for seed in (1, 1, 2)
    )
    assert (first == again).all() and (first != otherwise).any()
    assert first.std() > 0


def test_better_by_night_and_as_good_by_day_passes() -> None:
    judgement = verdict_on({"daytime": 0.8, "night": 0.3}, {"daytime": 0.8, "night": 0.75})
    assert judgement.verdict is VerdictKind.PASS
    assert {result.slice: result.rule for result in judgement.rules} == {
        OVERALL: "not worse",
        "daytime": "not worse",
        "night": "better",
    }


def test_worse_by_day_is_refused_however_much_better_by_night() -> None:
    judgement = verdict_on({"daytime": 0.9, "night": 0.2}, {"daytime": 0.3, "night": 0.9})
    assert judgement.verdict is VerdictKind.FAIL
    (failed,) = [result for result in judgement.rules if result.verdict is VerdictKind.FAIL]
    assert failed.slice == "daytime" and "worse by" in failed.why


def test_an_equal_model_is_inconclusive() -> None:
    judgement = verdict_on({"daytime": 0.7, "night": 0.6}, {"daytime": 0.7, "night": 0.6})
    assert judgement.verdict is VerdictKind.INCONCLUSIVE


def test_a_holdout_that_is_too_small_is_inconclusive_and_says_what_it_could_have_shown() -> None:
    few = verdict_on({"daytime": 0.8, "night": 0.3}, {"daytime": 0.8, "night": 0.75}, count=32)
    assert few.verdict is VerdictKind.INCONCLUSIVE
    assert {figures.too_little for figures in few.slices} == {
        "8 drives, at least 10 are needed",
        "4 drives, at least 10 are needed",
    }
    many = verdict_on({"daytime": 0.7, "night": 0.6}, {"daytime": 0.7, "night": 0.6}, count=80)
    more = verdict_on({"daytime": 0.7, "night": 0.6}, {"daytime": 0.7, "night": 0.6}, count=320)
    for smaller, larger in zip(many.slices, more.slices, strict=True):
        assert smaller.detectable is not None and larger.detectable is not None
        assert larger.detectable < smaller.detectable


def a_slice(name: str, low: float, high: float) -> SliceFigures:
    middle = (low + high) / 2
    return SliceFigures(name, 9, 9, 9, ("car",), 0.5, 0.5 + middle, middle, low, high, 0.1)


@pytest.mark.parametrize(
    ("day", "night", "verdict"),
    [
        ((-0.01, 0.01), (0.02, 0.1), VerdictKind.PASS),
        ((-0.03, 0.01), (0.02, 0.1), VerdictKind.INCONCLUSIVE),
        ((-0.09, -0.03), (0.02, 0.1), VerdictKind.FAIL),
        ((-0.01, 0.01), (-0.01, 0.1), VerdictKind.INCONCLUSIVE),
        ((-0.01, 0.01), (-0.1, -0.01), VerdictKind.FAIL),
        ((-0.03, 0.01), (-0.1, -0.01), VerdictKind.FAIL),
    ],
)
def test_verdicts_follow_from_the_ends_of_intervals(
    day: tuple[float, float], night: tuple[float, float], verdict: VerdictKind
) -> None:
    figures = [a_slice(OVERALL, -0.001, 0.1), a_slice("daytime", *day), a_slice("night", *night)]
    assert judge(figures, ["night"], 0.02).verdict is verdict


def test_without_a_target_or_its_slice_nothing_is_released() -> None:
    figures = [a_slice(OVERALL, 0.01, 0.1)]
    assert judge(figures, ["night"], 0.02).verdict is VerdictKind.INCONCLUSIVE
    assert judge(figures, [], 0.02).verdict is VerdictKind.INCONCLUSIVE


def test_the_table_shows_power_figures_rules_and_verdict() -> None:
    text = to_text(verdict_on({"daytime": 0.8, "night": 0.3}, {"daytime": 0.8, "night": 0.75}).to_json())
    assert text.splitlines()[0].split()[5] == "detects"
    assert "night: better than +0.000: pass" in text
    assert text.endswith("verdict: pass")
