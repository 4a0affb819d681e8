"""The small rules of updates: what a vehicle calls itself, and when a model has proved itself."""

from __future__ import annotations

import pytest

from edge.updates.hardware import hardware_ids
from edge.updates.probation import LEAST_ERRORS, FrameTotals, Probation, ProbationRules, frame_totals
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


def test_a_probation_takes_time_and_frames() -> None:
    rules = ProbationRules(seconds=300, frames=500)
    probation = Probation("new", began_s=1000, before=FrameTotals(200, 3))
    assert not probation.passed(FrameTotals(200 + 500, 3), 1299, rules)
    assert not probation.passed(FrameTotals(200 + 499, 3), 5000, rules)
    assert probation.passed(FrameTotals(200 + 500, 3), 1300, rules)


@pytest.mark.parametrize(
    ("before", "own", "fails"),
    [
        (FrameTotals(1000, 0), FrameTotals(0, LEAST_ERRORS - 1), False),  # too few to say
        (FrameTotals(1000, 0), FrameTotals(0, LEAST_ERRORS), True),
        (FrameTotals(1000, 0), FrameTotals(95, 5), False),
        (FrameTotals(1000, 0), FrameTotals(950, 50), False),
        (FrameTotals(1000, 0), FrameTotals(940, 60), True),
        (FrameTotals(800, 200), FrameTotals(800, 200), False),  # the old one had as many
        (FrameTotals(800, 200), FrameTotals(740, 260), True),
        (FrameTotals(), FrameTotals(90, 10), True),  # after a restart nothing is known of the old one
    ],
)
def test_errors_fail_a_probation_where_they_are_more_than_before(
    before: FrameTotals, own: FrameTotals, fails: bool
) -> None:
    now = FrameTotals(before.published + own.published, before.errors + own.errors)
    reason = Probation("new", 0, before).failure(now)
    assert bool(reason) is fails
    if fails:
        assert f"{own.errors} of {own.errors + own.published} frames" in reason


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
