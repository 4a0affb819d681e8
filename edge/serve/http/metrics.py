"""The daemon's figures for Prometheus: counted where they arise, or read from the status when it asks.

Labels are cameras, ways out, stages, drift features and routes: what the configuration and the model bound. A
model's digest is on the one series of the model that runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from edge.frames.frame import Frame
from edge.frames.recent import Recent
from edge.health import LoopHealth
from edge.publication import Publication
from protos.traffic_vision.v1 import common_pb2
from protos.words import word

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STAGES = ("wait", "preprocess", "inference", "postprocess")

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0)
_NS = 1e9


class StageTimes:
    """How long frames take in each stage; a `FrameObserver`."""

    name = "stage times"

    def __init__(self, registry: CollectorRegistry) -> None:
        """Nothing seen."""
        stages = Histogram(
            "traffic_vision_stage_seconds",
            "Time of a published frame in each stage; wait: from its arrival to the first of them.",
            ["stage"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._ages = Histogram(
            "traffic_vision_frame_age_seconds",
            "Time of a frame from its arrival to its publication.",
            ["camera"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self.recent = {stage: Recent() for stage in STAGES}
        self.seen = threading.Event()  # the first frame

    def observe(self, frame: Frame, published: Publication) -> None:
        """Count a frame's."""
        times = published.detections.stage_ns
        each = (published.wait_ns, times.preprocess, times.inference, times.postprocess)
        for stage, duration_ns in zip(STAGES, each, strict=True):
            self._stages[stage].observe(duration_ns / _NS)
            self.recent[stage].add(duration_ns, now_ns=published.published_ns)
        self._ages.labels(frame.camera).observe(published.age_ns / _NS)
        self.seen.set()


class Metrics:
    """The registry, and what is counted here."""

    def __init__(
        self, status: Callable[[], common_pb2.VehicleStatus], loop_health: Callable[[], LoopHealth]
    ) -> None:
        """Over the daemon's status and its frame loop."""
        # Of each histogram and counter, a series more that nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the one of its functions without types
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_StatusCollector(status, loop_health))
        self.stages = StageTimes(self._registry)
        self._requests = Counter(
            "traffic_vision_http_requests",
            "Requests answered by HTTP.",
            ["method", "route", "code"],
            registry=self._registry,
        )
        self._durations = Histogram(
            "traffic_vision_http_request_seconds",
            "Time from a request to the end of its answer.",
            ["route"],
            buckets=(*_BUCKETS_S, 5.0, 30.0),
            registry=self._registry,
        )

    def answered(self, method: str, route: str, code: int, seconds: float) -> None:
        """Count an answer.

        Args:
            method: of HTTP, or "other".
            route: the pattern that it matched, or "other"; never the path that a client makes up.
            code: HTTP status.
            seconds: that it took.
        """
        self._requests.labels(method, route, str(code)).inc()
        self._durations.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All of it, in Prometheus's text format."""
        return generate_latest(self._registry)


class _StatusCollector(Collector):
    def __init__(
        self, status: Callable[[], common_pb2.VehicleStatus], loop_health: Callable[[], LoopHealth]
    ) -> None:
        self._status = status
        self._loop_health = loop_health

    def describe(self) -> Iterator[Any]:
        """Nothing ahead: there may be no cameras yet when this is registered."""
        return iter(())

    def collect(self) -> Iterator[Any]:
        """Read the status once."""
        status, loop = self._status(), self._loop_health()
        yield from _vehicle(status)
        yield from _cameras(status)
        yield from _model(status.model)
        yield from _inference(loop)
        yield from _drift(status)
        yield from _spool(status.spool)
        yield from _disk(status.disk)
        if status.HasField("certificate_expires_wall_ns"):
            ends_s = status.certificate_expires_wall_ns / _NS
            yield _gauge(
                "certificate_expires_timestamp_seconds", "Unix time: this vehicle's certificate ends.", ends_s
            )


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"traffic_vision_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"traffic_vision_{name}", text, value=value)


def _add_states(family: GaugeMetricFamily, labels: list[str], kind: Any, prefix: str, value: int) -> None:
    """One series for each state that can be, 1 for the one that is."""
    for state in kind.values():
        if not kind.Name(state).endswith("_UNSPECIFIED"):
            family.add_metric([*labels, word(kind, prefix, state)], float(state == value))


