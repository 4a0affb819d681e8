"""The gate: its scores are COCO's, and its verdicts follow from intervals."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.config import GateConfig, GateRuleConfig
from cloud.datasets import Box, LabeledImage
from cloud.pipeline.bootstrap import paired_bootstrap
from cloud.pipeline.evaluation_coco import SIZES, Matches, RankedClass
from cloud.pipeline.gate import BETTER, NO_REGRESSION, NOT_WORSE, Demand, Judgement, decide, demands_of, judge
from cloud.pipeline.gate_power import power_of
from cloud.pipeline.gate_slices import OVERALL, Ranked, SliceFigures, measure, targets_of
from cloud.pipeline.gate_text import power_text, to_text
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


GATE = GateConfig(min_boxes=20, resamples=200, margin=0.1, confidence=0.95, slices=("timeofday",))


def both(
    images: list[LabeledImage],
    champion: dict[str, float],
    challenger: dict[str, float],
    gate: GateConfig = GATE,
) -> tuple[Ranked, Ranked]:
    first, second = (
        Ranked.of(Matches(images, detections(images, found, seed), NAMES, NAMES), gate)
        for found, seed in ((champion, 1), (challenger, 2))
    )
    return first, second


def verdict_on(
    champion: dict[str, float], challenger: dict[str, float], count: int = 160, gate: GateConfig = GATE
) -> Judgement:
    images = pictures(count)
    figures = measure(images, *both(images, champion, challenger, gate), gate)
    power = power_of(demands_of(gate, figures, ("night",)), figures, ("night",), gate.effect)
    return judge(figures, ("night",), gate, further={"power": power.to_json()})


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


def a_slice(name: str, low: float, high: float, kind: str = "timeofday") -> SliceFigures:
    middle, spread = (low + high) / 2, (high - low) / 2 / NormalDist().inv_cdf(0.95)
    kind = "" if name == OVERALL else kind
    return SliceFigures(
        name, 9, 9, 9, ("car",), 0.5, 0.5 + middle, middle, low, high, 0.1, kind=kind, spread=spread
    )


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
    assert judge(figures, ["night"], GateConfig(confidence=0.95)).verdict is verdict


def test_without_a_target_or_its_slice_nothing_is_released() -> None:
    figures = [a_slice(OVERALL, 0.01, 0.1)]
    assert judge(figures, ["night"], GateConfig()).verdict is VerdictKind.INCONCLUSIVE
    assert judge(figures, [], GateConfig()).verdict is VerdictKind.INCONCLUSIVE


def test_a_retrain_is_for_the_slice_of_most_samples_and_never_for_none() -> None:
    assert targets_of({"(none)": 9, "undefined": 8, "night": 3, "dawn/dusk": 3, "daytime": 1}) == (
        "dawn/dusk",
    )
    assert targets_of({"(none)": 9}) == targets_of({}) == ()


def test_the_table_shows_power_figures_rules_and_verdict() -> None:
    text = to_text(verdict_on({"daytime": 0.8, "night": 0.3}, {"daytime": 0.8, "night": 0.75}).to_json())
    power, heading, *_ = text.splitlines()
    assert power.startswith("power: a candidate that is better by 0.040 on night") and "drives" in power
    assert heading.split()[5] == "detects"
    assert "night: better than +0.000: pass" in text
    assert text.endswith("verdict: pass")


def test_classes_sizes_and_other_attributes_are_slices_too() -> None:
    gate = GateConfig(min_boxes=20, resamples=100, margin=0.1)
    images = pictures(160)
    figures = {each.name: each for each in measure(images, *both(images, EVEN, EVEN, gate), gate)}
    assert list(figures)[:3] == [OVERALL, "class=car", "class=pedestrian"]
    # All boxes are of 15x15 pixels.
    assert not figures["size=small"].too_little and figures["size=small"].boxes == figures[OVERALL].boxes
    assert figures["size=large"].too_little == "no class has 20 boxes"
    mean = (figures["class=car"].champion + figures["class=pedestrian"].champion) / 2
    assert figures[OVERALL].champion == pytest.approx(mean)
    assert figures["size=small"].champion == pytest.approx(figures[OVERALL].champion)


EVEN = {"daytime": 0.7, "night": 0.6}


def test_a_size_is_scored_as_by_the_reference_code() -> None:
    generator = np.random.default_rng(4)
    images, rows = [], []
    for number in range(12):
        sides = generator.choice([12.0, 31.0, 33.0, 60.0, 120.0], 4)
        boxes = tuple(
            Box(x, y, x + side, y + side, NAMES[place % 2])
            for place, (side, (x, y)) in enumerate(zip(sides, generator.uniform(0, 300, (4, 2)), strict=True))
        )
        images.append(LabeledImage(f"{number}.jpg", None, 500, 500, boxes, {}, f"d{number}"))
        found = [
            [b.x1 + 1, b.y1, b.x2, b.y2 + 1, generator.uniform(), NAMES.index(b.category)] for b in boxes[:3]
        ]
        found += [[x, x, x + 40, x + 40, generator.uniform(), 0] for x in generator.uniform(0, 400, 2)]
        rows.append(np.array(found, np.float32))
    matches = Matches(images, rows, NAMES, NAMES)
    reference = matches._evaluation
    once = np.ones(len(images), np.int64)
    from pycocotools.cocoeval import COCOeval

    for size, ends in SIZES.items():
        evaluation = COCOeval(reference.cocoGt, reference.cocoDt, "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [list(ends)], [size]
        evaluation.params.maxDets = [300]
        evaluation.evaluate()
        evaluation.accumulate()
        expected = evaluation.eval["precision"][0, :, :, 0, 0].mean(axis=0)
        assert [of.ap50(once) for of in matches.ranked(size)] == pytest.approx(expected.tolist())


@given(st.data())
def test_many_weightings_at_once_score_as_copies_of_the_detections_do(data: st.DataObject) -> None:
    images = data.draw(st.integers(1, 5))
    places = np.array(data.draw(st.lists(st.integers(0, images - 1), max_size=12)), np.int64)
    hits = np.array(data.draw(st.lists(st.booleans(), min_size=len(places), max_size=len(places))), np.bool_)
    boxes = np.bincount(places[hits], minlength=images) + np.array(
        data.draw(st.lists(st.integers(0, 2), min_size=images, max_size=images)), np.int64
    )
    weightings = np.array(
        data.draw(
            st.lists(st.lists(st.integers(0, 3), min_size=images, max_size=images), min_size=1, max_size=4)
        ),
        np.int32,
    )
    found = RankedClass("car", places, hits, boxes).ap50s(weightings)
    for row, times in zip(found, weightings, strict=True):
        assert row == pytest.approx(by_copies(places, hits, boxes, times), nan_ok=True)


def by_copies(places: Any, hits: Any, boxes: Any, times: Any) -> float:
    """COCO's accumulation, on a list in which every copy stands."""
    total = int(boxes @ times)
    if not total:
        return float("nan")
    copied = [bool(hit) for place, hit in zip(places, hits, strict=True) for _ in range(times[place])]
    found, precision, recall = 0, [], []
    for number, hit in enumerate(copied, start=1):
        found += hit
        precision.append(found / (number + np.spacing(1)))
        recall.append(found / total)
    best = [max(precision[place:]) for place in range(len(precision))]
    at = np.searchsorted(recall, np.linspace(0, 1, 101))
    return float(sum(best[place] for place in at if place < len(best)) / 101)


