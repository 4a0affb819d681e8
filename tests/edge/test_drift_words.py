from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.drift.explaining import drive_words, explain, explained, wall_words
from edge.drift.kinds import GEOMETRY, TABLE, kind_of
from edge.drift.state import DriftState, FeatureDrift, Kind, Origin, Verdict

PICTURE = (
    "brightness",
    "contrast",
    "dark_tail",
    "bright_tail",
    "colourfulness",
    "sharpness",
    "clipped_share",
    "warmth",
    "haze",
    "noise",
    "vanishing_x",
    "vanishing_y",
)
DETECTIONS = (
    "count",
    "mean_confidence",
    "low_confidence_share",
    "mean_size",
    "mean_height",
    "class_diversity",
    "top_confidence",
    "mean_x",
)
NAMES = PICTURE + DETECTIONS
# What the simulator's effects do to day drives, sigmas of other day drives: means of 6 drives of 40 s against
# 12, detections of the shipped model. Over- and underexposed by two stops; the camera turned by 5 degrees.
EFFECTS = {
    "night": (Kind.LIGHT, (
        -7.1, 0.5, -4.1, -0.1, -0.6, -0.5, 18.3, 4.9, -10.9, 27.6, -1.0, -1.7,
        -0.3, -2.4, 2.1, 1.5, -0.2, 0.0, -4.8, 1.2)),
    "dusk": (Kind.LIGHT, (
        -0.1, 2.0, -0.3, 2.8, 0.2, -2.0, 29.6, -0.8, -1.4, 17.1, -0.5, -0.8,
        0.1, -1.2, 1.2, 0.2, 0.0, 0.4, -0.7, 0.3)),
    "rain": (Kind.WEATHER, (
        -0.7, -1.0, 0.5, -2.6, -2.8, -2.8, 1.4, 1.2, 4.5, -3.1, -0.1, 0.6,
        -0.7, -0.5, 0.4, 0.4, 0.2, 0.0, -0.8, 0.1)),
    "fog": (Kind.WEATHER, (
        4.2, -1.5, 3.8, -0.6, -3.7, -4.7, 1.6, 0.8, 8.9, -5.8, 1.6, 2.7,
        -3.4, -1.2, 0.8, 4.9, 4.1, -1.5, -11.6, 5.0)),
    "smear": (Kind.LENS, (
        0.3, -0.8, 0.4, -0.7, -0.6, -1.4, -0.1, -0.1, 2.0, -2.4, 0.7, 0.0,
        -1.1, -0.1, 0.1, 0.8, 0.4, -0.2, -1.1, 0.4)),
    "turned": (Kind.CAMERA_MOVED, (
        0.2, 0.1, -0.1, 0.2, -0.1, -0.1, -0.1, -0.1, 0.2, 0.0, -8.0, 1.0,
        0.0, 0.1, 0.0, 0.1, 0.1, 0.0, 0.1, -0.9)),
    "too long": (Kind.EXPOSURE, (
        8.6, 1.1, 4.1, 4.2, 0.2, -0.6, 66.9, 0.6, 2.7, 0.7, 0.3, 0.4,
        -0.2, 0.2, -0.2, 0.2, 0.1, -0.2, -0.2, 0.0)),
    "too short": (Kind.EXPOSURE, (
        -6.1, -2.8, -2.5, -6.0, -1.9, 0.5, -0.1, -0.3, -1.0, -2.7, 0.1, -0.3,
        0.1, -0.2, 0.2, 0.1, 0.1, 0.0, -0.2, 0.0)),
    # As it would be: more cars, nearer; nothing else of the picture.
    "jam": (Kind.TRAFFIC, (
        0.2, 0.3, 0.1, 0.2, 0.3, 0.1, 0.0, 0.1, 0.2, 0.1, 0.2, 0.1,
        4.0, -0.5, 0.4, 1.5, 0.3, -1.1, 0.5, 0.2)),
}  # fmt: skip