def _vehicle(status: common_pb2.VehicleStatus) -> Iterator[Any]:
    yield InfoMetricFamily("traffic_vision_daemon", "The daemon.", {"version": status.daemon_version})
    yield _gauge("uptime_seconds", "Since the daemon started.", status.uptime_ns / _NS)
    yield _gauge("resident_bytes", "Memory that the daemon holds.", status.resident_bytes)
    yield _gauge("cloud_connected", "1 while the cloud is connected.", status.connected_to_cloud)
    yield _gauge("clock_doubted", "1 while the vehicle's clock is not believed.", bool(status.clock_alarm))
    yield _gauge("update_metadata_stale", "1 while none that holds is here.", bool(status.metadata_alarm))
    if status.HasField("metadata_expires_wall_ns"):
        expires_s = status.metadata_expires_wall_ns / _NS
        yield _gauge("update_metadata_expires_timestamp_seconds", "When it ends, Unix time.", expires_s)


def _cameras(status: common_pb2.VehicleStatus) -> Iterator[Any]:
    captured = CounterMetricFamily(
        "traffic_vision_frames_captured", "Frames that came in.", labels=["camera"]
    )
    frames = CounterMetricFamily(
        "traffic_vision_frames",
        "Frames that left, by their way out; they add up to those captured, less those on their way.",
        labels=["camera", "outcome"],
    )
    states = GaugeMetricFamily(
        "traffic_vision_camera_state", "1 for how the camera is.", labels=["camera", "state"]
    )
    rates = GaugeMetricFamily(
        "traffic_vision_camera_rate_hz", "Frames a second, lately.", labels=["camera", "of"]
    )
    ages = GaugeMetricFamily(
        "traffic_vision_camera_age_seconds",
        "Age of detections at their publication, lately.",
        labels=["camera", "quantile"],
    )
    epochs = GaugeMetricFamily(
        "traffic_vision_camera_epoch", "Goes up with each reconnect.", labels=["camera"]
    )
    losses = CounterMetricFamily(
        "traffic_vision_camera_losses",
        "How often the camera was lost, or could not be opened again.",
        labels=["camera"],
    )
    parked = GaugeMetricFamily(
        "traffic_vision_parked",
        "1 while the vehicle is parked, as far as the camera is concerned.",
        labels=["camera"],
    )
    for camera in status.cameras:
        name = [camera.camera]
        captured.add_metric(name, camera.captured_frames)
        for count in camera.outcomes:
            way = word(common_pb2.FrameOutcome, "FRAME_OUTCOME_", count.outcome)
            frames.add_metric([*name, way], count.frames)
        _add_states(states, name, common_pb2.CameraState, "CAMERA_STATE_", camera.state)
        parked.add_metric(name, float(camera.motion == common_pb2.MOTION_PARKED))
        rates.add_metric([*name, "captured"], camera.captured_hz)
        rates.add_metric([*name, "published"], camera.published_hz)
        ages.add_metric([*name, "0.5"], camera.age_p50_ns / _NS)
        ages.add_metric([*name, "0.99"], camera.age_p99_ns / _NS)
        epochs.add_metric(name, camera.epoch)
        losses.add_metric(name, camera.losses)
    yield from (captured, frames, states, rates, ages, epochs, losses, parked)


def _model(model: common_pb2.ModelState) -> Iterator[Any]:
    active = model.active
    yield InfoMetricFamily(
        "traffic_vision_model",
        "The model that runs.",
        {
            "sha256": active.sha256,
            "name": active.name,
            "version": active.version,
            "slot": word(common_pb2.Slot, "SLOT_", model.active_slot),
        },
    )
    phases = GaugeMetricFamily(
        "traffic_vision_update_phase", "1 for how the next model is doing.", labels=["phase"]
    )
    _add_states(phases, [], common_pb2.UpdatePhase, "UPDATE_PHASE_", model.phase)
    yield phases
    yield from _trials(model)
    yield _gauge("release_counter", "Of the newest release confirmed here.", model.release_counter)
    yield _gauge("unsigned_allowed", "1: models that nobody signed are allowed.", model.unsigned_allowed)
    yield _gauge("model_is_unsigned", "1 while a model runs that nobody signed.", model.active_is_unsigned)
    yield _gauge("models_refused", "Models that failed here and are not tried again.", len(model.bad_sha256))


def _trials(model: common_pb2.ModelState) -> Iterator[Any]:
    """Of the shadow and the probation under way, or of the last ones."""
    outcomes = GaugeMetricFamily(
        "traffic_vision_trial",
        "1 for how a model's trial is doing, or ended.",
        labels=["trial", "outcome"],
    )
    drive = GaugeMetricFamily("traffic_vision_trial_drive_seconds", "Driven in it.", labels=["trial"])
    needed = GaugeMetricFamily("traffic_vision_trial_needed_drive_seconds", "Asked for.", labels=["trial"])
    for name, report in (("shadow", model.shadow), ("probation", model.probation)):
        if model.HasField(name):
            _add_states(outcomes, [name], common_pb2.TrialOutcome, "TRIAL_OUTCOME_", report.outcome)
            drive.add_metric([name], report.drive_s)
            needed.add_metric([name], report.needed_drive_s)
    yield from (outcomes, drive, needed)
    promises = GaugeMetricFamily(
        "traffic_vision_probation_promise", "As measured.", labels=["figure", "context"]
    )
    broken = GaugeMetricFamily(
        "traffic_vision_probation_promise_broken", "1: beyond chance.", labels=["figure", "context"]
    )
    for figure in model.probation.figures:
        promises.add_metric([figure.name, figure.context], figure.value)
        broken.add_metric([figure.name, figure.context], float(figure.broken))
    yield from (promises, broken)
    if model.HasField("shadow"):
        yield from _shadow(model.shadow)


