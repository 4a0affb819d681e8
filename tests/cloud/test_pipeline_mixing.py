"""Mixing old and new: drives keep their side, old pictures are spread."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from cloud.pipeline.manifest import Entry, Manifest
from cloud.pipeline.mixing import assign_sides, pick_old

DRIVES = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(1, 9), min_size=1, max_size=8)


@given(DRIVES, st.sampled_from([(0.0, 0.0), (0.1, 0.1), (0.5, 0.5), (1.0, 0.0)]))
def test_a_new_batch_is_always_trained_on_and_a_drive_keeps_its_side(
    new: dict[str, int], shares: tuple[float, float]
) -> None:
    sides = assign_sides(new, {}, *shares)
    assert sides.keys() == new.keys()
    assert "train" in sides.values()
    assert assign_sides(new, sides, *shares) == sides
    more = {**new, "later": 1}
    assert assign_sides(more, sides, *shares).items() >= sides.items()


def test_a_drive_that_is_kept_aside_stays_aside() -> None:
    assert assign_sides({"a": 5}, {"a": "val"}, 0.0, 0.0) == {"a": "val"}


def entries(**per_slice: int) -> list[Entry]:
    return [
        Entry(f"{light}-{number}.jpg", f"{light}{number % 4}", "train", True, light, "0" * 16, "v1")
        for light, count in per_slice.items()
        for number in range(count)
    ]


def test_old_pictures_are_spread_over_slices_and_drives() -> None:
    old = entries(day=100, dusk=8, night=40)
    picked = pick_old(old, 36, seed=0)
    by_name = {entry.name: entry for entry in old}
    assert Counter(by_name[name].slice for name in picked) == {"day": 14, "night": 14, "dusk": 8}
    drives = Counter(by_name[name].drive for name in picked)
    assert all(3 <= count <= 4 for drive, count in drives.items() if drive.startswith("night"))
    assert pick_old(old, 36, seed=0) == picked != pick_old(old, 36, seed=1)
    assert len(pick_old(old, 1000, seed=0)) == 148


def test_a_manifest_comes_back_as_it_was_written() -> None:
    manifest = Manifest(tuple(entries(day=3)))
    assert Manifest.from_text(manifest.to_text()) == manifest
    assert manifest.counts() == {"train": {"day": 3}, "val": {}, "test": {}}