def feature(name: str, shift: float = 0.0, *, alarm: bool = False, **more: object) -> FeatureDrift:
    made = FeatureDrift(
        name=name,
        origin=Origin.DETECTIONS if name in DETECTIONS else Origin.PICTURE,
        context="day",
        window_s=60.0,
        d=0.4,
        p=1e-6,
        false_alarms_per_day=1e-3,
        shift_sigma=shift,
        verdict=Verdict.ALARM if alarm else Verdict.STABLE,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def state(*features: FeatureDrift, context: str = "day", **more: object) -> DriftState:
    alarm = any(one.verdict is Verdict.ALARM for one in features)
    verdict = Verdict.ALARM if alarm else Verdict.STABLE
    return replace(DriftState(verdict, 0.5, context, 0.0, features, 90_000_000_000, 65_000_000_000), **more)  # type: ignore[arg-type]


def of_effect(shifts: tuple[float, ...], scale: float = 1.0) -> list[FeatureDrift]:
    """The features of an effect; those that moved more than a sigma are in alarm, or the strongest."""
    strongest = max(abs(shift) for shift in shifts)
    return [
        feature(name, shift * scale, alarm=abs(shift) >= min(1.5, strongest))
        for name, shift in zip(NAMES, shifts, strict=True)
    ]


def test_an_alarm_says_feature_direction_reference_and_since_when() -> None:
    said = explain(
        state(
            feature("brightness", -3.14, alarm=True),
            feature("contrast", 2.0, alarm=True),
            feature("count", -1.9, alarm=True, mean=4.8, reference_mean=9.9),
            feature("sharpness", -9.0),
        ),
        drive_words,
    )
    assert said == (
        "brightness 3.1 sigma below the day reference, contrast 2.0 sigma above,"
        " detections per frame halved (9.9 -> 4.8), since 1:05 of the drive"
    )


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (0.5, "almost gone (10.0 -> 0.5)"),
        (3.0, "down by 70 % (10.0 -> 3.0)"),
        (5.0, "halved (10.0 -> 5.0)"),
        (15.0, "up by 50 % (10.0 -> 15.0)"),
        (20.0, "doubled (10.0 -> 20.0)"),
        (34.0, "3.4 times as many (10.0 -> 34.0)"),
        (10.5, "0.7 sigma above the day reference"),
        (math.nan, "0.7 sigma above the day reference"),
    ],
)
def test_detections_are_counted_in_ratios(now: float, words: str) -> None:
    counted = feature("count", 0.7, alarm=True, mean=now, reference_mean=10.0)
    assert explain(state(counted), drive_words) == f"detections per frame {words}, since 1:05 of the drive"


def test_a_share_is_told_in_percent() -> None:
    shares = feature("low_confidence_share", 2.0, alarm=True, mean=0.61, reference_mean=0.052)
    assert explain(state(shares), drive_words).startswith("share of low confidences up from 5.2 % to 61 %")


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (0.0, 0.0018, "up from 0 % to 0.18 %"),
        (0.00001, 0.0018, "up from under 0.01 % to 0.18 %"),
        (0.25, 0.004, "down from 25 % to 0.40 %"),
    ],
)
def test_a_small_share_is_not_told_as_none(before: float, now: float, words: str) -> None:
    clipped = feature("clipped_share", 9.0, alarm=True, mean=now, reference_mean=before)
    assert explain(state(clipped), drive_words).startswith(f"share of clipped pixels {words}")


def test_another_shape_with_the_same_mean_is_no_direction() -> None:
    said = explain(state(feature("brightness", 0.2, alarm=True)), drive_words)
    assert said.startswith("brightness distributed otherwise than in the day reference (D 0.40)")


def test_of_many_features_the_first_are_named_and_the_rest_counted() -> None:
    said = explain(state(*(feature(name, -2.0, alarm=True) for name in NAMES)), drive_words)
    assert f"{len(NAMES) - 3} more" in said and "sharpness" not in said
    assert said.count("day reference") == 1


def test_a_scene_that_fits_no_context_is_told() -> None:
    lost = state(feature("brightness", -2.0, alarm=True), context="", unknown_context_share=0.62)
    assert "like no context that is known (62 % of the last minute)" in explain(lost, drive_words)


def test_without_an_alarm_there_is_nothing_to_explain() -> None:
    quiet = state(feature("brightness", -3.0))
    assert explain(quiet, drive_words) == ""
    assert explained(quiet, drive_words) is quiet


def test_an_explained_state_has_words_and_kind() -> None:
    told = explained(state(*of_effect(EFFECTS["night"][1])), drive_words)
    assert told.kind is Kind.LIGHT
    assert told.explanation == explain(told, drive_words)
    document = told.to_json()
    assert (document["kind"], document["explanation"]) == ("light", told.explanation)


