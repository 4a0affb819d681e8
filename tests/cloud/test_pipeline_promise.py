"""What a release promises: from the holdout to the signed facts, and from a vehicle's report to people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.config import ReleaseConfig
from cloud.datasets import LabeledImage
from cloud.fleet.vehicle_records import Record, VehicleRecords
from cloud.pipeline.promise import detections_by_slice, promise_of, shadow_of
from cloud.pipeline.running import run_stage
from cloud.release.repository import list_releases
from cloud.status import read_status
from cloud.status_text import to_text
from protos.release_promise import ANY_CONTEXT, Range
from protos.traffic_vision.v1 import common_pb2
from tests import models_factory as factory
from tests.clouds import database, make_cloud
from tests.retrains import HW, SETTINGS, VEHICLE, as_if_trained, begin, retrain_cloud


def image(number: int, light: str) -> LabeledImage:
    return LabeledImage(f"{number}.jpg", None, 96, 64, (), {"timeofday": light} if light else {}, "drive")


def boxes(*scores: float) -> np.ndarray:
    rows = np.zeros((len(scores), 6), np.float32)
    rows[:, 4] = scores
    return rows


def test_detections_count_by_the_file_s_threshold_in_each_slice() -> None:
    images = [image(0, "night"), image(1, "night"), image(2, "daytime"), image(3, "")]
    predictions = [boxes(0.9, 0.26, 0.25, 0.1), boxes(), boxes(0.5, 0.6, 0.7), boxes(0.3)]
    found = detections_by_slice(images, predictions, 0.25, "timeofday", min_images=2)
    assert found == {ANY_CONTEXT: 1.5, "night": 1.0}


@given(
    st.dictionaries(st.sampled_from(["day", "night", ANY_CONTEXT]), st.floats(0, 300)),
    st.floats(1.01, 100),
)
def test_the_promise_has_what_was_seen_in_it(detections: dict[str, float], factor: float) -> None:
    promise = promise_of(ReleaseConfig(detections_factor=factor), detections)
    for name, mean in detections.items():
        for context in (name, "a context that nobody knows"):
            found = promise.detections_in(context)
            assert found is not None and found.least <= 1000 * mean <= found.most
    assert (promise.detections_percent is None) is bool(detections)


def test_a_cloud_may_promise_nothing_and_asks_for_no_shadow_unless_told() -> None:
    nothing = ReleaseConfig(
        latency_percent=None, errors_permille=None, detections_factor=None, no_drift_alarm=False
    )
    assert promise_of(nothing, {"night": 3.0}).to_json() == {"drive_s": 0, "frames": 0}
    assert shadow_of(nothing) is None


@pytest.fixture
def settings() -> str:
    return f"{SETTINGS}\n[release]\nshadow_s = 120\nshadow_cpu_percent = 25\nprobation_s = 60\n"


def test_a_retrain_s_release_carries_shadow_and_promise(tmp_path: Path, settings: str) -> None:
    with retrain_cloud(tmp_path, settings=settings) as pipeline:
        run_id = begin(pipeline)
        for name in ("label", "purity", "dataset"):
            run_stage(pipeline, name, run_id)
        as_if_trained(pipeline, run_id, factory.rectangles_model(HW, version="2"))
        validated = run_stage(pipeline, "validate", run_id)
        assert validated["detections_per_frame"] == {}, "eight pictures say nothing"
        run_stage(pipeline, "deploy", run_id)
        (release,) = list_releases(pipeline.config.folders.repository)
    shadow, promise = release.facts.shadow, release.facts.promise
    assert shadow is not None and (shadow.drive_s, shadow.cpu_percent) == (120, 25)
    assert promise is not None and (promise.drive_s, promise.latency_percent) == (60, 200)
    assert promise.detections_percent == Range(25, 400), "so the model before is the yardstick"
    assert promise.no_drift_alarm


UNDER_WAY, PASSED, FAILED = (
    common_pb2.TRIAL_OUTCOME_UNDER_WAY,
    common_pb2.TRIAL_OUTCOME_PASSED,
    common_pb2.TRIAL_OUTCOME_FAILED,
)


@pytest.mark.parametrize(
    ("shadow", "probation", "expected"),
    [
        (None, UNDER_WAY, "probation 12 of 60 s, 34 of 500 frames"),
        (PASSED, UNDER_WAY, "probation 12 of 60 s, 34 of 500 frames"),
        (UNDER_WAY, PASSED, "shadow 3 of 120 s, 9 frames compared, F1 0.75"),
        (PASSED, FAILED, "probation 12 of 60 s, 34 of 500 frames: failed: latency_p99_ratio is 4"),
        (PASSED, PASSED, ""),
        (None, None, ""),
    ],
)
def test_the_status_says_how_a_trial_is_doing(
    tmp_path: Path,
    shadow: common_pb2.TrialOutcome | None,
    probation: common_pb2.TrialOutcome | None,
    expected: str,
) -> None:
    state = common_pb2.ModelState(phase=common_pb2.UPDATE_PHASE_CHECKING)
    if probation is not None:
        state.probation.CopyFrom(
            common_pb2.ProbationReport(
                outcome=probation,
                drive_s=12,
                needed_drive_s=60,
                frames=34,
                needed_frames=500,
                detail="latency_p99_ratio is 4" if probation == FAILED else "",
            )
        )
    if shadow is not None:
        agreement = [common_pb2.ClassAgreement(f1_share=0.75)]
        state.shadow.CopyFrom(
            common_pb2.ShadowReport(
                outcome=shadow, drive_s=3, needed_drive_s=120, compared_frames=9, agreement=agreement
            )
        )
    config = make_cloud(tmp_path, VEHICLE)
    record = Record(VEHICLE, state)
    with database(config) as store:
        assert VehicleRecords(store).commit([record]) == [True]
        status = read_status(config, store)
    (line,) = status.vehicles
    assert line.trial == expected
    assert expected in to_text(status, width=200)
