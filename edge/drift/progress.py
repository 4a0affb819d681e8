"""How far the commissioning of a camera is, and when its reference is fitted: rules without I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from edge.drift.explaining import label
from edge.drift.own import Fitted, Own
from edge.drift.reference import CALIBRATED_HOURS, CALIBRATED_TAU, ContextReference
from edge.drift.unsorted import LEAST_DAYS

# Hours of driving after which a context is fitted, anew each time, until it has seen all that is asked for.
_FITS_AT = (CALIBRATED_HOURS, 8.0, 16.0)


@dataclass(frozen=True, slots=True)
class Progress:
    """Of one context.

    Attributes:
        context: its name.
        hours: of frames that wait to be fitted.
        model_hours: of them by the present model.
        fitted: of what the camera's reference was fitted; for detections, of the present model's.
    """

    context: str
    hours: float
    model_hours: float
    fitted: Fitted

    def next_fit(self, asked_hours: float) -> float | None:
        """Hours at which the next fit is due, the picture's or the detections'; None: all is done."""
        after = [_next(self.fitted.hours, asked_hours), _next(self.fitted.model_hours, asked_hours)]
        return min((hours for hours in after if hours is not None), default=None)

    def is_due(self, asked_hours: float) -> bool:
        """Whether enough frames wait for the next fit."""
        picture = _next(self.fitted.hours, asked_hours)
        found = _next(self.fitted.model_hours, asked_hours)
        return (picture is not None and self.hours >= picture) or (
            found is not None and self.model_hours >= found
        )

    def wants(self, asked_hours: float) -> bool:
        """Whether more frames are of use."""
        return self.next_fit(asked_hours) is not None and self.model_hours < asked_hours


def progress_of(
    hours: Mapping[tuple[str, str], float], own: Own | None, model: str, context: str
) -> Progress:
    """How far a context is.

    Args:
        hours: of frames that wait, by context and model.
        own: the camera's reference, if there is one.
        model: digest of the present model.
        context: its name.
    """
    waiting = sum(amount for (name, _), amount in hours.items() if name == context)
    of_model = hours.get((context, model), 0.0)
    fitted = Fitted()
    if own is not None:
        seen = own.fitted.get(context, Fitted())
        fitted = seen if own.model == model else Fitted(seen.hours, 0.0)
    return Progress(context, waiting, of_model, fitted)


def contexts_of(hours: Iterable[tuple[str, str]], own: Own | None) -> list[str]:
    """The contexts that there is something of."""
    known = set() if own is None else set(own.fitted)
    return sorted(known | {context for context, _ in hours})


def progress_text(
    progress: Progress, asked_hours: float, judged: ContextReference | None, rate_hz: float
) -> str:
    """How far a context is, for people; empty where all is done.

    Args:
        progress: of the context.
        asked_hours: of a commissioning.
        judged: by what the context is judged now; says how slow its features are.
        rate_hz: frames per second.
    """
    needed = progress.next_fit(asked_hours)
    if needed is None:
        return ""
    if progress.fitted.model_hours < progress.fitted.hours:
        # The picture is as far as it was; what a new model finds begins anew.
        return f"{min(progress.model_hours, asked_hours):.1f} of {needed:g} h of what the new model finds"
    text = f"{min(progress.hours, asked_hours):.1f} of {needed:g} h"
    slow = [] if judged is None else [feature for feature in judged.features if feature.tails]
    if slow:
        slowest = max(slow, key=lambda feature: feature.tau)
        count = progress.hours * 3600 * rate_hz / slowest.tau
        if count < CALIBRATED_TAU:
            text += f", {count:.0f} of {CALIBRATED_TAU:.0f} autocorrelation times of {label(slowest.name)}"
    return text


def unsorted_text(hours: float, days: Collection[str]) -> str:
    """How far frames that fit no known context are from being searched for contexts, for people.

    Args:
        hours: of them that wait.
        days: the dates on which they were seen.
    """
    seen = len(set(days) - {""})
    return (
        f"commissioning of what fits no known context: {hours:.1f} of {CALIBRATED_HOURS:g} h, "
        f"on {seen} of {LEAST_DAYS} days"
    )


def overview(hours: Mapping[tuple[str, str], float], own: Own | None, model: str, asked_hours: float) -> str:
    """How far a camera is, context by context, for people; empty: nothing of it is there yet.

    Args:
        hours: of frames that wait, by context and model.
        own: the camera's reference, if there is one.
        model: digest of the present model.
        asked_hours: of a commissioning.
    """
    said = []
    for context in contexts_of(hours, own):
        progress = progress_of(hours, own, model, context)
        judged = None if own is None else own.context(context)
        rate_hz = 1.0 if own is None else own.reference.rate_hz
        text = progress_text(progress, asked_hours, judged, rate_hz) or "done"
        if judged is not None:
            fitted = f"fitted of {progress.fitted.hours:.1f} h"
            text = f"{fitted}, {'calibrated' if judged.promises(rate_hz) else 'uncalibrated'}, {text}"
        said.append(f"{context} {text}")
    return "; ".join(said)


def _next(fitted: float, asked: float) -> float | None:
    steps = (*(hours for hours in _FITS_AT if hours < asked), asked)
    return next((hours for hours in steps if hours > fitted), None)
