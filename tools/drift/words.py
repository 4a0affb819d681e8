"""References and verdicts as text for people."""

from __future__ import annotations

from edge.drift import DriftState, Reference, Scope

WIDE_SIGMA = 3.0


def reference_text(reference: Reference) -> str:
    """A reference as a table."""
    head = f"{'context':10s} {'feature':22s} {'mean':>9s} {'room':>9s} {'tau s':>6s} {'windows s':>13s}"
    lines = [f"{head} {'drives':>6s}"]
    for context in reference.contexts:
        for feature in context.features:
            windows = " ".join(f"{tail.frames / reference.rate_hz:6.0f}" for tail in feature.tails)
            what = windows or ("constant" if feature.constant else "unknown")
            lines.append(
                f"{context.name:10s} {feature.name:22s} {feature.mean:9.3f} {feature.margin:9.3f}"
                f" {feature.tau / reference.rate_hz:6.1f} {what:>13s} {feature.drives:6d}"
            )
    return "\n".join(filter(None, [*lines, room_text(reference), promise_text(reference)]))


def room_text(reference: Reference) -> str:
    """Which features have so much room beside the reference that they hardly alarm; empty: none.

    A few drives show little of how drives differ, so that the next one may lie far beside them as a whole.
    """
    wide = dict.fromkeys(
        feature.name
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


def change_text(state: DriftState) -> str:
    """A verdict that has changed, in one line."""
    text = f"{state.time_ns / 1e9:8.1f} s  {state.verdict.value}"
    if state.kind is not None:
        text += f" ({state.kind.value.replace('_', ' ')})"
    return f"{text}  {state.explanation}" if state.explanation else text
