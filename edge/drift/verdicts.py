"""From windows to words: each feature's verdict, and the one of all together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from edge.drift.reference import ContextReference, FeatureReference
from edge.drift.state import FeatureDrift, Scope, Verdict
from edge.drift.windows import DAY_S, Judgement


def judge_features(
    context: ContextReference,
    judgement: Judgement,
    latched: npt.NDArray[np.bool_],
    alarmed_ns: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    rate_hz: float,
) -> tuple[FeatureDrift, ...]:
    """Each feature in the window in which it is the most unusual.

    Args:
        context: the reference.
        judgement: of its windows, `[W, F]`.
        latched: `bool[W, F]` the windows in alarm.
        alarmed_ns: `int64[F]` since when.
        lengths: `int[W, F]` their lengths, frames.
        rate_hz: frames per second.
    """
    in_alarm: npt.NDArray[np.bool_] = np.any(latched, axis=0)
    strongest = np.where(judgement.full, judgement.per_day, np.inf).argmin(axis=0)
    found = []
    for number, feature in enumerate(context.features):
        window = int(strongest[number])
        if not judgement.full[window, number]:
            found.append(_not_judged(feature, context.name))
            continue
        d = float(judgement.d[window, number])
        shift_sigma = float(judgement.shift_sigma[window, number])
        promised = context.scope is not Scope.FLEET and feature.calibrated(rate_hz)
        verdict = Verdict.STABLE if promised else Verdict.UNCALIBRATED
        found.append(
            FeatureDrift(
                name=feature.name,
                origin=feature.origin,
                context=context.name,
                window_s=float(lengths[window, number]) / rate_hz,
                d=d,
                p=feature.tails[window].p_value(d),
                false_alarms_per_day=float(judgement.per_day[window, number]),
                shift_sigma=shift_sigma,
                verdict=Verdict.ALARM if in_alarm[number] else verdict,
                mean=feature.mean + shift_sigma * feature.sigma,
                reference_mean=feature.mean,
                reference_sigma=feature.sigma,
                since_ns=int(alarmed_ns[number]) if in_alarm[number] else 0,
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


def _not_judged(feature: FeatureReference, context: str) -> FeatureDrift:
    return FeatureDrift(
        name=feature.name,
        origin=feature.origin,
        context=context,
        window_s=0.0,
        d=0.0,
        p=1.0,
        false_alarms_per_day=DAY_S,
        shift_sigma=0.0,
        verdict=Verdict.PAUSED if feature.constant else Verdict.LEARNING,
        reference_mean=feature.mean if feature.known else math.nan,
        reference_sigma=feature.sigma if feature.known else math.nan,
    )


def judge_all(features: Sequence[FeatureDrift], *, learning: bool) -> Verdict:
    """The one verdict. `learning`: some feature has been seen, but not enough to judge by."""
    verdicts = {feature.verdict for feature in features}
    if Verdict.ALARM in verdicts:
        return Verdict.ALARM
    if learning:
        return Verdict.LEARNING
    # One feature without a promise leaves none for all.
    for verdict in (Verdict.UNCALIBRATED, Verdict.STABLE, Verdict.LEARNING):
        if verdict in verdicts:
            return verdict
    return Verdict.PAUSED


def notes(context: ContextReference) -> tuple[str, ...]:
    """What is not judged and why, for people."""
    constant = [feature.name for feature in context.features if feature.constant]
    unknown = [feature.name for feature in context.features if not feature.known]
    found = []
    if constant:
        found.append(f"never changed in the reference, not judged: {', '.join(constant)}")
    if unknown:
        found.append(f"not in the reference, being learned: {', '.join(unknown)}")
    return tuple(found)
