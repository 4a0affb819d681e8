"""The fit of one context of a camera's own reference, in a process of its own.

It takes minutes of a core after a day of driving. The child reads the rows; see `edge.drift.child`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.drift import rows
from edge.drift.child import answer_with, ask_for_reference
from edge.drift.fitting import fit
from edge.drift.frame_rate import SAME_RATE, context_at, slowdown_of, taken_to
from edge.drift.own import OF_A_MODEL, UNNAMED, UNSORTED
from edge.drift.pacing import GAP_S
from edge.drift.reference import ContextReference, DriftReferenceError, Reference, combine
from edge.drift.rows import Segment, Vectors
from edge.drift.state import Origin, Scope
from edge.drift.unsorted import Stretch, contexts_in, told_apart

FIT, TIMEOUT_S = "the fit of a drift reference", 3600.0


@dataclass(frozen=True, slots=True)
class FitTerms:
    """What is fitted.

    Attributes:
        context: its name.
        model: digest of the model whose detections count.
        rate_hz: frames per second of the frames' time.
        names, origins: of the features.
        target_hours: hours of driving to one false alarm of this camera.
    """

    context: str
    model: str
    rate_hz: float
    names: tuple[str, ...]
    origins: tuple[str, ...]
    target_hours: float


def fit_in_child(
    folder: Path, terms: FitTerms, prior: ContextReference | None, stopping: threading.Event
) -> Reference:
    """Fit a context of the rows in a folder; see `fit_context`, and of UNSORTED `sort`.

    Args:
        folder: of `rows.Rows`.
        terms: what is fitted.
        prior: how far drives differ is taken from here where the own drives are too few to tell.
        stopping: once set, the child is killed.

    Raises:
        DriftReferenceError: there is nothing to fit, or the child came to no end.
    """
    kept = None
    if prior is not None:
        kept = Reference(terms.rate_hz, terms.target_hours, (prior,)).to_bytes().decode()
    about = {"folder": str(folder), "terms": asdict(terms), "prior": kept}
    return ask_for_reference("edge.drift.fit_child", about, what=FIT, timeout_s=TIMEOUT_S, stopping=stopping)


def fit_context(found: Sequence[Segment], terms: FitTerms, prior: ContextReference | None) -> Reference:
    """Fit a context; of UNNAMED, the contexts that it has (`edge.drift.unsorted.told_apart`).

    Args:
        found: segments, the oldest first; those of other contexts and rates are left out.
        terms: what is fitted. Of frames that another model looked at, the picture counts alone.
        prior: see `fitting.fit`. One of UNNAMED says that it is a context like others.

    Returns:
        It counts in frames of the rate of the terms; where they came slower, see `frame_rate.feature_at`.

    Raises:
        DriftReferenceError: there are no frames.
    """
    fitting = _fitting(found, terms)
    arrays = [values for _, values in _drives(fitting, terms)]
    if not arrays:
        raise DriftReferenceError(f"there are no frames of context {terms.context} to make a reference from")
    slower = slowdown_of([segment.times for segment in fitting], terms.rate_hz)
    if prior is not None and slower != 1.0:
        prior = context_at(prior, 1 / slower)
    rate_hz = terms.rate_hz / slower
    worlds = [(terms.context, arrays)]
    if terms.context == UNNAMED and prior is None:
        worlds = told_apart(arrays, rate_hz, [Origin(origin) for origin in terms.origins])
    made = combine(
        *(
            fit(
                pieces,
                rate_hz,
                terms.names,
                origins=terms.origins,
                context=name,
                target_hours=terms.target_hours,
                prior=prior,
                scope=Scope.CAMERA,
            )
            for name, pieces in worlds
        )
    )
    return made if slower == 1.0 else taken_to(made, terms.rate_hz)


def sort(found: Sequence[Segment], terms: FitTerms) -> Reference:
    """Find the contexts in frames that fit none; see `edge.drift.unsorted.contexts_in`.

    Args:
        found: segments, the oldest first; those of known contexts and of other rates are left out.
        terms: as of `fit_context`, with the context UNSORTED.

    Raises:
        DriftReferenceError: there is none.
    """
    fitting = _fitting(found, terms)
    seen = [Stretch(segment.head.day, values) for segment, values in _drives(fitting, terms)]
    if not seen:
        raise DriftReferenceError("there are no frames that fit no known context")
    origins = [Origin(origin) for origin in terms.origins]
    slower = slowdown_of([segment.times for segment in fitting], terms.rate_hz)
    made = contexts_in(seen, terms.rate_hz / slower, terms.names, origins, terms.target_hours)
    return made if slower == 1.0 else taken_to(made, terms.rate_hz)


def _fitting(found: Sequence[Segment], terms: FitTerms) -> list[Segment]:
    return [
        segment
        for segment in found
        if segment.head.context == terms.context
        and abs(segment.head.rate_hz / terms.rate_hz - 1) <= SAME_RATE
    ]


def _drives(fitting: Sequence[Segment], terms: FitTerms) -> list[tuple[Segment, Vectors]]:
    """The stretches of driving; of frames that another model looked at, the picture alone."""
    of_a_model = [number for number, origin in enumerate(terms.origins) if Origin(origin) in OF_A_MODEL]
    drives = rows.drives(fitting, terms.names, GAP_S)
    for segment, values in drives:
        if segment.head.model != terms.model:
            values[:, of_a_model] = np.nan
    return drives


def main() -> None:
    """Run the child."""
    answer_with(_answer)


def _answer(about: dict[str, Any]) -> Reference:
    given = about["terms"]
    terms = FitTerms(**{**given, "names": tuple(given["names"]), "origins": tuple(given["origins"])})
    if terms.context == UNSORTED:
        return sort(list(rows.read(Path(about["folder"]))), terms)
    kept = about["prior"]
    prior = None if kept is None else Reference.from_bytes(kept.encode()).contexts[0]
    return fit_context(list(rows.read(Path(about["folder"]))), terms, prior)


if __name__ == "__main__":
    main()
