"""Making a reference from drives, or from what a monitor saw."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.drift import coarse
from edge.drift.calibration import (
    WINDOWS_TAU,
    Autocorrelation,
    Tail,
    Values,
    autocorrelation,
    autocorrelation_time,
    calibrate,
    no_steeper,
    quantile_edges,
    unsure,
)
from edge.drift.contexts import misfit_limit
from edge.drift.reference import (
    CALIBRATED_HOURS,
    CALIBRATED_TAU,
    MAX_NAME,
    ContextReference,
    DriftReferenceError,
    FeatureReference,
    Reference,
    combine,
    unknown_feature,
)
from edge.drift.state import Origin, Scope
from edge.drift.student import student_quantile
from edge.drift.values import as_drives

MAX_FEATURES = 256
MAX_WINDOW = 65_536  # frames; a feature that wants longer ones is judged by fewer of its tau
MIN_FRAMES = 30  # a feature that was there in fewer is unknown
JUDGED_EVERY_S = 1.0
# What a feature does in fewer autocorrelation times says little of what it usually does, and its tau itself
# is found too small from a shorter series (Sokal 1997, section 3; Foreman-Mackey et al. 2013, section 3.3).
LEARN_TAU = 50
LEARN_LONGEST_S = 4 * 3600.0  # what is slower yet is judged by that

# A reference of an hour or so cannot know one drive in ten thousand: a band as wide would see nothing.
_LEAST_OUTSIDE = 1e-3
_FEW_VALUES = 64  # a feature with no more is taken for one that counts
_LEAST_DRIVE = 10  # frames: a shorter drive's mean says nothing


def fit(
    features: npt.ArrayLike | Sequence[npt.ArrayLike],
    rate_hz: float,
    names: Sequence[str],
    *,
    origins: Sequence[str] | None = None,
    context: str = "default",
    contexts: Sequence[str] | Sequence[Sequence[str]] | None = None,
    target_hours: float = 24.0,
    prior: ContextReference | None = None,
    scope: Scope = Scope.SERIES,
    seed: int = 0,
) -> Reference:
    """Make a reference, of one context unless `contexts` tells of more.

    Args:
        features: `float[frames, features]`, an array or lists, or one of these for each drive. Frames of one
            follow each other at `rate_hz`; of what lies between two nothing is assumed. NaN: not to be had.
            They count as float32, as a monitor has them.
        rate_hz: frames per second of the frames' time.
        names: of the features, in the order of the columns.
        origins: `picture`, `detections` or `embedding` for each; `picture` unless given.
        context: its name, where there is one.
        contexts: each frame's context by name, or empty: it is left out; one sequence, or one for each drive,
            as `features` are. Or "found": see `edge.drift.finding.find`.
        target_hours: hours of driving to one false alarm.
        prior: how far drives differ is taken from here where it knows more drives, and how slowly a feature
            varies where these frames are too few to tell; of the same rate.
        scope: whose frames they are.
        seed: of the bootstrap; the same arguments give the same reference.

    Returns:
        A reference. A column with fewer than MIN_FRAMES values is unknown in it (a monitor learns it), one
        with a single value is constant (not judged). One of at least 4 h and 500 autocorrelation times, what
        drives differ by counted in, gets no band (see `edge.drift.reference`), unless the scope is the fleet.

    Raises:
        DriftReferenceError: the arguments do not fit each other, or there are no frames.
    """
    arrays, is_one = as_drives(features)
    kinds = tuple(Origin(origin) for origin in origins) if origins else (Origin.PICTURE,) * len(names)
    _check(arrays, rate_hz, names, kinds, target_hours, context)
    if contexts is not None:
        from edge.drift.finding import by_context

        own: Any = contexts
        if is_one and not isinstance(contexts, str):
            own = [contexts]
        return combine(
            *(
                fit(
                    pieces, rate_hz, names, origins=kinds, context=name, target_hours=target_hours,
                    prior=prior, scope=scope, seed=seed,
                )
                for name, pieces in by_context(arrays, own, rate_hz, kinds, context, prior, seed)
            )
        )  # fmt: skip
    before = {feature.name: feature for feature in prior.features} if prior else {}
    # What is never there, as a model's embedding where it gives none, has no share in the promise.
    there = max(1, int(np.any([np.isfinite(array).any(axis=0) for array in arrays], axis=0).sum()))
    fitted = tuple(
        fit_feature(
            [np.asarray(array[:, column], np.float64) for array in arrays],
            rate_hz, name, kinds[column], there, target_hours, before.get(name), seed, Scope(scope),
        )
        for column, name in enumerate(names)
    )  # fmt: skip
    made = ContextReference(context, fitted, math.inf, Scope(scope))
    misfit = misfit_limit(made, np.concatenate([np.asarray(array) for array in arrays]))
    return Reference(float(rate_hz), float(target_hours), (replace(made, misfit=misfit),))


def unlearned(
    rate_hz: float,
    names: Sequence[str],
    *,
    origins: Sequence[str] | None = None,
    context: str = "default",
    target_hours: float = 24.0,
) -> Reference:
    """A reference that knows nothing yet: a monitor learns all of it from what it sees first."""
    kinds = tuple(Origin(origin) for origin in origins) if origins else (Origin.PICTURE,) * len(names)
    _check([np.zeros((1, len(names)))], rate_hz, names, kinds, target_hours, context)
    features = tuple(unknown_feature(name, kind) for name, kind in zip(names, kinds, strict=True))
    return Reference(float(rate_hz), float(target_hours), (ContextReference(context, features, math.inf),))


def fit_feature(
    drives: Sequence[Values],
    rate_hz: float,
    name: str,
    origin: Origin,
    features: int,
    target_hours: float,
    prior: FeatureReference | None,
    seed: int,
    scope: Scope = Scope.SERIES,
) -> FeatureReference:
    """Make the reference of one feature; see `fit`. `features` share the promise."""
    finite = [drive[np.isfinite(drive)] for drive in drives]
    kept = [drive for drive in finite if len(drive) >= _LEAST_DRIVE]
    total = sum(len(drive) for drive in kept)
    if total < MIN_FRAMES:
        return unknown_feature(name, origin)
    everything = np.concatenate(kept)
    mean = coarse.significant(float(everything.mean()), coarse.MEAN_BITS)
    sigma = coarse.significant(float(everything.std()))
    if everything.min() == everything.max():
        nothing = np.zeros(0)
        return FeatureReference(
            name, origin, total, len(kept), mean, 0.0, 0.0, 0.0, 1.0, nothing, nothing, nothing, ()
        )
    promise = _Promise(rate_hz, target_hours, features)
    alike, correlation, drive_sigma, margin = _spread(kept, promise, prior, scope)
    drive_sigma = coarse.significant(drive_sigma)
    tau = coarse.significant(correlation.time)
    tails = _tails(alike, correlation, promise, np.random.default_rng([seed, zlib.crc32(name.encode())]))
    ordered = np.sort(np.concatenate(alike))
    edges = quantile_edges(np.sort(np.concatenate([ordered - margin, ordered + margin])))
    # Moved by a margin, an edge stands for two values at once: on a grid it would miss one of them.
    edges = np.unique(edges.astype(np.float32)).astype(np.float64) if margin else coarse.edges(edges)
    lower, upper = (
        coarse.fraction(np.searchsorted(ordered, edges + move, side="right") / total, coarse.SHARE_BITS)
        for move in (-margin, margin)
    )
    return FeatureReference(
        name, origin, total, len(kept), mean, sigma, drive_sigma, margin, tau, edges, lower, upper,
        tuple(_coarse(tail) for tail in tails),
    )  # fmt: skip


def _coarse(tail: Tail) -> Tail:
    quantiles = coarse.fraction(np.array(tail.quantiles), coarse.DISTANCE_BITS)
    slope, offset = coarse.significant(tail.slope), coarse.significant(tail.offset)
    return Tail(tail.frames, slope, offset, tuple(quantiles.tolist()))


def is_short(fitted: FeatureReference, frames: int, rate_hz: float) -> bool:
    """Whether a feature varies so slowly that more than these frames should be seen of it.

    Args:
        fitted: of the frames.
        frames: that have it.
        rate_hz: of theirs.
    """
    return fitted.known and LEARN_TAU * fitted.tau > frames and frames < LEARN_LONGEST_S * rate_hz


@dataclass(frozen=True, slots=True)
class _Promise:
    """One false alarm in `target_hours` of driving, of so many features together."""

    rate_hz: float
    target_hours: float
    features: int

    def enough(self, frames: int, tau: float) -> bool:
        """Whether so many frames can promise anything."""
        return frames / self.rate_hz / 3600 >= CALIBRATED_HOURS and frames >= CALIBRATED_TAU * tau

    def rate(self, window: int) -> float:
        """How often, per length of the window in frames, one window of one feature may alarm."""
        hours = self.target_hours * self.features * len(WINDOWS_TAU)
        return min(0.1, window / self.rate_hz / 3600 / hours)


def _spread(
    drives: Sequence[Values], promise: _Promise, prior: FeatureReference | None, scope: Scope
) -> tuple[Sequence[Values], Autocorrelation, float, float]:
    """How drives differ: the drives as the distribution has them, their correlation, drive_sigma, margin.

    Where there are enough, their differences are a part of the distribution and of the autocorrelation.
    Where there are not, or another camera is to be judged, drives are moved together and get a band. Of few
    frames a feature seems to vary faster than it does (Sokal, 1997, section 3), most of all one that seldom
    leaves its usual: it counts as no faster than it was known to be before.
    """
    alike, drive_sigma = _take_out_drives(drives)
    spread, known = drive_sigma, len(drives)
    if prior is not None and prior.known and prior.drives > known:
        spread, known = max(drive_sigma, prior.drive_sigma), prior.drives
    total = sum(map(len, drives))
    if scope is not Scope.FLEET and known == len(drives):
        correlation = autocorrelation(drives)
        if promise.enough(total, correlation.time):
            return drives, correlation, drive_sigma, 0.0
    hours = total / promise.rate_hz / 3600
    drive_s = total / len(drives) / promise.rate_hz
    margin = spread * _reach(known, drive_s, promise.features, promise.target_hours, hours)
    correlation = autocorrelation(alike)
    if prior is not None and prior.known and not promise.enough(total, correlation.time):
        correlation = correlation.no_faster(prior.tau)
    return alike, correlation, drive_sigma, margin


def _tails(
    drives: Sequence[Values], correlation: Autocorrelation, promise: _Promise, rng: np.random.Generator
) -> tuple[Tail, ...]:
    total, tau = sum(map(len, drives)), correlation.time
    stride = max(1, round(promise.rate_hz * JUDGED_EVERY_S))
    windows = [min(max(stride, math.ceil(count * tau)), MAX_WINDOW) for count in WINDOWS_TAU]
    tails = calibrate(drives, correlation, stride, windows, rng)
    if promise.enough(total, tau):
        return tuple(unsure(tail, total / tau, promise.rate(tail.frames)) for tail in tails)
    return tuple(
        no_steeper(tail, 1 / (tau / tail.frames + tau / total), promise.rate(tail.frames)) for tail in tails
    )


def _take_out_drives(drives: Sequence[Values]) -> tuple[list[Values], float]:
    """Move each drive to the common mean by what is its own; returns that, and how far drives differ.

    A drive's mean differs from the common one by chance within the drive too; the share that is the drive's
    own is the best linear predictor of a random effect (Robinson, 1991).
    """
    if len(drives) < 2:
        return list(drives), 0.0
    step = _resolution(drives)
    lengths = np.array([len(drive) for drive in drives])
    means = np.array([drive.mean() for drive in drives])
    within = float(sum(np.square(drive - mean).sum() for drive, mean in zip(drives, means, strict=True)))
    within /= float((lengths - 1).sum())
    tau = autocorrelation_time([drive - mean for drive, mean in zip(drives, means, strict=True)])
    by_chance = within * np.minimum(tau / lengths, 1.0)
    own = max(0.0, float(means.var(ddof=1) - by_chance.mean()))
    shares = own / (own + by_chance) if own > 0 else np.zeros(len(drives))
    common = float(lengths @ means / lengths.sum())
    moves = shares * (means - common)
    if step:
        moves = np.round(moves / step) * step
    return [drive - move for drive, move in zip(drives, moves, strict=True)], math.sqrt(own)


def _resolution(drives: Sequence[Values]) -> float:
    """The smallest difference between values of which there are few, as of counts; 0 where there are many.

    Moved by a fraction of it, counts would lie between the counts that a window holds.
    """
    distinct = np.unique(np.concatenate([np.unique(drive) for drive in drives]))
    return float(np.diff(distinct).min()) if 2 <= len(distinct) <= _FEW_VALUES else 0.0


def _reach(drives: int, drive_s: float, features: int, target_hours: float, hours: float) -> float:
    """How many standard deviations of the drives' means the next drive may lie beside the known ones.

    A prediction interval for one more drive (Student's t) that all features of all drives leave about once
    in the promised time; of a small reference, one in a thousand at the most.
    """
    if drives < 2:
        return 0.0
    outside = drive_s / (target_hours * 3600 * features)
    if hours < CALIBRATED_HOURS:
        outside = max(outside, _LEAST_OUTSIDE)
    # Two or three drives would make the interval as wide as the world.
    return student_quantile(1 - min(outside, 0.5) / 2, max(drives - 1, 3)) * math.sqrt(1 + 1 / drives)


def _check(
    arrays: Sequence[npt.NDArray[np.floating]],
    rate_hz: float,
    names: Sequence[str],
    origins: Sequence[Origin],
    target_hours: float,
    context: str,
) -> None:
    if not 0 < rate_hz < 1e4 or not 0 < target_hours < 1e6:
        raise DriftReferenceError(
            f"a rate of {rate_hz:g} Hz and a promise of {target_hours:g} h make no sense"
        )
    if not 1 <= len(names) <= MAX_FEATURES or len(set(names)) < len(names):
        raise DriftReferenceError(
            f"from 1 to {MAX_FEATURES} features with different names, not {list(names)}"
        )
    for name in (context, *names):
        if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
            raise DriftReferenceError(
                f"{name!r} is no name of a context or a feature: 1 to {MAX_NAME} characters, all printable"
            )
    if len(origins) != len(names):
        raise DriftReferenceError(f"{len(origins)} origins for {len(names)} features")
    for number, array in enumerate(arrays):
        if array.ndim != 2 or array.shape[1] != len(names):
            raise DriftReferenceError(
                f"drive {number} has the shape {array.shape}, expected [frames, {len(names)}]"
            )
    if not any(len(array) for array in arrays):
        raise DriftReferenceError("there are no frames to make a reference from")