def test_moments_are_told_by_the_clock_that_there_is() -> None:
    assert [drive_words(seconds * 10**9) for seconds in (0, 65, 725, 4325, -65)] == [
        "0:00 of the drive", "1:05 of the drive", "12:05 of the drive",
        "1:12:05 of the drive", "-1:05 of the drive",
    ]  # fmt: skip
    noon = 1_780_000_000 * 10**9
    east = timezone(timedelta(hours=2), "CEST")
    assert wall_words(noon, noon, timezone.utc) == "20:26 UTC"
    assert wall_words(noon, noon, east) == "22:26 CEST"
    assert wall_words(noon, noon + 86_400 * 10**9, timezone.utc) == "2026-05-28 20:26 UTC"
    # The day is the listener's: two hours on, it is another one in the east alone.
    later = noon + 7_200 * 10**9
    assert wall_words(noon, later, timezone.utc) == "20:26 UTC"
    assert wall_words(noon, later, east) == "2026-05-28 22:26 CEST"


@given(st.integers(), st.integers())
def test_any_clock_is_told(unix_ns: int, now_ns: int) -> None:
    assert wall_words(unix_ns, now_ns, timezone.utc)


@pytest.mark.parametrize("effect", EFFECTS)
@settings(max_examples=40)
@given(
    scale=st.floats(0.6, 1.5),
    noise=st.lists(st.floats(-0.2, 0.2), min_size=len(NAMES), max_size=len(NAMES)),
    order=st.permutations(range(len(NAMES))),
)
def test_effects_are_told_apart_while_the_window_fills(
    effect: str, scale: float, noise: list[float], order: list[int]
) -> None:
    kind, shifts = EFFECTS[effect]
    moved = tuple(shift + part for shift, part in zip(shifts, noise, strict=True))
    features = of_effect(moved, scale)
    assert kind_of([features[number] for number in order]) is kind


def test_less_sure_of_the_same_picture_is_no_kind_of_its_own() -> None:
    unsure = [feature(name, 0.1) for name in PICTURE] + [feature("mean_confidence", -3.0, alarm=True)]
    assert kind_of(unsure) is Kind.OTHER


def test_features_of_ones_own_have_no_kind() -> None:
    assert kind_of([feature("tyre_pressure", -5.0, alarm=True)]) is Kind.OTHER
    assert kind_of([]) is Kind.OTHER


@given(
    st.lists(
        st.builds(
            feature,
            st.sampled_from([*NAMES, *sorted(GEOMETRY), "another"]),
            st.floats(),
            alarm=st.booleans(),
            mean=st.floats(),
            reference_mean=st.floats(),
            window_s=st.sampled_from([0.0, 60.0]),
        ),
        max_size=20,
    )
)
def test_any_numbers_have_a_kind_and_words(features: list[FeatureDrift]) -> None:
    told = explained(state(*features), drive_words)
    assert told.alarm == bool(told.explanation)
    assert "\n" not in told.explanation and len(told.explanation) < 2_000
    if told.alarm:
        assert told.kind in set(Kind)


def test_the_table_s_patterns_tell_their_own_kinds() -> None:
    for kind, _, pattern in TABLE:
        assert kind_of([feature(name, 5 * move, alarm=True) for name, move in pattern.items()]) is kind


def test_one_feature_alone_gives_the_likelier_kind() -> None:
    assert kind_of([feature("brightness", -3.1, alarm=True)]) is Kind.LIGHT


def test_frames_of_no_known_context_are_a_share_and_told_once() -> None:
    unknown = feature("unknown_context", 4.0, alarm=True, context="", mean=0.42, reference_mean=0.1)
    said = explain(state(unknown, context="", unknown_context_share=0.42), drive_words)
    assert said == "frames that fit no known context up from 10 % to 42 %, since 1:05 of the drive"


def test_features_of_a_context_that_was_left_name_theirs() -> None:
    said = explain(
        state(
            feature("brightness", -2.0, alarm=True),
            feature("contrast", 1.0, alarm=True, context="tunnel"),
            feature("sharpness", 1.5, alarm=True, context="tunnel"),
        ),
        drive_words,
    )
    assert said.startswith(
        "brightness 2.0 sigma below the day reference, contrast 1.0 sigma above the tunnel reference,"
        " sharpness 1.5 sigma above, since"
    )
