"""The drift reference that goes with a new model: what vehicles saw of the worlds that it was trained for.

Vehicles ship the features of many more frames than they ship pictures. The labels of the pictures tell which
slice (day, night) the frames around them are of; of those a reference is fitted for each slice. Features of
detections and of the embedding are left out: they were another model's, and the vehicle learns the new one's.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from cloud.pipeline.job import Pipeline
from cloud.store.models import DatasetSample, FeatureSeries, Sample
from edge.drift import DriftReferenceError, Origin, Reference, Scope, combine, fit
from edge.drift.features import NAMES, ORIGINS, prior_text
from edge.drift.reference_file import version_for
from protos.traffic_vision.v1 import fleet_pb2 as fleet

# Two labelled pictures of one slice that are no farther apart in time vouch for what lies between them.
VOUCH_NS = 120_000_000_000
# Fewer frames of a slice say nothing about it.
MIN_ROWS = 120
# A gap in a series of more periods than this begins another stretch.
GAP_PERIODS = 3
# A rate that is measured so near to the one before is that one; so near to a twentieth of a Hz, it is that.
_SAME_RATE = 0.05
_PLAIN_RATE = 0.005
OF_A_MODEL = (Origin.DETECTIONS, Origin.EMBEDDING)

TARGET_HOURS = 24.0  # of driving to one false alarm

_ORIGINS = dict(zip(NAMES, ORIGINS, strict=True))
_LOG = logging.getLogger(__name__)

Rows = npt.NDArray[np.float32]
Drive = tuple[str, str, str]  # vehicle, camera, drive


@dataclass(frozen=True, slots=True)
class Series:
    """What one camera saw in one drive: `times` int64[n], ns; `values` float32[n, features]."""

    names: tuple[str, ...]
    times: npt.NDArray[np.int64]
    values: Rows


def fleet_prior(pipeline: Pipeline, dataset_version: str, before: str | None) -> str | None:
    """Make the drift prior of a model that is trained on a dataset version.

    Args:
        pipeline: what all stages share.
        dataset_version: its new samples tell which frames are of which slice.
        before: the champion's prior: its other contexts stay.

    Returns:
        A reference's bytes as text; `before`, where vehicles shipped too little to say more.
    """
    with pipeline.store.reading() as session:
        moments = _moments(session, dataset_version, pipeline.config.gate.slice_by)
        series = {drive: _series(pipeline, session, drive) for drive in moments}
    there = {drive: found for drive, found in series.items() if found is not None}
    try:
        earlier = Reference.from_bytes(before.encode()).without(OF_A_MODEL) if before else None
        made = fit_slices(moments, there, earlier)
        if made is None:
            return before
        version = version_for(pipeline.config.release.minimum_daemon_version)
        return prior_text(_with_earlier(made, earlier), version)
    except DriftReferenceError as error:
        _LOG.warning("no new drift reference for this model: %s", error)
        return before


def fit_slices(
    moments: Mapping[Drive, Sequence[tuple[int, str]]],
    series: Mapping[Drive, Series],
    earlier: Reference | None = None,
) -> Reference | None:
    """Fit a context for each slice that there are enough frames of.

    Args:
        moments: for each drive, time (ns) and slice of the pictures that were labelled.
        series: for each drive, the features of its frames.
        earlier: tells how far drives differ, where these are too few to tell.

    Raises:
        DriftReferenceError: the features cannot be fitted.
    """
    if not series:
        return None
    names = _all_names(found.names for found in series.values())
    rate_hz = _rate_hz([found.times for found in series.values()], earlier)
    stretches: dict[str, list[Rows]] = defaultdict(list)
    for drive, found in series.items():
        for name, rows in _stretches(_aligned(found, names), moments[drive], rate_hz):
            stretches[name].append(rows)
    origins = [_ORIGINS.get(name, Origin.PICTURE) for name in names]
    contexts = {context.name: context for context in earlier.contexts} if earlier else {}
    any_context = next(iter(contexts.values()), None)
    references = [
        fit(
            pieces,
            rate_hz,
            names,
            origins=origins,
            context=name,
            target_hours=earlier.target_hours if earlier else TARGET_HOURS,
            prior=contexts.get(name, any_context),
            scope=Scope.FLEET,
        ).without(OF_A_MODEL)
        for name, pieces in sorted(stretches.items())
        if sum(map(len, pieces)) >= MIN_ROWS
    ]
    return combine(*references) if references else None


def _rate_hz(times: Sequence[npt.NDArray[np.int64]], earlier: Reference | None) -> float:
    """The rate at which the vehicle's monitor takes frames, which its reference must have to the digit.

    Only the mean between gaps tells it: of a camera with 5 frames/s, 2 Hz takes each second or third one, and
    the median between them is a period of 2.5 or of 1.667 Hz by the toss of a coin.
    """
    between = np.concatenate([np.diff(moments) for moments in times])
    between = between[between <= GAP_PERIODS * np.median(between)]
    rate_hz = 1e9 / float(np.mean(between))
    if earlier is not None and abs(rate_hz / earlier.rate_hz - 1) < _SAME_RATE:
        return earlier.rate_hz
    plain = round(rate_hz * 20) / 20
    return plain if abs(rate_hz - plain) < _PLAIN_RATE * rate_hz else round(rate_hz, 3)


def _stretches(series: Series, moments: Sequence[tuple[int, str]], rate_hz: float) -> list[tuple[str, Rows]]:
    """Cut out the unbroken stretches that lie between labelled pictures of one slice."""
    ordered = sorted(moments)
    spans: list[tuple[str, int, int]] = []
    for (start, name), (end, following) in pairwise(ordered):
        if name != following or end - start > VOUCH_NS:
            continue
        if spans and spans[-1][0] == name and spans[-1][2] == start:
            spans[-1] = (name, spans[-1][1], end)
        else:
            spans.append((name, start, end))
    found = []
    for name, start, end in spans:
        inside = (series.times >= start) & (series.times <= end)
        times, values = series.times[inside], series.values[inside]
        breaks = np.flatnonzero(np.diff(times) > GAP_PERIODS * 1e9 / rate_hz) + 1
        found += [(name, rows) for rows in np.split(values, breaks) if len(rows) > 1]
    return found


def _moments(session: Session, version: str, slice_by: str) -> dict[Drive, list[tuple[int, str]]]:
    query = (
        select(Sample)
        .join(DatasetSample, DatasetSample.sample_id == Sample.id)
        .where(DatasetSample.dataset_version == version)
        .options(selectinload(Sample.labels))
    )
    moments: dict[Drive, list[tuple[int, str]]] = defaultdict(list)
    for sample in session.scalars(query):
        for label in sample.labels[-1:]:
            if slice_by in label.attributes:
                drive = sample.vehicle, sample.camera, sample.drive_id
                moments[drive].append((sample.drive_ns, str(label.attributes[slice_by])))
    return moments


def _series(pipeline: Pipeline, session: Session, drive: Drive) -> Series | None:
    """Put a drive's series together, in order of time."""
    vehicle, camera, drive_id = drive
    query = (
        select(FeatureSeries)
        .where(FeatureSeries.vehicle == vehicle, FeatureSeries.camera == camera)
        .where(FeatureSeries.drive_id == drive_id)
        .order_by(FeatureSeries.id)
    )
    rows = session.scalars(query).all()
    parts = [fleet.FeatureSeries.FromString(pipeline.objects.get(row.object_key)) for row in rows]
    if not parts:
        return None
    names = _all_names(tuple(part.names) for part in parts)
    pieces = [_aligned(_piece(part), names) for part in parts]
    times = np.concatenate([piece.times for piece in pieces])
    values = np.concatenate([piece.values for piece in pieces])
    times, first = np.unique(times, return_index=True)
    return Series(names, times, values[first]) if len(times) > 1 else None


