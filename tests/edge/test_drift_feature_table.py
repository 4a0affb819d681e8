"""What is said of each feature, in code and documentation: its range, its cost, what it holds under."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.drift.feature import Feature, Invariance
from edge.drift.features import FEATURES, NAMES, SHARED_US, extract
from edge.drift.state import Origin
from tests.edge.test_drift_features import CLASSES, boxes, of


def as_documented(feature: Feature) -> str:
    """The feature's row of docs/drift-features.md."""
    least, most = (f"{end:g}".replace("inf", "∞") for end in (feature.least, feature.most))
    held = ", ".join(one.value for one in Invariance if one in feature.holds_under) or "-"
    return f"| `{feature.name}` | {feature.doc} | {least} to {most} | {held} | {feature.cost_us} |"


def test_the_documentation_has_each_feature_as_it_is() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "drift-features.md").read_text()
    tables = page[: page.index("## Which change moves which feature")]
    assert [line for line in tables.splitlines() if line.startswith("| `")] == list(
        map(as_documented, FEATURES)
    )
    assert f"take {SHARED_US} more" in " ".join(page.split())


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.integers(0, 5), st.integers(0, 2**32 - 1), st.booleans())
def test_any_picture_gives_values_in_their_ranges(
    height: int, width: int, count: int, seed: int, extreme: bool
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    if extreme:
        image = np.where(image > 127, np.uint8(255), np.uint8(0))
    corners = np.sort(rng.random((count, 2, 2)), axis=1).reshape(count, 4) * np.tile([width, height], 2)
    rows = np.column_stack([corners, rng.random(count), rng.integers(0, len(CLASSES), count)]).astype("f4")
    found = extract(image, rows, class_names=CLASSES)
    assert found.dtype == np.float32
    for feature, value in zip(FEATURES, found, strict=True):
        assert math.isnan(value) or feature.least <= value <= feature.most, feature.name


def ends() -> dict[str, list[float]]:
    """Values of all features of pictures and boxes that are as far out as they can be."""
    black, white = (np.full((180, 320, 3), level, np.uint8) for level in (0, 255))
    rows, columns = np.indices((180, 320))
    fine, coarse = (np.where(((rows // by + columns // by) % 2)[..., None], white, black) for by in (1, 2))
    halves, red, blue, red_green = (black.copy() for _ in range(4))
    halves[:90], red[..., 2], blue[..., 0] = 255, 255, 255
    red_green[:90, :, 2] = red_green[90:, :, 1] = 255
    pictures = [black, white, fine, coarse, halves, red, blue, red_green]
    many = tuple(f"class {number}" for number in range(200))
    found = [
        *map(of, pictures),
        of(black, boxes((0, 0, 320, 180, 1, 2)), CLASSES),
        of(black, boxes((0, 0, 0, 0, 0, 0)), CLASSES),
        of(black, boxes((320, 180, 320, 180, 1, 1)), CLASSES),
        of(black, boxes(*((0, 0, 9, 9, 1, number) for number in range(200))), many),
    ]
    return {name: [one[name] for one in found if not math.isnan(one[name])] for name in NAMES}


def test_a_range_is_no_wider_than_what_a_feature_can_be() -> None:
    """But for the vanishing point's, which is where the search for it ends, and what has no end."""
    values = ends()
    for feature in FEATURES:
        if feature.name.startswith("vanishing") or feature.origin is Origin.EMBEDDING:
            continue
        assert min(values[feature.name]) <= feature.least + 0.1 * abs(feature.least), feature.name
        assert max(values[feature.name]) >= 0.85 * feature.most or feature.name == "count", feature.name
