"""The fit of one context of a camera's own reference, in a process of its own.

It takes minutes of a core after a day of driving, which the frame loop cannot spare. The child reads the rows
and writes nothing: it answers with the reference, and one that is killed leaves all as it was.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.drift import rows
from edge.drift.fitting import fit
from edge.drift.own import OF_A_MODEL
from edge.drift.reference import ContextReference, DriftReferenceError, Reference
from edge.drift.rows import Segment
from edge.drift.state import Origin, Scope
from edge.errors import TrafficVisionError
from edge.perception.child_limits import hold, limits_for
from edge.perception.model_child import ModelRefusedError, ask_child, question, took_too_much

MEMORY_BYTES = 1_000_000_000
TIMEOUT_S = 3600.0
GAP_S = 60.0

_WHAT = "the fit of a drift reference"


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
    """Fit a context of the rows in a folder; it is the only one of what comes back.

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
    limits = limits_for(MEMORY_BYTES, TIMEOUT_S)
    try:
        answer = ask_child(
            "edge.drift.fit_child",
            about,
            b"",
            limits,
            timeout_s=TIMEOUT_S,
            stopping=stopping,
            what=_WHAT,
        )
    except ModelRefusedError as error:
        raise DriftReferenceError(str(error)) from None
    if answer.get("reason"):
        raise DriftReferenceError(str(answer["reason"]))
    return Reference.from_bytes(str(answer.get("reference")).encode())


def fit_context(found: Sequence[Segment], terms: FitTerms, prior: ContextReference | None) -> Reference:
    """Fit a context.

    Args:
        found: segments, the oldest first; those of other contexts and rates are left out.
        terms: what is fitted. Of frames that another model looked at, the picture counts alone.
        prior: see `fitting.fit`.

    Raises:
        DriftReferenceError: there are no frames.
    """
    fitting = [
        segment
        for segment in found
        if segment.head.context == terms.context
        and abs(segment.head.rate_hz / terms.rate_hz - 1) <= rows.SAME_RATE
    ]
    of_a_model = [number for number, origin in enumerate(terms.origins) if Origin(origin) in OF_A_MODEL]
    arrays = []
    for segment, values in rows.drives(fitting, terms.names, GAP_S):
        if segment.head.model != terms.model:
            values[:, of_a_model] = np.nan
        arrays.append(values)
    if not arrays:
        raise DriftReferenceError(f"there are no frames of context {terms.context} to make a reference from")
    return fit(
        arrays,
        terms.rate_hz,
        terms.names,
        origins=terms.origins,
        context=terms.context,
        target_hours=terms.target_hours,
        prior=prior,
        scope=Scope.CAMERA,
    )


def main() -> None:
    """Run the child: a JSON line on standard input, a JSON line on standard output."""
    about, limits = question()
    hold(limits, hard_memory=True)
    answer: dict[str, Any] = {"reason": "", "reference": ""}
    try:
        answer["reference"] = _answer(about).to_bytes().decode()
    except TrafficVisionError as error:
        answer["reason"] = str(error)
    except MemoryError:
        answer["reason"] = took_too_much(limits, _WHAT)
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _answer(about: dict[str, Any]) -> Reference:
    given = about["terms"]
    terms = FitTerms(**{**given, "names": tuple(given["names"]), "origins": tuple(given["origins"])})
    kept = about["prior"]
    prior = None if kept is None else Reference.from_bytes(kept.encode()).contexts[0]
    return fit_context(list(rows.read(Path(about["folder"]))), terms, prior)


if __name__ == "__main__":
    main()
