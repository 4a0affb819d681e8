from __future__ import annotations

import time

from prometheus_client.parser import text_string_to_metric_families

from edge.health import LoopHealth
from edge.serve.http.metrics import Metrics
from protos.traffic_vision.v1 import common_pb2
from protos.trials import trial_lines
from tests.edge.test_http_live import shot


def status(model: str = "a" * 64, camera: str = "front") -> common_pb2.VehicleStatus:
    message = common_pb2.VehicleStatus(
        uptime_ns=5_000_000_000,
        resident_bytes=7,
        daemon_version='1"\n',
        certificate_expires_wall_ns=1_800_000_000_000_000_000,
    )
    message.cameras.add(
        camera=camera,
        state=common_pb2.CAMERA_STATE_FRESH,
        captured_frames=3,
        outcomes=[common_pb2.FrameCount(outcome=common_pb2.FRAME_OUTCOME_PUBLISHED, frames=2)],
    )
    message.model.active.CopyFrom(common_pb2.ModelRef(sha256=model, name="m", version="1"))
    drift = message.drift.add(camera=camera, verdict=common_pb2.DRIFT_VERDICT_ALARM)
    for d in (0.25, 0.5):
        drift.features.add(name="brightness", ks_d=d)
    message.device_drift.verdict = common_pb2.DRIFT_VERDICT_ALARM
    message.device_drift.expected_false_alarms_per_day = 0.5
    return message


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Read it back with Prometheus's own parser."""
    families = list(text_string_to_metric_families(metrics.text().decode()))
    assert all(family.type != "unknown" and family.documentation for family in families)
    found = [sample for family in families for sample in family.samples]
    keyed = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in found}
    assert len(keyed) == len(found), "a series is there twice"
    return keyed


def test_the_text_says_what_the_status_does() -> None:
    loop = LoopHealth(is_running=True, stepped_ns=time.monotonic_ns(), restarts=2)
    metrics = Metrics(status, lambda: loop)
    metrics.stages.observe(*shot(1))
    metrics.answered("GET", "/healthz", 200, 0.001)
    found = samples(metrics)
    assert found["traffic_vision_frames_total", (("camera", "front"), ("outcome", "published"))] == 2
    assert found["traffic_vision_frames_captured_total", (("camera", "front"),)] == 3
    assert found["traffic_vision_camera_state", (("camera", "front"), ("state", "fresh"))] == 1
    assert found["traffic_vision_camera_state", (("camera", "front"), ("state", "stale"))] == 0
    assert found["traffic_vision_drift_ks_d", (("camera", "front"), ("feature", "brightness"))] == 0.5
    assert found["traffic_vision_drift_verdict", (("camera", "front"), ("verdict", "alarm"))] == 1
    assert found["traffic_vision_device_drift_verdict", (("verdict", "alarm"),)] == 1
    assert found["traffic_vision_device_drift_expected_false_alarms_per_day", ()] == 0.5
    assert found["traffic_vision_daemon_info", (("version", '1"\n'),)] == 1
    assert found["traffic_vision_inference_up", ()] == 1
    assert found["traffic_vision_certificate_expires_timestamp_seconds", ()] == 1_800_000_000
    assert found["traffic_vision_inference_restarts_total", ()] == 2
    assert found["traffic_vision_stage_seconds_count", (("stage", "inference"),)] == 1
    assert found["traffic_vision_stage_seconds_bucket", (("le", "0.0025"), ("stage", "inference"))] == 1
    assert found["traffic_vision_frame_age_seconds_sum", (("camera", "front"),)] == 0.007
    request = (("code", "200"), ("method", "GET"), ("route", "/healthz"))
    assert found["traffic_vision_http_requests_total", request] == 1


def test_trials_are_told_in_figures_with_the_promises_that_they_break() -> None:
    message = status()
    assert not any("trial" in name for name, _ in samples(_of(message))), "there was none"
    message.model.shadow.outcome = common_pb2.TRIAL_OUTCOME_PASSED
    message.model.shadow.over_budget_frames = 4
    message.model.shadow.agreement.add(f1_share=0.5)
    message.model.shadow.agreement.add(class_name="car", f1_share=float("nan"))
    probation = message.model.probation
    probation.outcome, probation.drive_s = common_pb2.TRIAL_OUTCOME_UNDER_WAY, 12.5
    probation.figures.add(name="latency_p99_ms", value=80, most=50, broken=True)
    found = samples(_of(message))
    assert found["traffic_vision_trial", (("outcome", "passed"), ("trial", "shadow"))] == 1
    assert found["traffic_vision_trial", (("outcome", "passed"), ("trial", "probation"))] == 0
    assert found["traffic_vision_trial_drive_seconds", (("trial", "probation"),)] == 12.5
    assert found["traffic_vision_shadow_frames", (("outcome", "over_budget"),)] == 4
    assert found["traffic_vision_shadow_f1", (("class", "all"),)] == 0.5
    figure = (("context", ""), ("figure", "latency_p99_ms"))
    assert found["traffic_vision_probation_promise", figure] == 80
    assert found["traffic_vision_probation_promise_broken", figure] == 1
    lines = trial_lines(message.model)
    assert any("latency_p99_ms 80" in line and line.endswith("BROKEN") for line in lines)


def _of(message: common_pb2.VehicleStatus) -> Metrics:
    return Metrics(lambda: message, lambda: LoopHealth(is_running=True, stepped_ns=1))


def test_a_model_that_left_leaves_no_series() -> None:
    now = {"model": "a" * 64}
    metrics = Metrics(lambda: status(now["model"]), lambda: LoopHealth(is_running=True, stepped_ns=1))
    before = len(samples(metrics))
    for letter in "bcdef":
        now["model"] = letter * 64
        assert len(samples(metrics)) == before
    assert "a" * 64 not in metrics.text().decode()
