"""The words of drift: where a feature comes from, what a monitor may say, and what it says it about."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass
from typing import Any


class Origin(str, enum.Enum):
    """What a feature is computed from: decides what a change of the model makes void."""

    PICTURE = "picture"
    DETECTIONS = "detections"
    EMBEDDING = "embedding"


class Verdict(str, enum.Enum):
    """What a monitor says of a feature, and of all together."""

    STABLE = "stable"
    ALARM = "alarm"
    # Too little seen yet since the start, or by this model.
    LEARNING = "learning"
    # As the reference knows it; but that is too small to promise a rate of false alarms.
    UNCALIBRATED = "uncalibrated"
    # Nothing can be judged.
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """One feature against its reference, in the window in which it is the most unusual.

    Attributes:
        name, origin: the feature.
        context: whose reference it is.
        window_s: length of the window in the frames' time; 0 while no window is full.
        d: Kolmogorov-Smirnov statistic of the window against the reference's band, 0 to 1.
        p: chance of such a `d` in this window at one moment with nothing changed.
        false_alarms_per_day: how often such a `d` is reached with nothing changed, per day of driving.
        shift_sigma: window's mean less the reference's, in the reference's standard deviations.
        verdict: of this feature alone.
    """

    name: str
    origin: Origin
    context: str
    window_s: float
    d: float
    p: float
    false_alarms_per_day: float
    shift_sigma: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class DriftState:
    """What the monitor says at one moment.

    Attributes:
        verdict: of all features together.
        false_alarms_per_day: how often any feature gets as unusual as the most unusual one now is, with
            nothing changed, per day of driving. The alarm begins where this falls to the promise.
        context: the context that the latest frames fit best; empty: none that is known.
        unknown_context_share: of the latest minute's frames, how many fit no known context, 0 to 1.
        features: the most unusual first; those that are not judged last.
        time_ns: the frames' time of this judgement.
        since_ns: since when the verdict stands.
        notes: what is not judged and why, for people.
    """

    verdict: Verdict
    false_alarms_per_day: float
    context: str
    unknown_context_share: float
    features: tuple[FeatureDrift, ...]
    time_ns: int
    since_ns: int
    notes: tuple[str, ...] = ()

    @property
    def alarm(self) -> bool:
        """Whether the world has left the reference."""
        return self.verdict is Verdict.ALARM

    def to_json(self) -> dict[str, Any]:
        """The state as JSON values, times in seconds."""
        document = asdict(self)
        document["time_s"] = document.pop("time_ns") / 1e9
        document["since_s"] = document.pop("since_ns") / 1e9
        document["verdict"] = self.verdict.value
        for feature in document["features"]:
            feature["origin"], feature["verdict"] = feature["origin"].value, feature["verdict"].value
        return document