def _shadow(shadow: common_pb2.ShadowReport) -> Iterator[Any]:
    frames = GaugeMetricFamily(
        "traffic_vision_shadow_frames", "Frames whose turn it was, by what came of them.", labels=["outcome"]
    )
    for name, count in (
        ("compared", shadow.compared_frames),
        ("over_budget", shadow.over_budget_frames),
        ("busy", shadow.busy_frames),
        ("error", shadow.error_frames),
    ):
        frames.add_metric([name], count)
    yield frames
    yield _gauge("shadow_cpu_share", "Of one core, that the candidate takes.", shadow.cpu_share)
    agreement = GaugeMetricFamily(
        "traffic_vision_shadow_f1", "Candidate against the active model.", labels=["class"]
    )
    for one in shadow.agreement:
        agreement.add_metric([one.class_name or "all"], one.f1_share)
    yield agreement


def _inference(loop: LoopHealth) -> Iterator[Any]:
    yield _gauge("inference_up", "1 while inference runs.", loop.is_running and loop.down_since_ns is None)
    yield _counter("inference_restarts", "Starts of inference after it broke down.", loop.restarts)
    idle_s = (time.monotonic_ns() - loop.stepped_ns) / _NS if loop.stepped_ns else 0.0
    yield _gauge("loop_stepped_age_seconds", "Since the frame loop last came round.", idle_s)


def _drift(status: common_pb2.VehicleStatus) -> Iterator[Any]:
    verdicts = GaugeMetricFamily(
        "traffic_vision_drift_verdict", "1 for what the drift monitor says.", labels=["camera", "verdict"]
    )
    alarms = GaugeMetricFamily(
        "traffic_vision_drift_expected_false_alarms_per_day",
        "How often the features get so unusual with nothing changed, per day of driving.",
        labels=["camera"],
    )
    distances = GaugeMetricFamily(
        "traffic_vision_drift_ks_d",
        "Kolmogorov-Smirnov statistic of a feature, in the window in which it is the most unusual.",
        labels=["camera", "feature"],
    )
    for state in status.drift:
        _add_states(verdicts, [state.camera], common_pb2.DriftVerdict, "DRIFT_VERDICT_", state.verdict)
        alarms.add_metric([state.camera], state.expected_false_alarms_per_day)
        strongest: dict[str, float] = {}
        for feature in state.features:
            strongest[feature.name] = max(feature.ks_d, strongest.get(feature.name, 0.0))
        for name, d in strongest.items():
            distances.add_metric([state.camera, name], d)
    yield from (verdicts, alarms, distances)
    if status.HasField("device_drift"):
        device = GaugeMetricFamily(
            "traffic_vision_device_drift_verdict", "1 for that of all cameras together.", labels=["verdict"]
        )
        said = status.device_drift
        _add_states(device, [], common_pb2.DriftVerdict, "DRIFT_VERDICT_", said.verdict)
        yield device
        yield _gauge(
            "device_drift_expected_false_alarms_per_day",
            "How often any camera gets so unusual with nothing changed, per day of driving.",
            said.expected_false_alarms_per_day,
        )


def _disk(disk: common_pb2.DiskStatus) -> Iterator[Any]:
    yield _gauge("disk_limit_bytes", "What may be written within 24 hours.", disk.limit_bytes_per_day)
    yield _counter("disk_refused_writes", "Writes that the limit did not allow.", disk.refused_writes)
    written = GaugeMetricFamily(
        "traffic_vision_disk_written_bytes", "Within the last 24 hours, by writer.", labels=["writer"]
    )
    for writer in disk.writers:
        written.add_metric([writer.name], writer.written_bytes)
    yield written


def _spool(spool: common_pb2.SpoolStatus) -> Iterator[Any]:
    yield _gauge("spool_samples", "Samples that wait for the cloud.", spool.samples)
    yield _gauge("spool_used_bytes", "What they take.", spool.used_bytes)
    yield _gauge("spool_limit_bytes", "What they may take.", spool.limit_bytes)
    yield _counter("spool_dropped_samples", "Dropped because of the limit.", spool.dropped_samples)
