"""An alarm in words: which features, in which direction, since when."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone, tzinfo

from edge.drift.embedding_features import WATCHED
from edge.drift.kinds import kind_of
from edge.drift.state import DriftState, FeatureDrift, Verdict

MOST_NAMED = 3  # features; of more only the number is told

# A moment of the frames' time in words, such as "18:42 UTC".
Moment = Callable[[int], str]

_LABELS = {
    "count": "detections per frame",
    "low_confidence_share": "share of low confidences",
    "mean_confidence": "mean confidence",
    "mean_size": "size of detections",
    "mean_height": "height in the picture",
    "class_diversity": "diversity of the classes",
    "top_confidence": "highest confidence",
    "mean_x": "position across the picture",
    "vulnerable_share": "share of pedestrians and riders",
    "heavy_share": "share of trucks and buses",
    "clipped_share": "share of clipped pixels",
    "vanishing_x": "vanishing point across",
    "vanishing_y": "vanishing point up and down",
    "unknown_context": "frames that fit no known context",
    **{
        f"embedding_{number}": f"model's view of the picture (embedding {number})"
        for number in range(1, WATCHED + 1)
    },
}
# Counts of things: people think of them in ratios, not in standard deviations.
_RATIOS = frozenset({"count"})
_LEAST_RATIO = 0.1  # a ratio closer to 1 is no direction
_LEAST_SIGMA = 0.5  # neither is a smaller shift of the mean: then the distribution has another shape


def explain(state: DriftState, at: Moment) -> str:
    """Say what has changed: the features that carry the alarm, the most unusual first, and since when.

    `brightness 3.1 sigma below the day reference, detections per frame halved (9.9 -> 4.8), since 18:42 UTC`

    Args:
        state: a monitor's judgement.
        at: says a moment of the frames' time, ns.

    Returns:
        One line; empty where there is no alarm.
    """
    carriers = [feature for feature in state.features if feature.verdict is Verdict.ALARM]
    if not state.alarm or not carriers:
        return ""
    phrases = []
    named = ""
    for feature in carriers[:MOST_NAMED]:
        reference = "" if feature.context in (named, "") else f" the {feature.context} reference"
        phrase, names_it = _phrase(feature, reference)
        named = feature.context if names_it else named
        phrases.append(phrase)
    if len(carriers) > MOST_NAMED:
        phrases.append(f"{len(carriers) - MOST_NAMED} more")
    if not state.context and all(feature.name != "unknown_context" for feature in carriers[:MOST_NAMED]):
        share = f" ({100 * state.unknown_context_share:.0f} % of the last minute)"
        phrases.append(f"like no context that is known{share if state.unknown_context_share else ''}")
    return f"{', '.join(phrases)}, since {at(state.since_ns)}"


def explained(state: DriftState, at: Moment) -> DriftState:
    """A state with its alarm's kind and words; one without an alarm as it is."""
    if not state.alarm:
        return state
    return replace(state, kind=state.kind or kind_of(state.features), explanation=explain(state, at))


def label(name: str) -> str:
    """A feature's name for people."""
    return _LABELS.get(name, name.replace("_", " "))


def drive_words(time_ns: int) -> str:
    """A moment of a recording: `12:05 of the drive`, `1:12:05 of the drive`."""
    seconds = time_ns // 1_000_000_000
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    hours, rest = divmod(seconds, 3600)
    clock = f"{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
    return f"{sign}{f'{hours}:' if hours else ''}{clock} of the drive"


def wall_words(unix_ns: int, now_ns: int, zone: tzinfo | None = None) -> str:
    """A moment of Unix time, ns: `18:42 UTC`; with its date where that is not the day of `now_ns`.

    Args:
        unix_ns: the moment.
        now_ns: when it is told.
        zone: whose clock; None: the machine's own.
    """
    moment, now = (_local(ns, zone) for ns in (unix_ns, now_ns))
    if moment is None:
        return "an unknown time"
    day = "" if now is not None and moment.date() == now.date() else f"{moment:%Y-%m-%d} "
    return f"{day}{moment:%H:%M} {moment:%Z}".rstrip()


def ago_words(time_ns: int, now_ns: int) -> str:
    """A moment by a clock that only counts, ns: `40 s ago`, `12 min ago`, `3 h ago`."""
    seconds = max(0, now_ns - time_ns) // 1_000_000_000
    if seconds < 120:
        return f"{seconds} s ago"
    minutes = seconds // 60
    return f"{minutes} min ago" if minutes < 120 else f"{minutes // 60} h ago"


def _local(unix_ns: int, zone: tzinfo | None) -> datetime | None:
    try:
        return datetime.fromtimestamp(unix_ns / 1e9, timezone.utc).astimezone(zone)
    except (OverflowError, ValueError, OSError):  # a clock that is far off
        return None


def _phrase(feature: FeatureDrift, reference: str) -> tuple[str, bool]:
    """The feature's words, and whether they name its reference."""
    name = label(feature.name)
    moved = _ratio(feature) if feature.name in _RATIOS else _share(feature)
    if moved:
        return f"{name} {moved}", False
    shift = feature.shift_sigma
    if not math.isfinite(shift) or abs(shift) < _LEAST_SIGMA:
        told = (
            f"{name} distributed otherwise than in{reference}"
            if reference
            else f"{name} distributed otherwise"
        )
        return f"{told} (D {feature.d:.2f})", bool(reference)
    return f"{name} {abs(shift):.1f} sigma {'above' if shift > 0 else 'below'}{reference}", bool(reference)


def _ratio(feature: FeatureDrift) -> str:
    """How many times as many: `halved (9.9 -> 4.8)`; empty where that says nothing."""
    now, before = feature.mean, feature.reference_mean
    if not (math.isfinite(now) and math.isfinite(before) and before > 0 and now >= 0):
        return ""
    ratio = now / before
    if abs(ratio - 1) < _LEAST_RATIO:
        return ""
    if ratio < 0.1:
        word = "almost gone"
    elif 0.45 <= ratio <= 0.55:
        word = "halved"
    elif ratio < 1:
        word = f"down by {100 * (1 - ratio):.0f} %"
    elif 1.9 <= ratio <= 2.1:
        word = "doubled"
    elif ratio < 2:
        word = f"up by {100 * (ratio - 1):.0f} %"
    else:
        word = f"{ratio:.1f} times as many"
    return f"{word} ({before:.1f} -> {now:.1f})"


def _share(feature: FeatureDrift) -> str:
    """Of a share: `up from 12 % to 35 %`; empty for what is none, and where both are the same."""
    if not feature.name.endswith("_share") and feature.name != "unknown_context":
        return ""
    now, before = feature.mean, feature.reference_mean
    if not (0 <= now <= 1 and 0 <= before <= 1):  # neither does a NaN pass
        return ""
    words = [_percent(share) for share in (before, now)]
    if words[0] == words[1]:
        return ""
    return f"{'up' if now > before else 'down'} from {words[0]} to {words[1]}"


def _percent(share: float) -> str:
    """With as many digits as it takes: `61 %`, `5.2 %`, `0.18 %`."""
    percent = 100 * share
    if 0 < percent < 0.01:
        return "under 0.01 %"
    digits = 0 if percent >= 10 or percent == 0 else 1 if percent >= 1 else 2
    return f"{percent:.{digits}f} %"
