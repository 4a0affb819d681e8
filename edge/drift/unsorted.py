"""What a camera saw that nobody named a context for: the contexts in it, if it has any.

The fleet's reference can be of other roads than this camera's, so that its alarm does not end. The frames
that fit none of its contexts must not be counted as one that they merely fit best: night would widen what
day is, and no alarm would tell them apart again. They are kept apart, and become contexts of their own, where
they fall into groups that were seen on several days; one bad day does not become usual.

Without any reference all driving has one name. It falls into contexts where worlds come and go in it, as day
and night do; what came once or twice gets none of its own, in which it would be usual.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge.drift.contexts import Fits
from edge.drift.finding import UNKNOWN, Labels, find, stretches
from edge.drift.fitting import fit
from edge.drift.own import OF_A_MODEL, UNNAMED, Fitted, Own, joined
from edge.drift.reference import ContextReference, DriftReferenceError, Reference, align, combine
from edge.drift.state import Origin, Scope

LEAST_DAYS = 3
_LEAST_TIMES = 3  # that a world must come, with another one in between
_LEAST_S = 300.0  # of driving: a day, or a time, that a context was seen for less does not count

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Consecutive frames of one day.

    Attributes:
        day: its date by the wall clock; empty: not known, and it counts as no day.
        values: `float32[n, F]`.
    """

    day: str
    values: Vectors


def days_enough(days: Collection[str]) -> bool:
    """Whether so many different days can have a context."""
    return len({day for day in days if day}) >= LEAST_DAYS


def contexts_in(
    seen: Sequence[Stretch],
    rate_hz: float,
    names: Sequence[str],
    origins: Sequence[Origin],
    target_hours: float,
) -> Reference:
    """The contexts that unsorted frames have, those found on at least three days for five minutes each.

    See `edge.drift.finding.find` for how they are told apart.

    Args:
        seen: the frames.
        rate_hz: frames per second of their time.
        names: of the features.
        origins: the same.
        target_hours: hours of driving to one false alarm.

    Returns:
        Contexts `found-1`, `found-2`, ... of scope CAMERA.

    Raises:
        DriftReferenceError: there is none.
    """
    columns = [number for number, origin in enumerate(origins) if origin is Origin.PICTURE]
    found = find([one.values for one in seen], rate_hz, columns, alone=True)
    made: list[Reference] = []
    for number in range(len(found.names)):
        frames: dict[str, int] = {}
        for one, labels in zip(seen, found.labels, strict=True):
            frames[one.day] = frames.get(one.day, 0) + int((labels == number).sum())
        if not days_enough([day for day, count in frames.items() if count >= _LEAST_S * rate_hz]):
            continue
        made.append(
            fit(
                stretches([one.values for one in seen], found.labels, number),
                rate_hz,
                names,
                origins=origins,
                context=f"found-{len(made) + 1}",
                target_hours=target_hours,
                scope=Scope.CAMERA,
            )
        )
    if not made:
        raise DriftReferenceError(
            f"what fits no known context falls into no context that was seen on {LEAST_DAYS} days"
        )
    return combine(*made)


def told_apart(
    drives: Sequence[Vectors], rate_hz: float, origins: Sequence[Origin]
) -> list[tuple[str, list[Vectors]]]:
    """The worlds that came and went in driving of which all has one name.

    A context is what came at least three times, for five minutes and more, with another world in between.
    What came less often is counted to the world that looks most like it.

    Args:
        drives: `float32[n, F]` each, in their order.
        rate_hz: frames per second.
        origins: of the features.

    Returns:
        The stretches of each by name, `found-1`, `found-2`, ...; of no or one such world, all drives as
        UNNAMED.
    """
    columns = [number for number, origin in enumerate(origins) if origin is Origin.PICTURE]
    together = [(UNNAMED, list(drives))]
    try:
        labels = find(drives, rate_hz, columns, alone=True).labels
    except DriftReferenceError:  # no picture, or nothing lasts: there is nothing to tell them apart by
        return together
    times = _times(np.concatenate(labels), _LEAST_S * rate_hz)
    worlds = [number for number, count in enumerate(times) if count >= _LEAST_TIMES]
    if len(worlds) < 2:
        return together
    pictures = np.concatenate(drives)[:, columns].astype(np.float64)  # a sum of a day's float32 is rounded
    to = _nearest(pictures, np.concatenate(labels), worlds)
    merged = [to[own] for own in labels]
    return [(f"found-{place + 1}", stretches(drives, merged, number)) for place, number in enumerate(worlds)]


def _times(labels: Labels, least: float) -> list[int]:
    """How often each group came, for so many frames at least."""
    seen = labels[labels != UNKNOWN]
    runs = np.split(seen, np.flatnonzero(np.diff(seen)) + 1)
    long = np.array([run[0] for run in runs if len(run) >= least], np.int64)
    came = long[np.flatnonzero(np.diff(long, prepend=UNKNOWN))]
    return [int(count) for count in np.bincount(came, minlength=int(labels.max()) + 1)]


def _nearest(pictures: npt.NDArray[np.float64], labels: Labels, worlds: Sequence[int]) -> Labels:
    """For each group, and for UNKNOWN at the end, the one of these worlds that looks most like it."""
    spread = np.nanstd(pictures, axis=0)
    means = np.array(
        [np.nanmean(pictures[labels == number], axis=0) for number in range(int(labels.max()) + 1)]
    )
    means /= np.where(spread > 0, spread, 1.0)
    squares = np.square(means[:, None] - means[list(worlds)]).sum(axis=-1)
    return np.append(np.array(worlds)[squares.argmin(axis=1)], UNKNOWN)


def new_ones(made: Sequence[ContextReference], known: Sequence[ContextReference]) -> list[ContextReference]:
    """Those of the contexts that were found which are not known yet, under names that are free.

    A group whose mean frame fits a known context is its rim, and not another one.

    Args:
        made: what was found.
        known: the contexts that the camera is judged by, of the same features.
    """
    taken = {context.name for context in known}
    found: list[ContextReference] = []
    fits = Fits(known) if known else None
    for context in made:
        mean = np.array([feature.mean if feature.tails else np.nan for feature in context.features])
        if fits is not None and any(
            distance <= one.misfit for distance, one in zip(fits.distances(mean), known, strict=True)
        ):
            continue
        number = next(number for number in range(1, len(taken) + 2) if f"found-{number}" not in taken)
        found.append(replace(context, name=f"found-{number}"))
        taken.add(f"found-{number}")
    return found


def joined_found(
    own: Own | None, made: Reference, judged: Reference | None, model: str
) -> tuple[Own, list[str]]:
    """The own reference with the contexts that were found, and their names.

    Args:
        own: what there was, if there was something.
        made: the contexts; those that are known already are left out.
        judged: by what the camera is judged now, if by something.
        model: digest of the model that the detections were made by.

    Raises:
        DriftReferenceError: all of them are known already.
    """
    known = () if judged is None else align(judged, made.names, made.origins).contexts
    new = new_ones(made.contexts, known)
    for context in new:
        own = joined(own, context, _fitted_of(context, made.rate_hz), made, model)
    if own is None or not new:
        raise DriftReferenceError("what fits no known context lies at the rim of one that is known")
    return own, [context.name for context in new]


def _fitted_of(context: ContextReference, rate_hz: float) -> Fitted:
    frames = [
        max((one.frames for one in context.features if (one.origin in OF_A_MODEL) == of_a_model), default=0)
        for of_a_model in (False, True)
    ]
    return Fitted(*(count / rate_hz / 3600 for count in frames))
