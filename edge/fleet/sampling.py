"""The sampler of all cameras, as a part of the daemon: what it takes goes to disk by another thread."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from edge.background_writer import BackgroundWriter
from edge.config import CameraConfig, SamplerConfig
from edge.drift.camera_drift import Watched
from edge.drift.features import NAMES
from edge.drift.part import DriftWatch
from edge.fleet.assemble import AssembleError, assemble_sample
from edge.fleet.drift_events import DriftEvents
from edge.fleet.feature_log import FeatureLog, SeriesHead
from edge.fleet.sampler import Sampler, SampleReason, SamplerOptions
from edge.fleet.spool import Spool
from edge.frames.frame import Frame
from edge.logs import Repeated
from edge.messages import Clock, frame_detections, model_ref
from edge.publication import Publication
from edge.redaction import redact
from edge.vehicle_state.part import VehicleWatch
from protos.traffic_vision.v1 import common_pb2, fleet_pb2

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spools:
    """Where what is for the cloud waits on disk: pictures, feature series, drift events."""

    samples: Spool
    series: Spool
    events: Spool


class Sampling:
    """Sees every published frame, after the drift monitors, on the frame loop's thread."""

    name = "sampler"

    def __init__(
        self,
        config: SamplerConfig,
        cameras: Mapping[str, CameraConfig],
        drift: DriftWatch | None,
        spools: Spools,
        writer: BackgroundWriter,
        clock: Clock,
        run_id: str,
        events: DriftEvents,
        vehicle: VehicleWatch | None = None,
    ) -> None:
        """Make ready.

        Args:
            config: the section [sampler].
            cameras: by name.
            drift: is asked for each frame's features and state; without it, drift is no reason.
            spools: where to.
            writer: encodes and writes.
            clock: of this run.
            run_id: of this run; a drive of a camera lasts as long as it.
            events: tell which drift event a camera's samples belong to.
            vehicle: tells whether it is parked, and what goes into samples of its state; None: neither.
        """
        options = _options(config, len(cameras))
        self._drift = drift
        self._spools = spools
        self._writer = writer
        self._clock = clock
        self._events = events
        self._vehicle = vehicle
        self._no_samples = Repeated(logger, logging.WARNING)
        self._samplers = {name: Sampler(options) for name in cameras}
        self._source_ids = {name: redact(camera.url) for name, camera in cameras.items()}
        self._drive_ids = {name: f"{run_id}-{name}" for name in cameras}
        self._logs = {
            name: FeatureLog(NAMES, self._keep_series, series_s=config.series_s) for name in cameras
        }

    def observe(self, frame: Frame, published: Publication) -> None:
        """Take the frame if it matters; note its features."""
        watched = self._drift.latest(frame.camera) if self._drift else None
        state = watched.state if watched else None
        alarm = state is not None and state.verdict == common_pb2.DRIFT_VERDICT_ALARM
        strength = state.features[0].ks_d if alarm and state and state.features else 0.0
        sampler = self._samplers[frame.camera]
        boxes = published.detections.boxes
        parked = self._vehicle is not None and self._vehicle.parked(frame.camera)
        reasons = sampler.offer(frame.captured_ns, frame.part, boxes, alarm, strength, parked=parked)
        if reasons:
            event = self._events.of(frame.camera)
            vehicle = self._vehicle.state() if self._vehicle else None
            job = partial(self._keep_sample, sampler, frame, published, reasons, watched, event, vehicle)
            if not self._writer.submit(job):
                sampler.weighed(0)
        if watched is not None and watched.frame == frame.key:
            self._log_features(frame, published, watched)

    def request(self, request: fleet_pb2.SampleRequest) -> str | None:
        """Carry out the cloud's wish for samples; says why it is refused, or None. From any thread."""
        names = [request.camera] if request.camera else list(self._samplers)
        if names[0] not in self._samplers:
            return f"there is no camera {request.camera[:64]!r}"
        taken = [
            self._samplers[name].request(request.samples, request.interval_ms * 1_000_000) for name in names
        ]
        return None if all(taken) else "too many requests wait already"

    def take_over(self, config: SamplerConfig) -> None:
        """Go by another section [sampler] from the next frame on, but for its `series_s`. From any thread."""
        options = _options(config, len(self._samplers))
        for sampler in self._samplers.values():
            sampler.change(options)

    def cut(self) -> None:
        """Hand the series that are being collected to the writer; after the frame loop's end."""
        for log in self._logs.values():
            log.cut()

    def _keep_sample(
        self,
        sampler: Sampler,
        frame: Frame,
        published: Publication,
        reasons: tuple[SampleReason, ...],
        watched: Watched | None,
        event: str,
        vehicle: common_pb2.VehicleState | None,
    ) -> None:
        size = 0
        try:
            own = watched is not None and watched.frame == frame.key
            sample = assemble_sample(
                frame,
                frame_detections(published, self._clock),
                reasons,
                source_id=self._source_ids[frame.camera],
                drive_id=self._drive_ids[frame.camera],
                features=_features(watched) if watched is not None and own else None,
                drift=watched.state if watched else None,
                drift_event_id=event,
                vehicle=vehicle,
            )
            payload = sample.SerializeToString()
            if self._spools.samples.append(sample.id, payload, sample.priority):
                size = len(payload)
        except AssembleError as error:
            self._no_samples.log("camera %s, frame %d is no sample: %s", frame.camera, frame.sequence, error)
        finally:
            sampler.weighed(size)

    def _log_features(self, frame: Frame, published: Publication, watched: Watched) -> None:
        camera, model = frame.camera, published.model
        head = SeriesHead(
            camera=camera,
            source_id=self._source_ids[camera],
            drive_id=self._drive_ids[camera],
            model=model_ref(published.detections.model_digest, model.name, model.version),
            context=watched.state.context if watched.state else "",
        )
        observed = self._clock.captured(camera, frame.captured_ns, is_live=published.is_live)
        self._logs[camera].add(
            head, frame.captured_ns, watched.features, picture=frame.name, observed=observed
        )

    def _keep_series(self, series_id: str, payload: bytes, priority: float) -> None:
        self._writer.submit(partial(self._spools.series.append, series_id, payload, priority))


def _options(config: SamplerConfig, cameras: int) -> SamplerOptions:
    return SamplerOptions(
        drift_spacing_s=config.drift_spacing_s,
        uncertainty_spacing_s=config.uncertainty_spacing_s,
        baseline_spacing_s=config.baseline_spacing_s,
        uncertain_share=config.uncertain_share,
        near_duplicate_bits=config.near_duplicate_bits,
        bytes_per_day=config.bytes_per_day // cameras,
    )


def _features(watched: Watched) -> common_pb2.Features:
    return common_pb2.Features(names=NAMES, values=watched.features.tolist())
