"""The words of drift: where a feature comes from, what a monitor may say, and what it says it about."""

from __future__ import annotations

import enum
import math
from dataclasses import asdict, dataclass
from typing import Any


class Origin(str, enum.Enum):
    """What a feature is computed from: decides what a change of the model makes void."""

    PICTURE = "picture"
    DETECTIONS = "detections"
    EMBEDDING = "embedding"


class Scope(str, enum.Enum):
    """Whose reference it is: decides whether it can promise a rate of false alarms."""

    # Of other vehicles' cameras: however long, it promises nothing of this one's.
    FLEET = "fleet"
    # Of this very camera.
    CAMERA = "camera"
    # Of what is judged, as whoever fitted it says.
    SERIES = "series"


class Kind(str, enum.Enum):
    """What has changed in the world, as far as the features tell."""

    LIGHT = "light"
    WEATHER = "weather"
    LENS = "lens"
    CAMERA_MOVED = "camera_moved"
    EXPOSURE = "exposure"
    TRAFFIC = "traffic"
    OTHER = "other"


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
        context: whose reference it is; empty: of all contexts together.
        window_s: length of the window in the frames' time, at the rate at which frames come; 0 while no
            window is full.
        d: Kolmogorov-Smirnov statistic of the window against the reference's band, 0 to 1.
        p: chance of such a `d` in this window at one moment with nothing changed.
        false_alarms_per_day: how often such a `d` is reached with nothing changed, per day of driving.
        shift_sigma: window's mean less the reference's, in the reference's standard deviations.
        verdict: of this feature alone.
        mean: of the window; NaN while no window is full.
        reference_mean, reference_sigma: of the context's reference; NaN where it is unknown.
        since_ns: the frames' time since which it is in alarm; 0: it is not.
        window_frames: length of the window in frames; 0 while no window is full.
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
    mean: float = math.nan
    reference_mean: float = math.nan
    reference_sigma: float = math.nan
    since_ns: int = 0
    window_frames: int = 0


@dataclass(frozen=True, slots=True)
class DriftState:
    """What the monitor says at one moment.

    Attributes:
        verdict: of all features together.
        false_alarms_per_day: how often any feature gets as unusual as the most unusual one now is, with
            nothing changed, per day of driving. The alarm begins where this falls to the promise.
        context: the context that the latest frames fit best; empty: none that is known.
        unknown_context_share: of the latest minute's frames, how many fit no known context, 0 to 1.
        features: the most unusual first; those that are not judged last. All of the context that is driven
            in, and of others those that were in alarm when it was left, for up to ten minutes.
        time_ns: the frames' time of this judgement.
        since_ns: since when the verdict stands.
        notes: what is not judged and why, for people.
        kind: of the change that is in alarm; None: there is none, or it was not asked for.
        explanation: the alarm in words; empty likewise.
        estimated_map50_change: of the detector in what is seen now, while there is an alarm, without labels;
            None where nothing tells (see `edge.drift.drop`).
    """

    verdict: Verdict
    false_alarms_per_day: float
    context: str
    unknown_context_share: float
    features: tuple[FeatureDrift, ...]
    time_ns: int
    since_ns: int
    notes: tuple[str, ...] = ()
    kind: Kind | None = None
    explanation: str = ""
    estimated_map50_change: float | None = None

    @property
    def alarm(self) -> bool:
        """Whether the world has left the reference."""
        return self.verdict is Verdict.ALARM

    def to_json(self) -> dict[str, Any]:
        """The state as JSON values, times in seconds; null where a number is not known."""
        document = asdict(self)
        document["time_s"] = document.pop("time_ns") / 1e9
        document["since_s"] = document.pop("since_ns") / 1e9
        document["verdict"] = self.verdict.value
        document["kind"] = None if self.kind is None else self.kind.value
        for feature in document["features"]:
            feature["origin"], feature["verdict"] = feature["origin"].value, feature["verdict"].value
            since_ns = feature.pop("since_ns")
            feature["since_s"] = since_ns / 1e9 if feature["verdict"] == Verdict.ALARM.value else None
            for name in ("mean", "reference_mean", "reference_sigma"):
                feature[name] = None if math.isnan(feature[name]) else feature[name]
        return document
