"""Making a reference from drives, or from what a monitor saw."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.drift.calibration import (
    WINDOWS_TAU,
    Values,
    autocorrelation_time,
    calibrate,
    no_steeper,
    quantile_edges,
)
from edge.drift.contexts import misfit_limit
from edge.drift.reference import (
    CALIBRATED_HOURS,
    CALIBRATED_TAU,
    ContextReference,
    DriftReferenceError,
    FeatureReference,
    Reference,
    combine,
    unknown_feature,
)
from edge.drift.state import Origin, Scope

MAX_FEATURES = 256
MAX_WINDOW = 65_536  # frames; a feature that wants longer ones is judged by fewer of its tau
MIN_FRAMES = 30  # a feature that was there in fewer is unknown
JUDGED_EVERY_S = 1.0

# A reference of an hour or so cannot know one drive in ten thousand: a band as wide would see nothing.
_LEAST_OUTSIDE = 1e-3
_LEAST_DRIVE = 10  # frames: a shorter drive's mean says nothing


def fit(
    features: npt.NDArray[np.floating] | Sequence[npt.NDArray[np.floating]],
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
        features: `float[frames, features]`, or one such array for each drive. Frames of one array follow each
            other at `rate_hz`; of what lies between two arrays nothing is assumed. NaN: not to be had.
        rate_hz: frames per second of the frames' time.
        names: of the features, in the order of the columns.
        origins: `picture`, `detections` or `embedding` for each; `picture` unless given.
        context: its name, where there is one.
        contexts: each frame's context by name, or empty: it is left out; one sequence, or one for each drive,
            as `features` are. Or "found": see `edge.drift.finding.find`.
        target_hours: hours of driving to one false alarm.
        prior: how far drives differ is taken from here where the drives are too few to tell.
        scope: whose frames they are.
        seed: of the bootstrap; the same arguments give the same reference.

    Returns:
        A reference. A column with fewer than MIN_FRAMES values is unknown in it (a monitor learns it), one
        with a single value is constant (not judged).

    Raises:
        DriftReferenceError: the arguments do not fit each other, or there are no frames.
    """
    arrays = [features] if isinstance(features, np.ndarray) else list(features)
    kinds = tuple(Origin(origin) for origin in origins) if origins else (Origin.PICTURE,) * len(names)
    _check(arrays, rate_hz, names, kinds, target_hours)
    if contexts is not None:
        from edge.drift.finding import by_context

        own: Any = contexts
        if isinstance(features, np.ndarray) and not isinstance(contexts, str):
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
    fitted = tuple(
        fit_feature(
            [np.asarray(array[:, column], np.float64) for array in arrays],
            rate_hz, name, kinds[column], len(names), target_hours, before.get(name), seed,
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
    _check([np.zeros((1, len(names)))], rate_hz, names, kinds, target_hours)
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
) -> FeatureReference:
    """Make the reference of one feature; see `fit`. `features` share the promise."""
    finite = [drive[np.isfinite(drive)] for drive in drives]
    kept = [drive for drive in finite if len(drive) >= _LEAST_DRIVE]
    total = sum(len(drive) for drive in kept)
    if total < MIN_FRAMES:
        return unknown_feature(name, origin)
    everything = np.concatenate(kept)
    mean, sigma = float(everything.mean()), float(everything.std())
    if everything.min() == everything.max():
        nothing = np.zeros(0)
        return FeatureReference(
            name, origin, total, len(kept), mean, 0.0, 0.0, 0.0, 1.0, nothing, nothing, nothing, ()
        )
    alike, drive_sigma = _take_out_drives(kept)
    tau = autocorrelation_time(alike)
    spread, known_drives = drive_sigma, len(kept)
    if prior is not None and prior.known and prior.drives > len(kept):
        spread, known_drives = max(drive_sigma, prior.drive_sigma), prior.drives
    hours = total / rate_hz / 3600
    drive_s = total / len(kept) / rate_hz
    margin = spread * _reach(known_drives, drive_s, features, target_hours, hours)
    stride = max(1, round(rate_hz * JUDGED_EVERY_S))
    windows = [min(max(stride, math.ceil(count * tau)), MAX_WINDOW) for count in WINDOWS_TAU]
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    tails = calibrate(alike, tau, stride, windows, rng)
    if hours < CALIBRATED_HOURS or total < CALIBRATED_TAU * tau:
        tests = features * len(WINDOWS_TAU)
        tails = tuple(
            no_steeper(
                tail,
                1 / (tau / tail.frames + tau / total),
                min(0.1, tail.frames / rate_hz / (target_hours * 3600 * tests)),
            )
            for tail in tails
        )
    ordered = np.sort(np.concatenate(alike))
    edges = quantile_edges(np.sort(np.concatenate([ordered - margin, ordered + margin])))
    edges = np.unique(edges.astype(np.float32)).astype(np.float64)  # as a file keeps them
    lower, upper = (
        (np.searchsorted(ordered, edges + move, side="right") / total).astype(np.float32).astype(np.float64)
        for move in (-margin, margin)
    )
    return FeatureReference(
        name, origin, total, len(kept), mean, sigma, drive_sigma, margin, tau, edges, lower, upper, tails
    )


def _take_out_drives(drives: Sequence[Values]) -> tuple[list[Values], float]:
    """Move each drive to the common mean by what is its own; returns that, and how far drives differ.

    A drive's mean differs from the common one by chance within the drive too; the share that is the drive's
    own is the best linear predictor of a random effect (Robinson, 1991).
    """
    if len(drives) < 2:
        return list(drives), 0.0
    lengths = np.array([len(drive) for drive in drives])
    means = np.array([drive.mean() for drive in drives])
    within = float(sum(np.square(drive - mean).sum() for drive, mean in zip(drives, means, strict=True)))
    within /= float((lengths - 1).sum())
    tau = autocorrelation_time([drive - mean for drive, mean in zip(drives, means, strict=True)])
    by_chance = within * np.minimum(tau / lengths, 1.0)
    own = max(0.0, float(means.var(ddof=1) - by_chance.mean()))
    shares = own / (own + by_chance) if own > 0 else np.zeros(len(drives))
    common = float(lengths @ means / lengths.sum())
    moved = [
        drive - share * (mean - common) for drive, mean, share in zip(drives, means, shares, strict=True)
    ]
    return moved, math.sqrt(own)


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


def student_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t for a probability above one half.

    By bisection on the density's integral (Simpson's rule in the angle, where it is smooth): the vehicle has
    no scipy.
    """
    if freedom > 200:
        return NormalDist().inv_cdf(probability)
    # With x = sqrt(freedom) * tan(angle), the density becomes cos(angle)^(freedom - 1) up to a factor.
    angles = np.linspace(0.0, math.pi / 2, 20_001)
    density = np.cos(angles) ** (freedom - 1)
    steps = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    share = 0.5 + 0.5 * steps / steps[-1]
    return math.sqrt(freedom) * math.tan(float(np.interp(probability, share, angles)))


def _check(
    arrays: Sequence[npt.NDArray[np.floating]],
    rate_hz: float,
    names: Sequence[str],
    origins: Sequence[Origin],
    target_hours: float,
) -> None:
    if not 0 < rate_hz < 1e4 or not 0 < target_hours < 1e6:
        raise DriftReferenceError(
            f"a rate of {rate_hz:g} Hz and a promise of {target_hours:g} h make no sense"
        )
    if not 1 <= len(names) <= MAX_FEATURES or len(set(names)) < len(names):
        raise DriftReferenceError(
            f"from 1 to {MAX_FEATURES} features with different names, not {list(names)}"
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
