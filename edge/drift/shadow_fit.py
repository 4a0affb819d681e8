"""What a new model is known by from its time in shadow, fitted in a process of its own.

A candidate in shadow is shown what this camera sees, so once it judges, what it finds need not be learned
from nothing. Rules, and the child that follows them; `edge.drift.shadow_seen` has what was seen.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.drift import rows
from edge.drift.calibration import WINDOWS_TAU
from edge.drift.child import answer_with, ask_for_reference
from edge.drift.contexts import Assignment
from edge.drift.finding import UNKNOWN, Labels, stretches
from edge.drift.fit_child import FIT, TIMEOUT_S
from edge.drift.fitting import fit_feature, is_short
from edge.drift.frame_rate import at_rate, feature_at
from edge.drift.own import OF_A_MODEL
from edge.drift.pacing import GAP_S
from edge.drift.reference import (
    CALIBRATED_HOURS,
    ContextReference,
    DriftReferenceError,
    FeatureReference,
    Reference,
    drives_known,
    unknown_feature,
)
from edge.drift.rows import Segment, Vectors
from edge.drift.state import Scope


@dataclass(frozen=True, slots=True)
class ShadowFitTerms:
    """What is fitted.

    Attributes:
        model: digest of the model that was in shadow.
        target_hours: hours of driving to one false alarm of this camera.
        learn_s: how much of a feature must have been seen, in the frames' time: as much as a monitor would
            learn it from.
    """

    model: str
    target_hours: float
    learn_s: float


def fit_shadow_in_child(
    folder: Path, terms: ShadowFitTerms, judged: Reference, past: Reference | None, stopping: threading.Event
) -> Reference:
    """Fit the rows in a folder; see `fit_shadow`.

    Args:
        folder: of `rows.Rows`.
        terms: what is fitted.
        judged: by what the model judges without it.
        past: what was judged by before.
        stopping: once set, the child is killed.

    Raises:
        DriftReferenceError: there is too little to fit, or the child came to no end.
    """
    about = {
        "folder": str(folder),
        "terms": asdict(terms),
        "judged": judged.to_bytes().decode(),
        "past": None if past is None else past.to_bytes().decode(),
    }
    return ask_for_reference("edge.drift.shadow_fit", about, what=FIT, timeout_s=TIMEOUT_S, stopping=stopping)


def fit_shadow(
    found: Sequence[Segment], terms: ShadowFitTerms, judged: Reference, past: Reference | None
) -> Reference:
    """Fit the features of a model that were seen in shadow, and that nothing tells of yet.

    In each context that the model is judged in: the candidate's own contexts are not those of the model that
    drove. Of a feature of which too little was seen, as of one that is known, nothing comes.

    Args:
        found: segments, the oldest first; those of other models are left out.
        terms: what is fitted.
        judged: by what the model judges without it.
        past: how far drives differ is taken from here where those in shadow are too few to tell.

    Returns:
        A reference with the contexts, features and rate of `judged`, as far as it knows something. It
        promises nothing, however long it is: a candidate was shown few frames, far apart.

    Raises:
        DriftReferenceError: it would know nothing: too little was seen, or too seldom.
    """
    mine = [segment for segment in found if segment.head.model == terms.model]
    if not mine:
        raise DriftReferenceError("nothing was kept of the model's time in shadow")
    rate_hz = mine[0].head.rate_hz
    most_ratio = _most_ratio(judged.rate_hz, terms.learn_s)
    if judged.rate_hz / rate_hz > most_ratio:
        raise DriftReferenceError(
            f"in shadow the model was shown a frame each {1 / rate_hz:.0f} s: what it finds is learned sooner"
        )
    drives = [values for _, values in rows.drives(mine, judged.names, GAP_S)]
    labels = [contexts_of(values, judged, rate_hz) for values in drives]
    contexts = []
    for number, context in enumerate(judged.contexts):
        pieces = stretches(drives, labels, number)
        features = tuple(
            _fitted(pieces, column, context, terms, rate_hz, past) for column in range(len(context.features))
        )
        if any(feature.known for feature in features):
            contexts.append(ContextReference(context.name, features, math.inf, Scope.CAMERA))
    if not contexts:
        raise DriftReferenceError("in shadow too little was seen of what the model finds")
    made = Reference(rate_hz, terms.target_hours, tuple(contexts))
    return _promising_nothing(at_rate(made, judged.rate_hz, most_ratio=most_ratio))


def contexts_of(values: Vectors, judged: Reference, rate_hz: float) -> Labels:
    """Tell the context of each frame as a monitor would, with what came after it known.

    Args:
        values: `float32[n, F]` consecutive frames.
        judged: has the contexts.
        rate_hz: of the frames.

    Returns:
        `int64[n]` numbers of contexts; UNKNOWN for a frame that does not fit the one that it would be judged
        in, and for those that a change of the context takes back.
    """
    assignment = Assignment(judged.contexts, rate_hz)
    labels = np.full(len(values), UNKNOWN, np.int64)
    for number, vector in enumerate(values):
        distances = assignment.distances(vector).tolist()
        handover = assignment.take(vector, distances)
        if handover is not None:
            labels[number - len(handover.back) : number] = UNKNOWN
        if distances[assignment.current] <= judged.contexts[assignment.current].misfit:
            labels[number] = assignment.current
    return labels


def _most_ratio(rate_hz: float, learn_s: float) -> float:
    """Beyond it the shorter window, of 20 frames in shadow at least, lasts longer than learning does."""
    return max(1.0, rate_hz * learn_s / WINDOWS_TAU[0])


def _fitted(
    pieces: Sequence[npt.NDArray[np.floating]],
    column: int,
    context: ContextReference,
    terms: ShadowFitTerms,
    rate_hz: float,
    past: Reference | None,
) -> FeatureReference:
    feature = context.features[column]
    nothing = unknown_feature(feature.name, feature.origin)
    if feature.known or feature.origin not in OF_A_MODEL:
        return nothing
    before = drives_known(past, context.name, feature.name)
    prior = None if past is None or before is None else feature_at(before, rate_hz / past.rate_hz)
    fitted = fit_feature(
        [np.asarray(piece[:, column], np.float64) for piece in pieces],
        rate_hz,
        feature.name,
        feature.origin,
        len(context.features),
        terms.target_hours,
        prior,
        0,
    )
    enough = fitted.frames >= terms.learn_s * rate_hz
    return fitted if enough and not is_short(fitted, fitted.frames, rate_hz) else nothing


def _promising_nothing(reference: Reference) -> Reference:
    most = max(1, math.ceil(CALIBRATED_HOURS * 3600 * reference.rate_hz) - 1)
    contexts = tuple(
        replace(
            context,
            features=tuple(replace(one, frames=min(one.frames, most)) for one in context.features),
        )
        for context in reference.contexts
    )
    return replace(reference, contexts=contexts)


def _answer(about: dict[str, Any]) -> Reference:
    past = about["past"]
    return fit_shadow(
        list(rows.read(Path(about["folder"]))),
        ShadowFitTerms(**about["terms"]),
        Reference.from_bytes(about["judged"].encode()),
        None if past is None else Reference.from_bytes(past.encode()),
    )


def main() -> None:
    """Run the child."""
    answer_with(_answer)


if __name__ == "__main__":
    main()
