from __future__ import annotations

import time

from prometheus_client.parser import text_string_to_metric_families

from edge.health import LoopHealth
from edge.serve.http.metrics import Metrics
from protos.traffic_vision.v1 import common_pb2
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
    assert found["traffic_vision_daemon_info", (("version", '1"\n'),)] == 1
    assert found["traffic_vision_inference_up", ()] == 1
    assert found["traffic_vision_certificate_expires_timestamp_seconds", ()] == 1_800_000_000
    assert found["traffic_vision_inference_restarts_total", ()] == 2
    assert found["traffic_vision_stage_seconds_count", (("stage", "inference"),)] == 1
    assert found["traffic_vision_stage_seconds_bucket", (("le", "0.0025"), ("stage", "inference"))] == 1
    assert found["traffic_vision_frame_age_seconds_sum", (("camera", "front"),)] == 0.007
    request = (("code", "200"), ("method", "GET"), ("route", "/healthz"))
    assert found["traffic_vision_http_requests_total", request] == 1


def test_a_model_that_left_leaves_no_series() -> None:
    now = {"model": "a" * 64}
    metrics = Metrics(lambda: status(now["model"]), lambda: LoopHealth(is_running=True, stepped_ns=1))
    before = len(samples(metrics))
    for letter in "bcdef":
        now["model"] = letter * 64
        assert len(samples(metrics)) == before
    assert "a" * 64 not in metrics.text().decode()
