"""From the daemon's own data to the messages of `protos/`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from edge.drift.explaining import ago_words, drive_words, explained, wall_words
from edge.drift.state import DriftState, FeatureDrift, Kind, Origin, Verdict
from edge.frames.camera import Camera
from edge.frames.outcomes import FrameTally, Outcome
from edge.health import CameraHealth, CameraState
from edge.machine.wall_clock import WallClock
from edge.perception.model_file import ModelFile
from edge.publication import Publication
from protos.traffic_vision.v1 import common_pb2

_OUTCOMES = {
    Outcome.PUBLISHED: common_pb2.FRAME_OUTCOME_PUBLISHED,
    Outcome.SUPERSEDED: common_pb2.FRAME_OUTCOME_SUPERSEDED,
    Outcome.STALE: common_pb2.FRAME_OUTCOME_STALE,
    Outcome.RATE_LIMITED: common_pb2.FRAME_OUTCOME_RATE_LIMITED,
    Outcome.DECODE_ERROR: common_pb2.FRAME_OUTCOME_DECODE_ERROR,
    Outcome.INFERENCE_ERROR: common_pb2.FRAME_OUTCOME_INFERENCE_ERROR,
    Outcome.STOPPED: common_pb2.FRAME_OUTCOME_STOPPED,
}
_VERDICTS = {
    Verdict.STABLE: common_pb2.DRIFT_VERDICT_STABLE,
    Verdict.ALARM: common_pb2.DRIFT_VERDICT_ALARM,
    Verdict.LEARNING: common_pb2.DRIFT_VERDICT_LEARNING,
    Verdict.UNCALIBRATED: common_pb2.DRIFT_VERDICT_UNCALIBRATED,
    Verdict.PAUSED: common_pb2.DRIFT_VERDICT_PAUSED,
}
_ORIGINS = {
    Origin.PICTURE: common_pb2.FEATURE_ORIGIN_PICTURE,
    Origin.DETECTIONS: common_pb2.FEATURE_ORIGIN_DETECTIONS,
    Origin.EMBEDDING: common_pb2.FEATURE_ORIGIN_EMBEDDING,
}
_KINDS = {
    Kind.LIGHT: common_pb2.DRIFT_KIND_LIGHT,
    Kind.WEATHER: common_pb2.DRIFT_KIND_WEATHER,
    Kind.LENS: common_pb2.DRIFT_KIND_LENS,
    Kind.CAMERA_MOVED: common_pb2.DRIFT_KIND_CAMERA_MOVED,
    Kind.EXPOSURE: common_pb2.DRIFT_KIND_EXPOSURE,
    Kind.TRAFFIC: common_pb2.DRIFT_KIND_TRAFFIC,
    Kind.OTHER: common_pb2.DRIFT_KIND_OTHER,
}
_STATES = {
    CameraState.OPENING: common_pb2.CAMERA_STATE_OPENING,
    CameraState.FRESH: common_pb2.CAMERA_STATE_FRESH,
    CameraState.STALE: common_pb2.CAMERA_STATE_STALE,
    CameraState.BACK_OFF: common_pb2.CAMERA_STATE_BACK_OFF,
    CameraState.ENDED: common_pb2.CAMERA_STATE_ENDED,
}
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clock:
    """This run's time stamps: the machine's monotonic clock, and recordings' own times."""

    def __init__(self, run_id: str, wall: WallClock | None = None) -> None:
        """For a run of the daemon, whose id no other run has; without `wall`, the system's wall clock."""
        self._run_id = run_id
        self._wall = wall or WallClock()
        try:
            self._boot_id = _BOOT_ID.read_text().strip()
        except OSError:  # a kernel without /proc: within this run, times can be compared
            self._boot_id = run_id

    def now(self) -> common_pb2.Instant:
        """This moment."""
        return self.machine(time.monotonic_ns())

    def machine(self, monotonic_ns: int) -> common_pb2.Instant:
        """A moment of this machine's clock."""
        return common_pb2.Instant(
            monotonic_ns=monotonic_ns,
            wall_ns=self._wall.at(monotonic_ns),
            source=self._wall.source,
            boot_id=self._boot_id,
        )

    def drive(self, camera: str, drive_ns: int) -> common_pb2.Instant:
        """A moment of a recording: the drive's time from its start."""
        return common_pb2.Instant(
            monotonic_ns=drive_ns,
            source=common_pb2.CLOCK_SOURCE_RECORDING,
            boot_id=f"{self._run_id}-{camera}",
        )

    def captured(self, camera: str, captured_ns: int, *, is_live: bool) -> common_pb2.Instant:
        """A frame's own time."""
        return self.machine(captured_ns) if is_live else self.drive(camera, captured_ns)


def model_ref(digest: str, name: str, version: str) -> common_pb2.ModelRef:
    """A model, by its digest."""
    return common_pb2.ModelRef(sha256=digest, name=name, version=version)


def model_ref_of(model: ModelFile) -> common_pb2.ModelRef:
    """A model file."""
    return model_ref(model.digest, model.metadata.name, model.metadata.version)


