"""From windows to words: each feature's verdict, and the one of all together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edge.drift.reference import ContextReference
from edge.drift.state import FeatureDrift, Verdict
from edge.drift.windows import DAY_S, Judgement


def judge_features(
    context: ContextReference,
    judgement: Judgement,
    latched: npt.NDArray[np.bool_],
    lengths: npt.NDArray[np.int64],
    rate_hz: float,
) -> tuple[FeatureDrift, ...]:
    """Each feature in the window in which it is the most unusual, the most unusual feature first.

    Args:
        context: the reference.
        judgement: of its windows, `[W, F]`.
        latched: `bool[W, F]` the windows in alarm.
        lengths: `int[W, F]` their lengths, frames.
        rate_hz: frames per second.
    """
    in_alarm: npt.NDArray[np.bool_] = np.any(latched, axis=0)
    strongest = np.where(judgement.full, judgement.per_day, np.inf).argmin(axis=0)
    found = []
    for number, feature in enumerate(context.features):
        window = int(strongest[number])
        if not judgement.full[window, number]:
            verdict = Verdict.PAUSED if feature.constant else Verdict.LEARNING
            found.append(
                FeatureDrift(feature.name, feature.origin, context.name, 0.0, 0.0, 1.0, DAY_S, 0.0, verdict)
            )
            continue
        d = float(judgement.d[window, number])
        verdict = Verdict.STABLE if feature.calibrated(rate_hz) else Verdict.UNCALIBRATED
        found.append(
            FeatureDrift(
                name=feature.name,
                origin=feature.origin,
                context=context.name,
                window_s=float(lengths[window, number]) / rate_hz,
                d=d,
                p=feature.tails[window].p_value(d),
                false_alarms_per_day=float(judgement.per_day[window, number]),
                shift_sigma=float(judgement.shift_sigma[window, number]),
                verdict=Verdict.ALARM if in_alarm[number] else verdict,
            )
        )
    found.sort(
        key=lambda one: (one.verdict is not Verdict.ALARM, one.window_s == 0.0, one.false_alarms_per_day)
    )
    return tuple(found)


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
