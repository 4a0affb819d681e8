"""The purity check's rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.config import PurityRules
from cloud.datasets import Box, LabeledImage, spread_out
from cloud.pipeline.purity import (
    ImpureError,
    LabelRules,
    difference_hash,
    drives_on_both_sides,
)
from cloud.pipeline.purity.balance import BalanceRules, class_findings, expected_boxes, slice_findings
from cloud.pipeline.purity.duplicates import TwinRules, find_twins, near_hashes, small_copy
from cloud.pipeline.purity.findings import UNITS, Finding, Kind, Verdict, judge
from cloud.pipeline.purity.norms import LEAST_SIGMA, slice_norms
from cloud.pipeline.purity.pictures import label_faults, open_picture
from cloud.pipeline.purity.shift import Rows, shifts
from tests.labelled import jpeg

RULES = LabelRules({"car", "pedestrian"}, box_slack_px=1.0)
SIZES = LabelRules({"car"}, 1.0, min_box_px=2.0, max_box_share=0.5, max_box_aspect=10.0)
HASHES = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (Box(0, 0, 10, 10, "unicorn"), "unknown class"),
        (Box(200, 0, 210, 10, "car"), "box lies outside its image"),
        (Box(-5, 0, 10, 10, "car"), "box reaches out of its picture"),
        (Box(0, 0, 103, 10, "car"), "box reaches out of its picture"),
        (Box(10, 10, 5, 20, "car"), "box is inverted"),
        (Box(0, 0, float("nan"), 5, "car"), "box is not finite"),
        (Box(5, 5, 5, 20, "car"), "box has no area"),
    ],
)
def test_one_bad_box_spoils_a_picture(box: Box, reason: str) -> None:
    (fault,) = label_faults([Box(1, 1, 9, 9, "car"), box], 100, 80, RULES)
    assert (str(fault), fault.box) == (reason, 1)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (Box(5, 5, 6, 20, "car"), "box is too small to be seen"),
        (Box(0, 0, 90, 60, "car"), "box covers nearly its whole picture"),
        (Box(0, 0, 60, 5, "car"), "box is a line"),
    ],
)
def test_boxes_have_a_sane_size(box: Box, reason: str) -> None:
    (fault,) = label_faults([Box(1, 1, 9, 9, "car"), box], 100, 80, SIZES)
    assert (str(fault), fault.kind, fault.box) == (reason, Kind.SIZE, 1)


def test_boxes_to_the_edge_and_rounding_are_no_fault() -> None:
    inside = [Box(0, 0, 100, 80, "car"), Box(-0.5, 3, 100.9, 80.4, "pedestrian")]
    assert label_faults(inside, 100, 80, RULES) == label_faults([], 100, 80, RULES) == []
    (twice,) = label_faults([Box(1, 1, 9, 9, "car")] * 2, 100, 80, RULES)
    assert (str(twice), twice.box) == ("box comes twice", 1)


@pytest.mark.parametrize("cut", [1, 2, 40, 200])
def test_a_picture_that_is_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(ImpureError, match="cut short"):
        open_picture(jpeg()[:-cut], 160, 96)


def test_pictures_must_be_jpegs_of_their_size() -> None:
    assert open_picture(jpeg(), 160, 96, ("JPEG",)).size == (160, 96)
    with pytest.raises(ImpureError, match="size"):
        open_picture(jpeg(), 160, 95)
    with pytest.raises(ImpureError, match="does not decode"):
        open_picture(b"no picture\xff\xd9", 160, 96)


def test_the_hash_and_the_copy_see_layout_and_not_brightness() -> None:
    scene = np.random.default_rng(1).integers(20, 120, (64, 96), dtype=np.uint8)
    other = np.random.default_rng(2).integers(20, 120, (64, 96), dtype=np.uint8)
    assert difference_hash(scene) == difference_hash(scene + np.uint8(40))
    assert (difference_hash(scene) ^ difference_hash(other)).bit_count() > 10
    assert small_copy(scene) @ small_copy(scene + np.uint8(40)) > 0.999
    assert small_copy(scene) @ small_copy(other) < 0.5
    assert not small_copy(np.full((64, 96), 7, np.uint8)).any()


@given(st.lists(HASHES, max_size=12), st.lists(HASHES, max_size=4), st.integers(0, 64))
def test_near_hashes_agree_with_the_plain_definition(new: list[int], known: list[int], bits: int) -> None:
    everything = [*known, *new]
    expected = [
        (later, earlier, distance)
        for later in range(len(new))
        for earlier in range(len(known) + later)
        if (distance := (new[later] ^ everything[earlier]).bit_count()) <= bits
    ]
    assert sorted(near_hashes(new, known, bits)) == sorted(expected)


@given(st.lists(HASHES, max_size=12), st.lists(HASHES, max_size=4), st.integers(0, 64))
def test_without_copies_a_twin_is_near_a_known_one_or_one_that_is_kept(
    new: list[int], known: list[int], bits: int
) -> None:
    kept, expected = list(known), []
    for place, value in enumerate(new):
        if any((value ^ other).bit_count() <= bits for other in kept):
            expected.append(place)
        else:
            kept.append(value)
    rules = TwinRules(compare_bits=0, same_bits=bits, likeness=0.98)
    twins = find_twins([(value, None) for value in new], [""] * len(new), known, lambda place: None, rules)
    assert sorted({twin.later for twin in twins}) == expected


def test_twins_are_told_across_groups_also_when_both_have_one_of_their_own() -> None:
    rng = np.random.default_rng(0)
    copy = small_copy(rng.integers(0, 255, (90, 160), dtype=np.uint8))
    rules = TwinRules(compare_bits=10, same_bits=2, likeness=0.98)
    sides = ["train", "train", "val", "val"]

    def told(known: list[int]) -> list[tuple[int, int]]:
        twins = find_twins([(0, copy)] * 4, sides, known, lambda place: copy, rules)
        return [(twin.later, twin.earlier - len(known)) for twin in twins]

    assert told([]) == [(1, 0), (2, 0), (3, 0), (3, 2)]
    # What known data have is no one's original.
    assert told([0b111]) == [(0, -1), (1, -1), (2, -1), (2, 0), (3, -1), (3, 0)]
    other = small_copy(rng.integers(0, 255, (90, 160), dtype=np.uint8))
    assert find_twins([(0, copy), (0, other)], ["", ""], [], lambda place: None, rules) == []


def test_a_drive_on_two_sides_is_found() -> None:
    assert drives_on_both_sides([("a", "train"), ("b", "val"), ("a", "train")]) == {}
    assert drives_on_both_sides([("a", "train"), ("a", "val")]) == {"a": {"train", "val"}}


def test_a_slice_has_its_own_norm_and_few_bad_ones_do_not_move_it() -> None:
    rng = np.random.default_rng(3)
    day, night = rng.normal(6.5, 0.2, 100), rng.normal(3.0, 0.4, 100)
    night[:10] = 9.0
    norms = slice_norms(["day"] * 100 + ["night"] * 100 + ["dusk"] * 3, [*day, *night, 1, 2, 3], 20)
    assert set(norms) == {"day", "night"}
    assert abs(norms["day"].deviations(3.0)) > 5 > abs(norms["night"].deviations(3.0))
    assert norms["night"].deviations(9.0) > 5
    assert slice_norms(["same"] * 20, [4.0] * 20, 20)["same"].sigma == LEAST_SIGMA


def picture(name: str, *classes: str, light: str = "night", drive: str = "") -> LabeledImage:
    boxes = tuple(Box(number, 0, number + 5, 5, one) for number, one in enumerate(classes))
    return LabeledImage(name, None, 100, 80, boxes, {"light": light}, drive or name)


BALANCE = BalanceRules(ratio=3.0, min_expected_boxes=10, min_slice_share=0.1)


def test_classes_are_expected_as_the_slices_of_known_data_have_them() -> None:
    known = [picture(f"d{n}", "car", "car", "bus", light="day") for n in range(10)]
    known += [picture(f"n{n}", "car", light="night") for n in range(10)]
    nights = [picture(f"x{n}", "car") for n in range(20)]
    assert expected_boxes(nights, known, "light") == {"car": 20.0}
    # By night nobody expects a bus; that all are cars is right.
    assert class_findings(nights, known, "light", BALANCE)[0] == []
    days = [picture(f"y{n}", "car", "car", "truck", light="day") for n in range(20)]
    found, figures = class_findings(days, known, "light", BALANCE, "new")
    assert [one.what for one in found] == [
        "new: bus: none where 20 boxes were to be expected",
        "new: truck: 20 where 0 boxes were to be expected",
    ]
    assert figures["bus"] == {"boxes": 0.0, "expected": 20.0}


def test_a_thin_slice_is_told() -> None:
    images = [picture(f"{n}", light="day") for n in range(19)] + [picture("one")]
    assert [one.what for one in slice_findings(images, "light", BALANCE)] == ["light night: 1 of 20 pictures"]


def test_a_shift_counts_drives_and_not_pictures() -> None:
    rng = np.random.default_rng(5)

    def rows(drives: int, each: int, offset: float) -> Rows:
        # The pictures of a drive are alike, and drives are not.
        base = np.repeat(rng.normal(0, 1, drives), each) + rng.normal(0, 0.01, drives * each) + offset
        names = [f"{offset}-{number // each}" for number in range(drives * each)]
        features = np.stack([base, np.full(len(base), np.nan)], axis=1).astype(np.float32)
        return Rows(["night"] * len(base), names, features)

    known = rows(60, 3, 0.0)
    (far,) = shifts(rows(30, 3, 3.0), known, ["one", "never there"])
    assert (far.slice, far.feature, far.drives, far.known_drives) == ("night", "one", 30, 60)
    assert far.distance > 0.7 and far.p_value < 1e-6
    # Four drives of a hundred pictures each are four.
    assert shifts(rows(4, 100, 3.0), known, ["one", "never there"]) == []
    (near,) = shifts(rows(30, 3, 0.0), known, ["one", "never there"])
    assert near.p_value > 0.001


def test_rules_make_the_verdict_and_only_some_refuse() -> None:
    def finding(kind: Kind, name: str, box: int | None = None) -> Finding:
        return Finding(kind, (name,), "what", f"why {kind.value}", box)

    found = [
        finding(Kind.CLASS, "a.jpg", 0),
        finding(Kind.CLASS, "a.jpg", 0),
        finding(Kind.CLASS, "a.jpg", 1),
        finding(Kind.BLUR, "b.jpg"),
    ]
    looked_at = {Kind.CLASS: 100, Kind.BLUR: 100}
    report = judge(found, looked_at, PurityRules(), {Kind.DRIFT: "no known data"})
    tallies = {tally.kind: tally for tally in report.tallies}
    assert (tallies[Kind.CLASS].found, tallies[Kind.CLASS].verdict) == (2, Verdict.FAIL)
    assert (tallies[Kind.BLUR].found, tallies[Kind.BLUR].verdict) == (1, Verdict.PASS)
    assert tallies[Kind.DRIFT].note == "no known data"
    assert report.verdict is Verdict.FAIL
    assert report.refused() == {"a.jpg": "why unknown_class"}
    assert judge(found[3:], {Kind.BLUR: 20}, PurityRules()).verdict is Verdict.WARN
    assert judge([], looked_at, PurityRules()).verdict is Verdict.PASS


def test_each_kind_has_a_rule_and_a_unit() -> None:
    assert {kind.value for kind in Kind} == set(PurityRules.model_fields)
    assert set(UNITS) == set(Kind)


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(0, 30))
def test_a_sample_takes_each_drive_before_one_twice(drives: list[int], count: int) -> None:
    images = [picture(f"{number}.jpg", drive=str(drive)) for number, drive in enumerate(drives)]
    chosen = spread_out(images, count)
    assert len(chosen) == min(count, len(images))
    assert chosen == spread_out(list(reversed(images)), count)
    times = [sum(image.drive == str(drive) for image in chosen) for drive in set(drives)]
    room = [drives.count(drive) for drive in set(drives)]
    assert all(least >= min(max(times, default=0) - 1, have) for least, have in zip(times, room, strict=True))