def _with_earlier(made: Reference, earlier: Reference | None) -> Reference:
    """Add the contexts of the champion's prior that were not fitted anew."""
    fresh = {context.name for context in made.contexts}
    kept = tuple(context for context in earlier.contexts if context.name not in fresh) if earlier else ()
    if earlier is None or not kept:
        return made
    try:
        return combine(made, replace(earlier, contexts=kept).scoped(Scope.FLEET))
    except DriftReferenceError as error:
        _LOG.warning("the champion's drift contexts are left out: %s", error)
        return made


def _piece(part: fleet.FeatureSeries) -> Series:
    values = np.array(part.values, np.float32).reshape(-1, len(part.names))
    return Series(tuple(part.names), np.array(part.drive_ns, np.int64), values)


def _all_names(each: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """The features of all series, this program's in its order: daemons of other ages send others."""
    found = dict.fromkeys(name for names in each for name in names)
    return (*(name for name in NAMES if name in found), *(name for name in found if name not in _ORIGINS))


def _aligned(series: Series, names: tuple[str, ...]) -> Series:
    """Put its features in this order; NaN where it has none."""
    if series.names == names:
        return series
    values = np.full((len(series.times), len(names)), np.nan, np.float32)
    values[:, [names.index(name) for name in series.names]] = series.values
    return replace(series, names=names, values=values)
