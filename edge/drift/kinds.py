"""What kind of change an alarm is of, as far as the directions of the features tell.

Each effect moves the features of the picture in a pattern of its own. The pattern that points the way the
features moved (the largest cosine between the two) gives the kind: only the proportions count, so that it is
the same while a window fills with what is new. The patterns are TABLE, from the simulator's effects in
standard deviations of a day's reference, the largest entry 1. What is not in a pattern stays as it is, or
moves by what is in the scene.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from edge.drift.state import FeatureDrift, Kind, Origin, Verdict

# Where something is in the picture: it moves to either side.
GEOMETRY = frozenset({"horizon", "tilt", "skew_x", "mean_x", "mean_height"})

_Pattern = Mapping[str, float]


def _pattern(**moves: float) -> _Pattern:
    return MappingProxyType(moves)


# The likelier kind first: of two that fit as well, it is taken.
TABLE: tuple[tuple[Kind, str, _Pattern], ...] = (
    (
        Kind.LIGHT,
        "night: dark but for the lamps",
        _pattern(brightness=-1.0, dark_tail=-0.7, bright_tail=-0.1, colourfulness=-0.1, sharpness=-0.15),
    ),
    (
        Kind.LIGHT,
        "dusk: a low sun, lamps lit, the exposure kept",
        _pattern(bright_tail=1.0, contrast=0.7, sharpness=-0.85, colourfulness=0.3),
    ),
    (
        Kind.EXPOSURE,
        "too short: the lights go too",
        _pattern(brightness=-0.8, bright_tail=-1.0, contrast=-0.45, dark_tail=-0.35, colourfulness=-0.25),
    ),
    (
        Kind.EXPOSURE,
        "too long: all goes up, to the end of the scale",
        _pattern(brightness=1.0, dark_tail=0.8, bright_tail=0.75, contrast=0.4, colourfulness=0.2),
    ),
    (
        Kind.WEATHER,
        "fog: the darks go, contrast and edges with them",
        _pattern(dark_tail=1.0, brightness=0.85, contrast=-0.4, colourfulness=-0.4, sharpness=-0.4),
    ),
    (
        Kind.WEATHER,
        "rain: grey, between the lights and the darks",
        _pattern(contrast=-1.0, dark_tail=0.85, bright_tail=-0.8, colourfulness=-0.5),
    ),
    (
        Kind.LENS,
        "out of focus, or smeared: edges go, the light stays",
        _pattern(sharpness=-1.0, contrast=-0.15),
    ),
)

_LEAST_COSINE = 0.6
_LEAST_SIGMA = 0.3  # of the strongest move of a known feature
_MOST_SIGMA = 6.0  # beyond it a feature is at the end of its scale
_PICTURE_PART = 0.4  # of the detections' strongest move: below it the picture is as it was
# What says that the detector is less sure, and nothing of the traffic.
_CONFIDENCE = frozenset({"mean_confidence", "low_confidence_share", "high_confidence"})


def kind_of(features: Sequence[FeatureDrift]) -> Kind:
    """The kind of change that is in alarm.

    | kind | picture | detections |
    |---|---|---|
    | traffic | as it was | their number, sizes or classes are in alarm |
    | camera moved | things are elsewhere (GEOMETRY), all else as it was | |
    | light, exposure, weather, lens | by the nearest pattern of TABLE | |
    | other | near none of the patterns, or unknown features | confidences alone in alarm |

    Args:
        features: all of a state's, those that are not in alarm too.
    """
    judged = [one for one in features if one.window_s > 0 and math.isfinite(one.shift_sigma)]
    alarming = [one for one in features if one.verdict is Verdict.ALARM]
    picture = {one.name: _capped(one) for one in judged if one.origin is Origin.PICTURE}
    detections = {one.name: _capped(one) for one in judged if one.origin is Origin.DETECTIONS}
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
    rest = {name: shift for name, shift in moves.items() if name not in GEOMETRY}
    if geometry >= _LEAST_SIGMA and _strongest(rest) < 0.5 * geometry:
        return Kind.CAMERA_MOVED
    if _strongest({name: shift for name, shift in rest.items() if name in _PATTERNED}) < _LEAST_SIGMA:
        return Kind.OTHER
    cosine, _, kind = max(
        (round(_cosine(rest, pattern), 6), -number, kind) for number, (kind, _, pattern) in enumerate(TABLE)
    )
    return kind if cosine >= _LEAST_COSINE else Kind.OTHER


_PATTERNED = frozenset(name for _, _, pattern in TABLE for name in pattern)


def _cosine(moves: Mapping[str, float], pattern: _Pattern) -> float:
    """Between moves and pattern, over the features that patterns have: -1 to 1; 0 where one has no length."""
    names = [name for name in moves if name in _PATTERNED]
    one = math.sqrt(sum(moves[name] ** 2 for name in names))
    other = math.sqrt(sum(pattern.get(name, 0.0) ** 2 for name in names))
    if one == 0.0 or other == 0.0:
        return 0.0
    return sum(moves[name] * pattern.get(name, 0.0) for name in names) / one / other


def _capped(feature: FeatureDrift) -> float:
    return min(_MOST_SIGMA, max(-_MOST_SIGMA, feature.shift_sigma))


def _strongest(moves: Mapping[str, float]) -> float:
    return max((abs(shift) for shift in moves.values()), default=0.0)
