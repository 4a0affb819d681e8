"""References and verdicts as text for people."""

from __future__ import annotations

from edge.drift import DriftState, Reference, Scope
from edge.drift.explaining import label

WIDE_SIGMA = 3.0

_LUMA_SPREAD = "luma, standard deviation"
_OF_DETECTIONS = "share of the detections"
UNITS = {
    "brightness": "luma, 0 to 255",
    "contrast": _LUMA_SPREAD,
    "dark_tail": "luma of the darkest 10 %",
    "bright_tail": "luma of the brightest 2 %",
    "colourfulness": "0 is grey",
    "sharpness": "edges by contrast",
    "clipped_share": "share of the pixels",
    "warmth": "log of red by blue",
    "haze": "0 clear, 1 all veiled",
    "noise": _LUMA_SPREAD,
    "vanishing_x": "share of the width",
    "vanishing_y": "share of the height",
    "count": "a number",
    "mean_confidence": "score, 0 to 1",
    "low_confidence_share": _OF_DETECTIONS,
    "mean_size": "root of the frame's share",
    "mean_height": "0 top, 1 bottom",
    "class_diversity": "chance that two differ",
    "top_confidence": "score, 0 to 1",
    "mean_x": "0 left, 1 right",
    "vulnerable_share": _OF_DETECTIONS,
    "heavy_share": "share of the vehicles",
    "unknown_context": "share of the frames",
}


def unit(name: str) -> str:
    """What a feature's values are counted in, short; the embedding's are in standard deviations."""
    return UNITS.get(name, "standard deviations")


def figure(value: float) -> str:
    """A value with as many digits as it takes: `115`, `34.1`, `0.65`, `0.003`, `2e-05`."""
    size = abs(value)
    if 0 < size < 0.01:
        return f"{value:.2g}"
    digits = 0 if size >= 100 or value == round(value) else 1 if size >= 10 else 2 if size >= 0.1 else 3
    return f"{value + 0.0:.{digits}f}"


def reference_text(reference: Reference) -> str:
    """A reference as a table."""
    head = f"{'context':10s} {'feature':22s} {'mean':>9s} {'room':>9s} {'tau s':>6s} {'windows s':>13s}"
    lines = [f"{head} {'drives':>6s}"]
    for context in reference.contexts:
        for feature in context.features:
            windows = " ".join(f"{tail.frames / reference.rate_hz:6.0f}" for tail in feature.tails)
            what = windows or ("constant" if feature.constant else "unknown")
            mean, room = (figure(value) if feature.known else "-" for value in (feature.mean, feature.margin))
            tau = f"{feature.tau / reference.rate_hz:.1f}" if windows else "-"
            lines.append(
                f"{context.name:10s} {feature.name:22s} {mean:>9s} {room:>9s} {tau:>6s} {what:>13s}"
                f" {feature.drives:6d}"
            )
    promise = promise_text(reference) or _promised(reference)
    return "\n".join(filter(None, [*lines, room_text(reference), promise]))


def room_text(reference: Reference) -> str:
    """Which features have so much room beside the reference that they hardly alarm; empty: none.

    A few drives show little of how drives differ, so that the next one may lie far beside them as a whole.
    """
    wide = dict.fromkeys(
        label(feature.name)
        for context in reference.contexts
        for feature in context.features
        if feature.margin > WIDE_SIGMA * feature.sigma > 0
    )
    if not wide:
        return ""
    return (
        f"too few drives for {', '.join(wide)}: the next one may lie over {WIDE_SIGMA:g} standard deviations"
        " beside their mean as a whole (room), so these hardly alarm; more and shorter drives see more"
    )


def promise_text(reference: Reference) -> str:
    """Why the reference promises no rate of false alarms; empty where it does."""
    if not reference.calibrated:
        return (
            "uncalibrated: less than 4 h or 500 autocorrelation times of driving; it promises no rate of"
            " false alarms"
        )
    if any(context.scope is Scope.FLEET for context in reference.contexts):
        return (
            "uncalibrated: it is of other vehicles' cameras; it promises no rate of false alarms for this one"
        )
    return ""


def _promised(reference: Reference) -> str:
    """What is promised, and of whom: the reference cannot tell whose drives it was made of."""
    return (
        f"calibrated: one false alarm in {reference.target_hours:g} h of driving is promised, of the very"
        " camera that these drives are of; if they are of others, fit with --fleet, and each camera is"
        " commissioned"
    )


def change_text(state: DriftState) -> str:
    """A verdict that has changed, in one line."""
    text = f"{state.time_ns / 1e9:8.1f} s  {state.verdict.value}"
    if state.kind is not None:
        text += f" ({state.kind.value.replace('_', ' ')})"
    return f"{text}  {state.explanation}" if state.explanation else text
