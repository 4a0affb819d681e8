"""Contexts that nobody named: found where the pictures fall apart, and nowhere else."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.drift import DriftReferenceError, Scope, fit, scan
from edge.drift.finding import UNKNOWN, Found, find, stretches
from edge.drift.unknown import NAME
from tests.edge.drift_streams import ar1

RATE_HZ = 2.0
NAMES = ["light", "colour", "cars"]
ORIGINS = ["picture", "picture", "detections"]
PICTURE = (0, 1)
# Where worlds lie, in deviations: day, night, a tunnel of lamps.
WORLDS = np.array([[0.0, 0.0, 0.0], [-12.0, 3.0, -1.0], [6.0, 14.0, 0.0]])


def drive(rng: np.random.Generator, worlds: list[tuple[int, float]], rho: float = 0.6) -> np.ndarray:
    """A drive through worlds, each for so many seconds."""
    level = np.concatenate([np.tile(WORLDS[world], (round(RATE_HZ * s), 1)) for world, s in worlds])
    return ar1(rng, rho, len(level), 3) + level


def truth(worlds: list[tuple[int, float]]) -> np.ndarray:
    return np.concatenate([np.full(round(RATE_HZ * seconds), world) for world, seconds in worlds])


TURNS = st.lists(st.tuples(st.integers(0, 1), st.integers(300, 900)), min_size=2, max_size=6)


@settings(max_examples=10, deadline=None)
@given(drives=st.lists(TURNS, min_size=1, max_size=5), seed=st.integers(0, 100))
def test_worlds_far_apart_are_contexts_and_no_frame_is_in_the_wrong_one(
    drives: list[list[tuple[int, int]]], seed: int
) -> None:
    drives = [[(0, 300), (1, 300), *worlds] for worlds in drives]
    rng = np.random.default_rng(seed)
    rows = [drive(rng, worlds) for worlds in drives]
    found = find(rows, RATE_HZ, PICTURE, seed=seed)
    assert found.names == ("found-1", "found-2")
    worlds_of = [truth(worlds) for worlds in drives]
    for number in range(2):
        inside = np.concatenate(
            [own[labels == number] for own, labels in zip(worlds_of, found.labels, strict=True)]
        )
        assert len(set(inside.tolist())) == 1
    # Only what lies next to a change is left out.
    for own, labels in zip(worlds_of, found.labels, strict=True):
        changes = np.flatnonzero(np.diff(own))
        for left_out in np.flatnonzero(labels == UNKNOWN):
            assert np.abs(changes - left_out).min() <= 2 * 20 * RATE_HZ


@pytest.mark.parametrize("rho", [0.0, 0.9, 0.99, 0.999])
def test_one_world_is_one_context_however_slowly_it_wanders(rho: float) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        found = find([drive(rng, [(0, 2000)], rho) for _ in range(6)], RATE_HZ, PICTURE)
        assert len(found.names) == 1


def test_drives_of_one_world_that_differ_as_drives_do_are_one_context() -> None:
    rng = np.random.default_rng(0)
    drives = [drive(rng, [(0, 200)]) + 8 * np.array([number, -number, 0]) for number in range(5)]
    assert find(drives, RATE_HZ, PICTURE).names == ("found-1",)


def test_a_world_that_is_seldom_seen_is_no_context_and_in_no_other() -> None:
    rng = np.random.default_rng(1)
    worlds = [(0, 1800.0), (2, 80.0), (0, 900.0), (1, 1200.0)]
    found = find([drive(rng, worlds)], RATE_HZ, PICTURE)
    (labels,) = found.labels
    assert len(found.names) == 2
    assert set(labels[truth(worlds) == 2].tolist()) == {UNKNOWN}


def test_at_most_so_many_contexts_the_largest_ones() -> None:
    rng = np.random.default_rng(2)
    worlds = [(0, 1200.0), (1, 900.0), (2, 600.0)]
    found = find([drive(rng, worlds)], RATE_HZ, PICTURE, most=2)
    (labels,) = found.labels
    assert len(found.names) == 2
    assert set(labels[truth(worlds) == 2].tolist()) == {UNKNOWN}


def test_a_context_that_is_known_keeps_its_name() -> None:
    rng = np.random.default_rng(3)
    night = fit(drive(rng, [(1, 1200)]), RATE_HZ, NAMES, origins=ORIGINS, context="night").contexts
    found = find([drive(rng, [(0, 900), (1, 600)])], RATE_HZ, PICTURE, known=night)
    assert found.names == ("found-1", "night")


def test_frames_without_a_picture_and_constant_features_are_no_obstacle() -> None:
    rng = np.random.default_rng(4)
    rows = drive(rng, [(0, 900), (1, 900)])
    rows[::7, 0] = np.nan
    rows[600:700] = np.nan
    rows = np.column_stack([rows, np.full(len(rows), 5.0)])
    found = find([rows, np.zeros((0, 4))], RATE_HZ, (0, 1, 3))
    assert len(found.names) == 2
    assert set(found.labels[0][620:680].tolist()) == {UNKNOWN}
    assert len(found.labels[1]) == 0
    with pytest.raises(DriftReferenceError, match="no frame whose picture"):
        find([np.full((100, 3), np.nan)], RATE_HZ, PICTURE)


def test_a_world_that_changes_all_the_time_has_no_context_that_lasts() -> None:
    rng = np.random.default_rng(5)
    with pytest.raises(DriftReferenceError, match="no context lasts"):
        find([drive(rng, [(number % 2, 20.0) for number in range(60)])], RATE_HZ, PICTURE)


def test_the_same_drives_and_seed_give_the_same_contexts() -> None:
    def once() -> Found:
        rng = np.random.default_rng(6)
        return find([drive(rng, [(0, 400), (1, 400), (2, 400)])], RATE_HZ, PICTURE, seed=7)

    one, other = once(), once()
    assert one.names == other.names
    np.testing.assert_array_equal(one.labels[0], other.labels[0])


@settings(max_examples=50, deadline=None)
@given(labels=st.lists(st.lists(st.integers(-1, 2), max_size=30), max_size=3))
def test_stretches_are_all_frames_of_a_context_in_order(labels: list[list[int]]) -> None:
    drives = [np.arange(len(own), dtype=float)[:, None] + 100 * k for k, own in enumerate(labels)]
    for context in range(3):
        pieces = stretches(drives, [np.array(own, np.int64) for own in labels], context)
        together = [value for piece in pieces for value in piece[:, 0].tolist()]
        expected = [
            100.0 * k + n for k, own in enumerate(labels) for n, one in enumerate(own) if one == context
        ]
        assert together == expected
        assert all((np.diff(piece[:, 0]) == 1).all() for piece in pieces)


def test_a_reference_of_found_contexts_is_quiet_in_them_and_not_in_a_world_beside_them() -> None:
    rng = np.random.default_rng(8)
    made = fit(
        drive(rng, [(0, 1500), (1, 1500), (2, 60), (0, 900), (1, 900)]),
        RATE_HZ, NAMES, origins=ORIGINS, contexts="found", scope=Scope.CAMERA,
    )  # fmt: skip
    assert [context.name for context in made.contexts] == ["found-1", "found-2"]
    assert {context.scope for context in made.contexts} == {Scope.CAMERA}
    states = scan(made, drive(rng, [(0, 300), (1, 300), (0, 300)]), RATE_HZ)
    assert not any(state.alarm for state in states)
    assert len({state.context for state in states}) == 2
    strange = scan(made, drive(rng, [(0, 300), (2, 120)]), RATE_HZ)
    assert NAME in [one.name for one in strange[-1].features if one.verdict.value == "alarm"]


def test_found_in_one_world_the_context_has_the_name_that_was_given() -> None:
    rows = drive(np.random.default_rng(9), [(0, 600)])
    made = fit(rows, RATE_HZ, NAMES, origins=ORIGINS, context="all", contexts="found")
    assert [context.name for context in made.contexts] == ["all"]


def test_given_contexts_are_fitted_each_from_its_frames() -> None:
    rng = np.random.default_rng(10)
    worlds = [(0, 300.0), (1, 300.0), (0, 100.0)]
    rows, own = drive(rng, worlds), truth(worlds)
    names = ["" if frame in (50, 51) else ("day", "night")[world] for frame, world in enumerate(own)]
    for made in (
        fit(rows, RATE_HZ, NAMES, origins=ORIGINS, contexts=names),
        fit([rows[:700], rows[700:]], RATE_HZ, NAMES, origins=ORIGINS, contexts=[names[:700], names[700:]]),
    ):
        by_name = {context.name: context.features[0] for context in made.contexts}
        assert [by_name[name].frames for name in ("day", "night")] == [798, 600]
        assert by_name["night"].mean == pytest.approx(rows[own == 1, 0].mean())
    day = rows[[frame for frame, name in enumerate(names) if name == "day"], 0]
    assert by_name["day"].mean == pytest.approx(day.mean())
    assert all(one.name != other.name for one, other in pairwise(made.contexts))


@pytest.mark.parametrize(
    ("contexts", "word"),
    [
        (["day"] * 99, r"\[99\] names for \[100\] frames"),
        ([""] * 100, "no frame has a context"),
        ("fond", "'fond'"),
    ],
)
def test_contexts_that_do_not_fit_the_frames_are_refused(contexts: object, word: str) -> None:
    with pytest.raises(DriftReferenceError, match=word):
        fit(np.random.default_rng(0).normal(size=(100, 3)), RATE_HZ, NAMES, contexts=contexts)
