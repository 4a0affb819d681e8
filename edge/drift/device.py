"""The one verdict of a vehicle: what its cameras say, taken together."""

from __future__ import annotations

from collections.abc import Sequence

from protos.traffic_vision.v1 import common_pb2

# From the worst on. A camera of which too little was seen may yet alarm; one that is parked says nothing.
_WORST_FIRST = (
    common_pb2.DRIFT_VERDICT_ALARM,
    common_pb2.DRIFT_VERDICT_LEARNING,
    common_pb2.DRIFT_VERDICT_UNCALIBRATED,
    common_pb2.DRIFT_VERDICT_STABLE,
    common_pb2.DRIFT_VERDICT_PAUSED,
)


def device_drift(states: Sequence[common_pb2.DriftState]) -> common_pb2.DeviceDrift | None:
    """The worst verdict of the cameras, and how often chance alone makes any of them look so unusual.

    Each camera has its share of the one promise: it is in alarm where its expected false alarms fall to the
    promise by the number of cameras. So the vehicle's are as many times those of the most unusual camera, and
    its alarm begins where they fall to the promise.

    Args:
        states: the latest of each camera.

    Returns:
        None where there is none.
    """
    said = [state for state in states if state.verdict in _WORST_FIRST]
    if not said:
        return None
    verdict = min((state.verdict for state in said), key=_WORST_FIRST.index)
    rates = [
        state.expected_false_alarms_per_day
        for state in said
        if state.verdict != common_pb2.DRIFT_VERDICT_PAUSED
    ]
    return common_pb2.DeviceDrift(
        verdict=verdict,
        expected_false_alarms_per_day=len(rates) * min(rates, default=0.0),
        cameras=sorted(state.camera for state in said if state.verdict == verdict),
    )
