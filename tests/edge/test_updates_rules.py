"""The small rules of updates: what a vehicle calls itself, and what has become of its frames."""

from __future__ import annotations

import pytest

from edge.updates.hardware import hardware_ids
from edge.updates.probation import FrameTotals, frame_totals
from protos.traffic_vision.v1 import common_pb2


@pytest.mark.parametrize(
    ("providers", "machine", "expected"),
    [
        (("cpu",), "x86_64", ("x86_64-cpu",)),
        (("cpu",), "AMD64", ("x86_64-cpu",)),
        (("CPUExecutionProvider",), "arm64", ("aarch64-cpu",)),
        (("tensorrt", "cuda", "cpu"), "aarch64", ("aarch64-trt", "aarch64-cuda", "aarch64-cpu")),
        (("CUDAExecutionProvider", "cuda"), "x86_64", ("x86_64-cuda",)),
        (("openvino",), "x86_64", ("x86_64-openvino",)),
    ],
)
def test_hardware_ids(providers: tuple[str, ...], machine: str, expected: tuple[str, ...]) -> None:
    assert hardware_ids(providers, machine) == expected


def test_this_machine_has_an_id() -> None:
    (found,) = hardware_ids(("cpu",))
    assert found.endswith("-cpu") and len(found) > len("-cpu")


def test_frames_are_counted_over_all_cameras() -> None:
    def camera(*frames: int) -> common_pb2.CameraStatus:
        outcomes = (
            common_pb2.FRAME_OUTCOME_PUBLISHED,
            common_pb2.FRAME_OUTCOME_INFERENCE_ERROR,
            common_pb2.FRAME_OUTCOME_STALE,
        )
        counts = [
            common_pb2.FrameCount(outcome=outcome, frames=count)
            for outcome, count in zip(outcomes, frames, strict=True)
        ]
        return common_pb2.CameraStatus(outcomes=counts)

    assert frame_totals([camera(5, 1, 100), camera(7, 0, 3)]) == FrameTotals(12, 1)
    assert frame_totals([]) == FrameTotals()
