"""Whether vehicles agree on what has changed: rules alone.

Vehicles and features of one context make a bipartite graph: an edge where that feature is in alarm on that
vehicle. What vehicles agree on is its (a, b)-core: the largest part in which each vehicle shows at least a of
the features, and each feature is in alarm on at least b of the vehicles. It is unique, and found by taking
away what has too few neighbours until nothing has (Ding et al., "Efficient fault-tolerant group
recommendation using alpha-beta-core", CIKM 2017).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

NO_CONTEXT = "no known context"


@dataclass(frozen=True, slots=True)
class Alarm:
    """What one vehicle says has changed in one context.

    Attributes:
        context: empty: none that its monitor knows.
        features: in alarm.
        samples: of it that wait to be trained on.
    """

    vehicle: str
    context: str
    features: frozenset[str]
    samples: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """Vehicles that say the same has changed.

    Attributes:
        context: in which; empty: none that their monitors know.
        features, vehicles: in the order of their names.
        samples: of those vehicles' alarms, waiting.
    """

    context: str
    features: tuple[str, ...]
    vehicles: tuple[str, ...]
    samples: int

    def to_text(self) -> str:
        """Say it in words."""
        who, what = ", ".join(self.vehicles), ", ".join(self.features)
        return f"{who} on {what} in {self.context or NO_CONTEXT}, {self.samples} samples"


def agreements(
    alarms: Sequence[Alarm], min_vehicles: int, min_features: int, min_samples: int
) -> list[Agreement]:
    """Find what vehicles agree on, context by context.

    Args:
        alarms: at most one of each vehicle and context.
        min_vehicles: on which a feature must be in alarm, at least 1.
        min_features: that a vehicle must share, at least 1.
        min_samples: that a vehicle must have waiting to be counted.

    Returns:
        At most one of each context; of the most vehicles first, then of the most samples.
    """
    found = []
    counted = [alarm for alarm in alarms if alarm.samples >= min_samples]
    for context in sorted({alarm.context for alarm in counted}):
        within = {alarm.vehicle: alarm for alarm in counted if alarm.context == context}
        shown = _core({name: alarm.features for name, alarm in within.items()}, min_vehicles, min_features)
        if shown:
            features = sorted(frozenset[str]().union(*shown.values()))
            samples = sum(within[vehicle].samples for vehicle in shown)
            found.append(Agreement(context, tuple(features), tuple(sorted(shown)), samples))
    return sorted(found, key=lambda agreed: (-len(agreed.vehicles), -agreed.samples))


def closest(
    alarms: Sequence[Alarm], min_vehicles: int, min_features: int, min_samples: int
) -> Agreement | None:
    """Give the agreement of the most vehicles, up to `min_vehicles`; None: nobody is in alarm as asked."""
    for vehicles in range(min_vehicles, 0, -1):
        found = agreements(alarms, vehicles, min_features, min_samples)
        if found:
            return found[0]
    return None


def _core(
    shown: Mapping[str, frozenset[str]], min_vehicles: int, min_features: int
) -> dict[str, frozenset[str]]:
    """Take away vehicles and features with too few of the other kind until none is left that has."""
    while True:
        shared = _shared(shown.values(), min_vehicles)
        kept = {
            vehicle: features & shared
            for vehicle, features in shown.items()
            if len(features & shared) >= min_features
        }
        if kept == shown:
            return kept
        shown = kept


def _shared(shown: Iterable[frozenset[str]], min_vehicles: int) -> frozenset[str]:
    counts: dict[str, int] = {}
    for features in shown:
        for feature in features:
            counts[feature] = counts.get(feature, 0) + 1
    return frozenset(feature for feature, count in counts.items() if count >= min_vehicles)