def frame_ref(publication: Publication, clock: Clock) -> common_pb2.FrameRef:
    """The frame that a publication speaks of."""
    camera, epoch, sequence = publication.key
    return common_pb2.FrameRef(
        camera=camera,
        epoch=epoch,
        sequence=sequence,
        captured=clock.captured(camera, publication.captured_ns, is_live=publication.is_live),
        width_px=publication.width,
        height_px=publication.height,
    )


def frame_detections(
    publication: Publication, clock: Clock, *, keep: Callable[[str, float], bool] = lambda name, score: True
) -> common_pb2.FrameDetections:
    """One frame's detections, by falling score.

    Args:
        publication: the frame and what was found.
        clock: of this run.
        keep: whether a detection of that class name and score goes in.
    """
    names = publication.model.class_names
    found = publication.detections
    message = common_pb2.FrameDetections(
        frame=frame_ref(publication, clock),
        model=model_ref(found.model_digest, publication.model.name, publication.model.version),
        times=common_pb2.StageTimes(
            wait_ns=publication.wait_ns,
            preprocess_ns=found.stage_ns.preprocess,
            inference_ns=found.stage_ns.inference,
            postprocess_ns=found.stage_ns.postprocess,
        ),
        published=clock.machine(publication.published_ns),
    )
    for x1, y1, x2, y2, score, index in found.boxes.tolist():
        name = names[int(index)]
        if keep(name, score):
            message.detections.add(
                x1_px=x1, y1_px=y1, x2_px=x2, y2_px=y2, score=score, class_index=int(index), class_name=name
            )
    return message


def drift_state(
    camera: str,
    state: DriftState,
    model: common_pb2.ModelRef,
    reference_sha256: str,
    at: Callable[[int], common_pb2.Instant],
) -> common_pb2.DriftState:
    """A monitor's judgement; of an alarm, also its kind, and in words what has changed.

    Args:
        camera: whose.
        state: the judgement.
        model: that the features of detections come from.
        reference_sha256: what was judged by.
        at: makes a moment of the frames' time.
    """
    observed = at(state.time_ns)
    told = explained(state, lambda time_ns: moment_words(at(time_ns), observed))
    return common_pb2.DriftState(
        camera=camera,
        observed=observed,
        verdict=_VERDICTS[state.verdict],
        expected_false_alarms_per_day=state.false_alarms_per_day,
        context=state.context,
        unknown_context_share=state.unknown_context_share,
        features=[_feature_drift(feature) for feature in state.features],
        kind=_KINDS[told.kind] if told.kind else common_pb2.DRIFT_KIND_UNSPECIFIED,
        explanation="; ".join((*([told.explanation] if told.explanation else []), *state.notes)),
        since=at(state.since_ns),
        model=model,
        reference_sha256=reference_sha256,
        estimated_map50_change=state.estimated_map50_change,
    )


def moment_words(moment: common_pb2.Instant, now: common_pb2.Instant) -> str:
    """A moment for people, by the best clock that it has: `18:42 UTC`, `12:05 of the drive`, `40 s ago`.

    Args:
        moment: which.
        now: when it is told, by the same clock.
    """
    if moment.source == common_pb2.CLOCK_SOURCE_RECORDING:
        return drive_words(moment.monotonic_ns)
    if moment.HasField("wall_ns"):
        return wall_words(moment.wall_ns, now.wall_ns)
    return ago_words(moment.monotonic_ns, now.monotonic_ns)


def _feature_drift(feature: FeatureDrift) -> common_pb2.FeatureDrift:
    return common_pb2.FeatureDrift(
        name=feature.name,
        origin=_ORIGINS[feature.origin],
        context=feature.context,
        window_s=feature.window_s,
        ks_d=feature.d,
        p_value=feature.p,
        expected_false_alarms_per_day=feature.false_alarms_per_day,
        shift_sigma=feature.shift_sigma,
        verdict=_VERDICTS[feature.verdict],
    )


def frame_counts(tally: FrameTally) -> list[common_pb2.FrameCount]:
    """Every way out, zeros included."""
    return [
        common_pb2.FrameCount(outcome=number, frames=tally.left[outcome])
        for outcome, number in _OUTCOMES.items()
    ]


def camera_status(camera: Camera, now_ns: int) -> common_pb2.CameraStatus:
    """How a camera is at a moment of the monotonic clock."""
    status = camera.capture.status()
    tally = camera.counts.tally()
    return common_pb2.CameraStatus(
        camera=camera.config.name,
        state=_STATES[camera_health(camera).state(now_ns)],
        epoch=status.epoch,
        captured_frames=tally.captured,
        outcomes=frame_counts(tally),
        captured_hz=status.captured_hz,
        published_hz=camera.ages.rate_hz(),
        age_p50_ns=camera.ages.percentile(0.50),
        age_p99_ns=camera.ages.percentile(0.99),
        losses=status.losses,
        detail=status.detail,
    )


def camera_health(camera: Camera) -> CameraHealth:
    """What the rule of health goes by."""
    status = camera.capture.status()
    stale_after_ns = round(camera.config.stale_after_ms * 1e6)
    return CameraHealth(
        camera.config.name,
        status.phase,
        status.last_arrival_ns,
        stale_after_ns,
        status.back_off_until_ns,
    )