INTERVALS = st.tuples(st.floats(-0.2, 0.2), st.floats(0.0, 0.2)).map(
    lambda ends: (ends[0], ends[0] + ends[1])
)
ORDER = [VerdictKind.FAIL, VerdictKind.INCONCLUSIVE, VerdictKind.PASS]


@given(
    INTERVALS, st.floats(0, 0.1), st.sampled_from([NOT_WORSE, BETTER, NO_REGRESSION]), st.floats(-0.1, 0.1)
)
def test_a_rule_never_likes_a_worse_interval_more(
    interval: tuple[float, float], better_by: float, rule: str, bound: float
) -> None:
    demand = Demand(rule, "night", bound, 0.95)
    before = decide(demand, a_slice("night", *interval)).verdict
    after = decide(demand, a_slice("night", interval[0] + better_by, interval[1] + better_by)).verdict
    assert ORDER.index(after) >= ORDER.index(before)
    if rule == NO_REGRESSION:
        assert before is not VerdictKind.INCONCLUSIVE
    elif before is VerdictKind.PASS:
        assert interval[0] > bound
    elif before is VerdictKind.FAIL:
        assert interval[1] < bound


def test_what_is_asked_of_which_slice_is_data() -> None:
    small = SliceFigures("class=train", 9, 9, 3, (), too_little="no class has 100 boxes", kind="class")
    figures = [
        a_slice(OVERALL, 0, 0.1),
        a_slice("daytime", 0, 0.1),
        a_slice("night", 0, 0.1),
        a_slice("class=car", 0, 0.1, "class"),
        a_slice("size=small", 0, 0.1, "size"),
        small,
    ]

    def asked(gate: GateConfig) -> dict[str, tuple[str, float]]:
        return {each.slice: (each.rule, each.bound) for each in demands_of(gate, figures, ["night"])}

    assert asked(GateConfig()) == {
        OVERALL: (NOT_WORSE, -0.02),
        "daytime": (NOT_WORSE, -0.02),
        "night": (BETTER, 0.0),
        "class=car": (NO_REGRESSION, -0.05),
        "size=small": (NO_REGRESSION, -0.05),
    }
    own = GateConfig(
        rules=(
            GateRuleConfig(slices="night", demand="better", margin=0.03),
            GateRuleConfig(slices="class", demand="not_worse", margin=0.1),
            GateRuleConfig(slices="class=train", demand="not_worse"),
            GateRuleConfig(slices="class=tram", demand="no_regression"),
        )
    )
    assert asked(own) == {
        "night": (BETTER, 0.03),
        "class=car": (NOT_WORSE, -0.1),
        "class=train": (NOT_WORSE, -0.02),
        "class=tram": (NO_REGRESSION, -0.02),
    }
    judged = judge(figures, ["night"], own)
    assert judged.verdict is VerdictKind.INCONCLUSIVE
    # Never inconclusive, and what is misspelt is seen.
    (tram,) = [result for result in judged.rules if result.slice == "class=tram"]
    assert tram.verdict is VerdictKind.PASS and tram.why == "not judged: the holdout has no such slice"


