"""What kind of change an alarm is of, as far as the directions of the features tell.

Each effect moves the features of the picture in a pattern of its own. The pattern that points the way the
features moved (the largest cosine between the two) gives the kind: only the proportions count, so that it is
the same while a window fills with what is new. The patterns are TABLE: what the simulator's effects do to day
drives, in standard deviations of other day drives up to 5, the largest entry 1. What is not in a pattern
stays as it is, or moves by what is in the scene.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from edge.drift.state import FeatureDrift, Kind, Origin, Verdict

# Where something is in the picture: it moves to either side.
GEOMETRY = frozenset({"vanishing_x", "vanishing_y", "mean_x", "mean_height"})

_Pattern = Mapping[str, float]


def _pattern(**moves: float) -> _Pattern:
    return MappingProxyType(moves)


_LIGHT = (
    (
        "night: dark but for the lamps",
        _pattern(
            brightness=-1.0, dark_tail=-0.8, clipped_share=1.0, warmth=1.0, haze=-1.0, noise=1.0,
        ),
    ),
    (
        "dusk: a low sun, lamps lit, the exposure kept",
        _pattern(
            bright_tail=0.5, contrast=0.35, sharpness=-0.35, clipped_share=1.0, noise=1.0,
            haze=-0.2, warmth=-0.05,
        ),
    ),
)  # fmt: skip
_EXPOSURE = (
    (
        "too short: the lights go too",
        _pattern(
            brightness=-1.0, bright_tail=-1.0, contrast=-0.5, dark_tail=-0.45, colourfulness=-0.3, noise=-0.5,
            haze=-0.1,
        ),
    ),
    (
        "too long: all goes up, to the end of the scale",
        _pattern(brightness=1.0, dark_tail=0.8, bright_tail=0.8, contrast=0.15, clipped_share=1.0, haze=0.5),
    ),
)  # fmt: skip
_WEATHER = (
    (
        "fog: the darks go, contrast, colours and edges with them",
        _pattern(
            brightness=0.8, dark_tail=0.75, contrast=-0.2, colourfulness=-0.7, sharpness=-0.95, haze=1.0,
            noise=-1.0, clipped_share=0.25, warmth=0.05,
        ),
    ),
    (
        "rain: grey and veiled, without lights",
        _pattern(
            bright_tail=-0.5, colourfulness=-0.6, sharpness=-0.6, contrast=-0.1, brightness=-0.05, haze=1.0,
            noise=-0.65, clipped_share=0.2, warmth=0.2,
        ),
    ),
)  # fmt: skip
_LENS = (
    (
        "smeared: the finest goes, the light stays",
        _pattern(noise=-1.0, haze=0.8, sharpness=-0.5, contrast=-0.15, bright_tail=-0.1, colourfulness=-0.05),
    ),
    ("out of focus: edges go", _pattern(sharpness=-1.0, noise=-0.6, contrast=-0.1, bright_tail=-0.1)),
)
# The likelier kind first: of two that fit as well, it is taken.
TABLE: tuple[tuple[Kind, str, _Pattern], ...] = tuple(
    (kind, what, pattern)
    for kind, patterns in (
        (Kind.LIGHT, _LIGHT),
        (Kind.EXPOSURE, _EXPOSURE),
        (Kind.WEATHER, _WEATHER),
        (Kind.LENS, _LENS),
    )
    for what, pattern in patterns
)

_LEAST_COSINE = 0.6
_LEAST_SIGMA = (
    0.5  # drives differ by as much: what moved less has not moved, and what moved more, by so much less
)
_MOST_SIGMA = 5.0  # beyond it a feature is at the end of its scale
_PICTURE_PART = 0.4  # of the detections' strongest move: below it the picture is as it was
# What says that the detector is less sure, and nothing of the traffic.
_CONFIDENCE = frozenset({"mean_confidence", "low_confidence_share", "top_confidence"})


def kind_of(features: Sequence[FeatureDrift]) -> Kind:
    """The kind of change that is in alarm.

    | kind | picture | detections |
    |---|---|---|
    | traffic | as it was | their number, sizes or classes are in alarm |
    | camera moved | things are elsewhere (GEOMETRY), all else as it was | |
    | light, exposure, weather, lens | by the nearest pattern of TABLE | |
    | other | near none of the patterns, or unknown features | confidences or the embedding alone in alarm |

    Args:
        features: all of a state's, those that are not in alarm too.
    """
    # The more unusual first: of a feature that is in alarm in two contexts, that one counts.
    judged = [one for one in reversed(features) if one.window_s > 0 and math.isfinite(one.shift_sigma)]
    alarming = [one for one in features if one.verdict is Verdict.ALARM]
    picture = {one.name: _move(one) for one in judged if one.origin is Origin.PICTURE}
    detections = {one.name: _move(one) for one in judged if one.origin is Origin.DETECTIONS}
    strongest = _strongest(picture)
    if all(one.origin is not Origin.PICTURE for one in alarming) and (
        strongest < _PICTURE_PART * _strongest(detections)
    ):
        traffic = any(
            one.origin is Origin.DETECTIONS and one.name not in _CONFIDENCE | GEOMETRY for one in alarming
        )
        if traffic:
            return Kind.TRAFFIC
    found = {**picture, **{name: shift for name, shift in detections.items() if name in GEOMETRY}}
    return _nearest(found)


def _nearest(moves: Mapping[str, float]) -> Kind:
    geometry = _strongest({name: shift for name, shift in moves.items() if name in GEOMETRY})
    rest = {name: shift for name, shift in moves.items() if name in _PATTERNED}
    if _strongest(rest) < 0.5 * geometry:
        return Kind.CAMERA_MOVED
    cosine, _, kind = max(
        (round(_cosine(rest, pattern), 6), -number, kind) for number, (kind, _, pattern) in enumerate(TABLE)
    )
    return kind if cosine >= _LEAST_COSINE else Kind.OTHER


_PATTERNED = frozenset(name for _, _, pattern in TABLE for name in pattern)


def _cosine(moves: Mapping[str, float], pattern: _Pattern) -> float:
    """Between moves and the pattern of the same features: -1 to 1; 0 where one has no length."""
    one = math.sqrt(sum(move**2 for move in moves.values()))
    other = math.sqrt(sum(pattern.get(name, 0.0) ** 2 for name in moves))
    if one == 0.0 or other == 0.0:
        return 0.0
    return sum(move * pattern.get(name, 0.0) for name, move in moves.items()) / one / other


def _move(feature: FeatureDrift) -> float:
    """How far a feature has moved beyond what drives differ by, sigmas."""
    size = min(_MOST_SIGMA, abs(feature.shift_sigma)) - _LEAST_SIGMA
    return math.copysign(max(0.0, size), feature.shift_sigma)


def _strongest(moves: Mapping[str, float]) -> float:
    return max((abs(shift) for shift in moves.values()), default=0.0)
