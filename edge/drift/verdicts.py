"""From windows to words: each feature's verdict, and the one of all together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from edge.drift.calibration import WINDOWS_TAU
from edge.drift.drop import COUNTS, DropModel, estimate
from edge.drift.fitting import MAX_WINDOW
from edge.drift.reference import ContextReference, FeatureReference
from edge.drift.state import FeatureDrift, Origin, Scope, Verdict
from edge.drift.windows import DAY_S, Judgement


def promised(context: ContextReference, feature: FeatureReference, rate_hz: float) -> bool:
    """Whether a rate of false alarms is promised of this feature in this context."""
    return context.scope is not Scope.FLEET and feature.calibrated(rate_hz)


def judge_features(
    context: ContextReference,
    judgement: Judgement,
    latched: npt.NDArray[np.bool_],
    alarmed_ns: npt.NDArray[np.int64],
    gone: npt.NDArray[np.bool_],
    rate_hz: float,
) -> tuple[FeatureDrift, ...]:
    """Each feature in the window in which it is the most unusual.

    Args:
        context: the reference.
        judgement: of its windows, `[W, F]`.
        latched: `bool[W, F]` the windows in alarm.
        alarmed_ns: `int64[F]` since when.
        gone: `bool[F]` the features that the latest frames did not have.
        rate_hz: frames per second of the reference.
    """
    in_alarm: npt.NDArray[np.bool_] = np.any(latched, axis=0)
    full = judgement.full & ~gone
    strongest = np.where(full, judgement.per_day, np.inf).argmin(axis=0)
    found = []
    for number, feature in enumerate(context.features):
        window = int(strongest[number])
        if not full[window, number]:
            # What is missing is not waited for: a model that gives no embedding never will.
            paused = feature.constant or bool(gone[number])
            found.append(_not_judged(feature, context.name, Verdict.PAUSED if paused else Verdict.LEARNING))
            continue
        d = float(judgement.d[window, number])
        shift_sigma = float(judgement.shift_sigma[window, number])
        verdict = Verdict.STABLE if promised(context, feature, rate_hz) else Verdict.UNCALIBRATED
        found.append(
            FeatureDrift(
                name=feature.name,
                origin=feature.origin,
                context=context.name,
                window_s=float(judgement.seconds[window, number]),
                d=d,
                p=feature.tails[window].p_value(d),
                false_alarms_per_day=float(judgement.per_day[window, number]),
                shift_sigma=shift_sigma,
                verdict=Verdict.ALARM if in_alarm[number] else verdict,
                mean=feature.mean + shift_sigma * feature.sigma,
                reference_mean=feature.mean,
                reference_sigma=feature.sigma,
                since_ns=int(alarmed_ns[number]) if in_alarm[number] else 0,
                window_frames=feature.tails[window].frames,
            )
        )
    return tuple(found)


def rank(features: Iterable[FeatureDrift]) -> tuple[FeatureDrift, ...]:
    """Those in alarm first, of them and of the others the most unusual, at the end what is not judged.

    Of those in alarm, what is measured in the picture comes before the share of unknown frames that follows.
    """
    return tuple(
        sorted(
            features,
            key=lambda one: (
                one.verdict is not Verdict.ALARM,
                one.window_s == 0.0,
                not one.context,
                one.false_alarms_per_day,
            ),
        )
    )


def _not_judged(feature: FeatureReference, context: str, verdict: Verdict) -> FeatureDrift:
    return FeatureDrift(
        name=feature.name,
        origin=feature.origin,
        context=context,
        window_s=0.0,
        d=0.0,
        p=1.0,
        false_alarms_per_day=DAY_S,
        shift_sigma=0.0,
        verdict=verdict,
        reference_mean=feature.mean if feature.known else math.nan,
        reference_sigma=feature.sigma if feature.known else math.nan,
    )


def judge_all(features: Sequence[FeatureDrift], *, learning: bool) -> Verdict:
    """The one verdict. `learning`: some feature has been seen, but not enough to judge by."""
    # The share of unknown frames can alarm; that the features are there it cannot say.
    verdicts = {one.verdict for one in features if one.context or one.verdict is Verdict.ALARM}
    if Verdict.ALARM in verdicts:
        return Verdict.ALARM
    if learning:
        return Verdict.LEARNING
    # One feature without a promise leaves none for all.
    for verdict in (Verdict.UNCALIBRATED, Verdict.STABLE, Verdict.LEARNING):
        if verdict in verdicts:
            return verdict
    return Verdict.PAUSED


def map50_change(
    drop: DropModel | None,
    context: ContextReference,
    judgement: Judgement,
    gone: npt.NDArray[np.bool_],
    features: Sequence[FeatureDrift],
) -> float | None:
    """What an alarm means for the detector: the change of its mAP50, estimated without labels.

    Each feature counts by its shortest window that is full: what was before the change is soonest gone there.
    Where no feature of the picture is in alarm, it may be the traffic that has changed, and how much is found
    says nothing of how well.

    Args:
        drop: of the model that runs.
        context: the reference of what is driven in.
        judgement: of its windows, `[W, F]`.
        gone: `bool[F]` the features that the latest frames did not have.
        features: all that are judged.

    Returns:
        None where there is no alarm, or nothing tells.
    """
    alarming = [feature for feature in features if feature.verdict is Verdict.ALARM]
    if drop is None or not alarming:
        return None
    full = judgement.full & ~gone
    shortest = full.argmax(axis=0)
    means = {
        feature.name: feature.mean + feature.sigma * float(judgement.shift_sigma[shortest[number], number])
        for number, feature in enumerate(context.features)
        if full[shortest[number], number]
    }
    if all(feature.origin is not Origin.PICTURE for feature in alarming):
        means = {name: mean for name, mean in means.items() if name not in COUNTS}
    return estimate(drop, means, {feature.name: feature.mean for feature in context.features})


def notes(
    context: ContextReference,
    gone: npt.NDArray[np.bool_],
    infinite: npt.NDArray[np.bool_],
    rate_hz: float,
    step_s: float,
) -> tuple[str, ...]:
    """What is not judged, or less well than it should be, and why, for people.

    Args:
        context: the reference.
        gone: `bool[F]` the features that the latest frames did not have.
        infinite: `bool[F]` those of which a value was infinite.
        rate_hz: frames per second of the reference.
        step_s: time between two frames, s.
    """
    features = context.features
    tails = [(feature, tail) for feature in features for tail in feature.tails]
    silent = np.array([one.origin is Origin.EMBEDDING and not one.known for one in features], np.bool_) & gone
    named = {
        "never changed in the reference, not judged": [one.name for one in features if one.constant],
        "not in the reference, being learned": [
            one.name for one, missing in zip(features, gone, strict=True) if not one.known and not missing
        ],
        "missing in most of the latest frames, not judged": _names(features, gone & ~silent),
        "infinite values were taken as missing": _names(features, infinite),
        "no distance is unusual enough for an alarm": [
            f"{feature.name} over {tail.frames * step_s:.0f} s" for feature, tail in tails if tail.slope == 0
        ],
        "changes more slowly than the longest window can tell": [
            feature.name
            for feature in features
            if feature.tails and MAX_WINDOW <= feature.tails[-1].frames < WINDOWS_TAU[-1] * feature.tau
        ],
    }
    told = [f"{what}: {', '.join(names)}" for what, names in named.items() if names]
    if step_s * rate_hz > 1 + 1e-9:
        told.append(f"{1 / step_s:.2g} frames come a second, not {rate_hz:.3g}: windows last as much longer")
    return (*(["the model gives no embedding to judge"] if silent.any() else []), *told)


def _names(features: Sequence[FeatureReference], which: npt.NDArray[np.bool_]) -> list[str]:
    return [feature.name for feature, one in zip(features, which, strict=True) if one]