def test_more_guarded_slices_take_more_to_be_shown_worse() -> None:
    """One unjust refusal by chance would come sooner or later if each slice had the whole chance."""
    figures = [a_slice(OVERALL, 0, 0.1), a_slice("night", 0.1, 0.2)]
    figures += [a_slice(f"class=c{number}", -0.2, -0.06, "class") for number in range(30)]
    alone, many = (judge(some, ["night"], GateConfig(confidence=0.95)) for some in (figures[:3], figures))
    assert alone.verdict is VerdictKind.FAIL and many.verdict is VerdictKind.PASS


def test_the_power_report_says_how_many_drives_are_enough() -> None:
    figures = [
        SliceFigures(name, 90, 90, 900, ("car",), 0.5, 0.5, 0.0, -1.0, 1.0, kind=kind, spread=spread)
        for name, kind, spread in (
            (OVERALL, "", 0.009),
            ("daytime", "timeofday", 0.01),
            ("night", "timeofday", 0.02),
        )
    ]
    demands = demands_of(GateConfig(), figures, ["night"])
    report = power_of(demands, figures, ["night"], 0.04)
    assert not report.enough and 0.1 < report.power < 0.25
    shares = [rule.power for rule in report.rules]
    # Worse by .02 is two of its spreads away by day, better by .04 two by night: half of them show it.
    assert shares[1] == pytest.approx(shares[2]) == pytest.approx(NormalDist().cdf(2 - 1.96), abs=0.001)
    assert report.needed_drives is not None and report.needed_drives > report.drives == 90
    factor = report.needed_drives / 90

    def with_drives(factor: float) -> float:
        scaled = [SliceFigures(**{**each.to_json(), "spread": each.spread / factor**0.5}) for each in figures]
        return power_of(demands, scaled, ["night"], 0.04).power

    assert with_drives(factor) >= 0.8 > with_drives(0.97 * factor)


def test_where_a_rule_cannot_be_judged_or_has_no_room_no_number_is_enough() -> None:
    gate = GateConfig()
    figures = [
        a_slice(OVERALL, 0, 0.1),
        SliceFigures("night", 9, 9, 9, (), too_little="9 drives", kind="timeofday"),
    ]
    report = power_of(demands_of(gate, figures, ["night"]), figures, ["night"], 0.04)
    assert (report.power, report.enough, report.needed_drives) == (0.0, False, None)
    none = power_of(demands_of(gate, figures, []), figures, [], 0.04)
    assert (none.power, none.needed_drives) == (0.0, None)
    # Of a slice that is too small nobody knows; without a rule that asks for better nothing is released.
    assert "not known: too little of night)" in power_text(report.to_json(), ["night"])
    assert "no number of drives would be enough" in power_text(none.to_json(), [])
