from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClockSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLOCK_SOURCE_UNSPECIFIED: _ClassVar[ClockSource]
    CLOCK_SOURCE_SYSTEM: _ClassVar[ClockSource]
    CLOCK_SOURCE_PTP: _ClassVar[ClockSource]
    CLOCK_SOURCE_GNSS: _ClassVar[ClockSource]
    CLOCK_SOURCE_RECORDING: _ClassVar[ClockSource]

class FrameOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FRAME_OUTCOME_UNSPECIFIED: _ClassVar[FrameOutcome]
    FRAME_OUTCOME_PUBLISHED: _ClassVar[FrameOutcome]
    FRAME_OUTCOME_SUPERSEDED: _ClassVar[FrameOutcome]
    FRAME_OUTCOME_STALE: _ClassVar[FrameOutcome]
    FRAME_OUTCOME_RATE_LIMITED: _ClassVar[FrameOutcome]
    FRAME_OUTCOME_DECODE_ERROR: _ClassVar[FrameOutcome]
    FRAME_OUTCOME_INFERENCE_ERROR: _ClassVar[FrameOutcome]
    FRAME_OUTCOME_STOPPED: _ClassVar[FrameOutcome]

class FeatureOrigin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEATURE_ORIGIN_UNSPECIFIED: _ClassVar[FeatureOrigin]
    FEATURE_ORIGIN_PICTURE: _ClassVar[FeatureOrigin]
    FEATURE_ORIGIN_DETECTIONS: _ClassVar[FeatureOrigin]
    FEATURE_ORIGIN_EMBEDDING: _ClassVar[FeatureOrigin]

class DriftVerdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DRIFT_VERDICT_UNSPECIFIED: _ClassVar[DriftVerdict]
    DRIFT_VERDICT_STABLE: _ClassVar[DriftVerdict]
    DRIFT_VERDICT_ALARM: _ClassVar[DriftVerdict]
    DRIFT_VERDICT_LEARNING: _ClassVar[DriftVerdict]
    DRIFT_VERDICT_UNCALIBRATED: _ClassVar[DriftVerdict]
    DRIFT_VERDICT_PAUSED: _ClassVar[DriftVerdict]

class DriftKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DRIFT_KIND_UNSPECIFIED: _ClassVar[DriftKind]
    DRIFT_KIND_LIGHT: _ClassVar[DriftKind]
    DRIFT_KIND_WEATHER: _ClassVar[DriftKind]
    DRIFT_KIND_LENS: _ClassVar[DriftKind]
    DRIFT_KIND_CAMERA_MOVED: _ClassVar[DriftKind]
    DRIFT_KIND_EXPOSURE: _ClassVar[DriftKind]
    DRIFT_KIND_TRAFFIC: _ClassVar[DriftKind]
    DRIFT_KIND_OTHER: _ClassVar[DriftKind]

class CameraState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CAMERA_STATE_UNSPECIFIED: _ClassVar[CameraState]
    CAMERA_STATE_OPENING: _ClassVar[CameraState]
    CAMERA_STATE_FRESH: _ClassVar[CameraState]
    CAMERA_STATE_STALE: _ClassVar[CameraState]
    CAMERA_STATE_BACK_OFF: _ClassVar[CameraState]
    CAMERA_STATE_ENDED: _ClassVar[CameraState]

class Slot(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SLOT_UNSPECIFIED: _ClassVar[Slot]
    SLOT_A: _ClassVar[Slot]
    SLOT_B: _ClassVar[Slot]
    SLOT_LAST_GOOD: _ClassVar[Slot]
    SLOT_FACTORY: _ClassVar[Slot]

class UpdatePhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UPDATE_PHASE_UNSPECIFIED: _ClassVar[UpdatePhase]
    UPDATE_PHASE_IDLE: _ClassVar[UpdatePhase]
    UPDATE_PHASE_CHECKING: _ClassVar[UpdatePhase]
    UPDATE_PHASE_DOWNLOADING: _ClassVar[UpdatePhase]
    UPDATE_PHASE_VERIFYING: _ClassVar[UpdatePhase]
    UPDATE_PHASE_STAGED: _ClassVar[UpdatePhase]
    UPDATE_PHASE_SHADOW: _ClassVar[UpdatePhase]
    UPDATE_PHASE_PROBATION: _ClassVar[UpdatePhase]
    UPDATE_PHASE_CONFIRMED: _ClassVar[UpdatePhase]
    UPDATE_PHASE_REFUSED: _ClassVar[UpdatePhase]
    UPDATE_PHASE_REVERTED: _ClassVar[UpdatePhase]

class TrialOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRIAL_OUTCOME_UNSPECIFIED: _ClassVar[TrialOutcome]
    TRIAL_OUTCOME_UNDER_WAY: _ClassVar[TrialOutcome]
    TRIAL_OUTCOME_PASSED: _ClassVar[TrialOutcome]
    TRIAL_OUTCOME_FAILED: _ClassVar[TrialOutcome]
    TRIAL_OUTCOME_BROKEN_OFF: _ClassVar[TrialOutcome]

class Ignition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IGNITION_UNSPECIFIED: _ClassVar[Ignition]
    IGNITION_OFF: _ClassVar[Ignition]
    IGNITION_ON: _ClassVar[Ignition]

class Motion(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MOTION_UNSPECIFIED: _ClassVar[Motion]
    MOTION_DRIVING: _ClassVar[Motion]
    MOTION_PARKED: _ClassVar[Motion]
CLOCK_SOURCE_UNSPECIFIED: ClockSource
CLOCK_SOURCE_SYSTEM: ClockSource
CLOCK_SOURCE_PTP: ClockSource
CLOCK_SOURCE_GNSS: ClockSource
CLOCK_SOURCE_RECORDING: ClockSource
FRAME_OUTCOME_UNSPECIFIED: FrameOutcome
FRAME_OUTCOME_PUBLISHED: FrameOutcome
FRAME_OUTCOME_SUPERSEDED: FrameOutcome
FRAME_OUTCOME_STALE: FrameOutcome
FRAME_OUTCOME_RATE_LIMITED: FrameOutcome
FRAME_OUTCOME_DECODE_ERROR: FrameOutcome
FRAME_OUTCOME_INFERENCE_ERROR: FrameOutcome
FRAME_OUTCOME_STOPPED: FrameOutcome
FEATURE_ORIGIN_UNSPECIFIED: FeatureOrigin
FEATURE_ORIGIN_PICTURE: FeatureOrigin
FEATURE_ORIGIN_DETECTIONS: FeatureOrigin
FEATURE_ORIGIN_EMBEDDING: FeatureOrigin
DRIFT_VERDICT_UNSPECIFIED: DriftVerdict
DRIFT_VERDICT_STABLE: DriftVerdict
DRIFT_VERDICT_ALARM: DriftVerdict
DRIFT_VERDICT_LEARNING: DriftVerdict
DRIFT_VERDICT_UNCALIBRATED: DriftVerdict
DRIFT_VERDICT_PAUSED: DriftVerdict
DRIFT_KIND_UNSPECIFIED: DriftKind
DRIFT_KIND_LIGHT: DriftKind
DRIFT_KIND_WEATHER: DriftKind
DRIFT_KIND_LENS: DriftKind
DRIFT_KIND_CAMERA_MOVED: DriftKind
DRIFT_KIND_EXPOSURE: DriftKind
DRIFT_KIND_TRAFFIC: DriftKind
DRIFT_KIND_OTHER: DriftKind
CAMERA_STATE_UNSPECIFIED: CameraState
CAMERA_STATE_OPENING: CameraState
CAMERA_STATE_FRESH: CameraState
CAMERA_STATE_STALE: CameraState
CAMERA_STATE_BACK_OFF: CameraState
CAMERA_STATE_ENDED: CameraState
SLOT_UNSPECIFIED: Slot
SLOT_A: Slot
SLOT_B: Slot
SLOT_LAST_GOOD: Slot
SLOT_FACTORY: Slot
UPDATE_PHASE_UNSPECIFIED: UpdatePhase
UPDATE_PHASE_IDLE: UpdatePhase
UPDATE_PHASE_CHECKING: UpdatePhase
UPDATE_PHASE_DOWNLOADING: UpdatePhase
UPDATE_PHASE_VERIFYING: UpdatePhase
UPDATE_PHASE_STAGED: UpdatePhase
UPDATE_PHASE_SHADOW: UpdatePhase
UPDATE_PHASE_PROBATION: UpdatePhase
UPDATE_PHASE_CONFIRMED: UpdatePhase
UPDATE_PHASE_REFUSED: UpdatePhase
UPDATE_PHASE_REVERTED: UpdatePhase
TRIAL_OUTCOME_UNSPECIFIED: TrialOutcome
TRIAL_OUTCOME_UNDER_WAY: TrialOutcome
TRIAL_OUTCOME_PASSED: TrialOutcome
TRIAL_OUTCOME_FAILED: TrialOutcome
TRIAL_OUTCOME_BROKEN_OFF: TrialOutcome
IGNITION_UNSPECIFIED: Ignition
IGNITION_OFF: Ignition
IGNITION_ON: Ignition
MOTION_UNSPECIFIED: Motion
MOTION_DRIVING: Motion
MOTION_PARKED: Motion

class ProtocolRange(_message.Message):
    __slots__ = ("oldest", "newest")
    OLDEST_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    oldest: int
    newest: int
    def __init__(self, oldest: _Optional[int] = ..., newest: _Optional[int] = ...) -> None: ...

class Instant(_message.Message):
    __slots__ = ("monotonic_ns", "wall_ns", "source", "boot_id")
    MONOTONIC_NS_FIELD_NUMBER: _ClassVar[int]
    WALL_NS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    monotonic_ns: int
    wall_ns: int
    source: ClockSource
    boot_id: str
    def __init__(self, monotonic_ns: _Optional[int] = ..., wall_ns: _Optional[int] = ..., source: _Optional[_Union[ClockSource, str]] = ..., boot_id: _Optional[str] = ...) -> None: ...

class FrameRef(_message.Message):
    __slots__ = ("camera", "epoch", "sequence", "captured", "width_px", "height_px")
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_FIELD_NUMBER: _ClassVar[int]
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    camera: str
    epoch: int
    sequence: int
    captured: Instant
    width_px: int
    height_px: int
    def __init__(self, camera: _Optional[str] = ..., epoch: _Optional[int] = ..., sequence: _Optional[int] = ..., captured: _Optional[_Union[Instant, _Mapping]] = ..., width_px: _Optional[int] = ..., height_px: _Optional[int] = ...) -> None: ...

class FrameCount(_message.Message):
    __slots__ = ("outcome", "frames")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    outcome: FrameOutcome
    frames: int
    def __init__(self, outcome: _Optional[_Union[FrameOutcome, str]] = ..., frames: _Optional[int] = ...) -> None: ...

class ModelRef(_message.Message):
    __slots__ = ("sha256", "name", "version")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    name: str
    version: str
    def __init__(self, sha256: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class Detection(_message.Message):
    __slots__ = ("x1_px", "y1_px", "x2_px", "y2_px", "score", "class_index", "class_name")
    X1_PX_FIELD_NUMBER: _ClassVar[int]
    Y1_PX_FIELD_NUMBER: _ClassVar[int]
    X2_PX_FIELD_NUMBER: _ClassVar[int]
    Y2_PX_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    x1_px: float
    y1_px: float
    x2_px: float
    y2_px: float
    score: float
    class_index: int
    class_name: str
    def __init__(self, x1_px: _Optional[float] = ..., y1_px: _Optional[float] = ..., x2_px: _Optional[float] = ..., y2_px: _Optional[float] = ..., score: _Optional[float] = ..., class_index: _Optional[int] = ..., class_name: _Optional[str] = ...) -> None: ...

class StageTimes(_message.Message):
    __slots__ = ("wait_ns", "preprocess_ns", "inference_ns", "postprocess_ns")
    WAIT_NS_FIELD_NUMBER: _ClassVar[int]
    PREPROCESS_NS_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_NS_FIELD_NUMBER: _ClassVar[int]
    POSTPROCESS_NS_FIELD_NUMBER: _ClassVar[int]
    wait_ns: int
    preprocess_ns: int
    inference_ns: int
    postprocess_ns: int
    def __init__(self, wait_ns: _Optional[int] = ..., preprocess_ns: _Optional[int] = ..., inference_ns: _Optional[int] = ..., postprocess_ns: _Optional[int] = ...) -> None: ...

class FrameDetections(_message.Message):
    __slots__ = ("frame", "model", "detections", "times", "published")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    frame: FrameRef
    model: ModelRef
    detections: _containers.RepeatedCompositeFieldContainer[Detection]
    times: StageTimes
    published: Instant
    def __init__(self, frame: _Optional[_Union[FrameRef, _Mapping]] = ..., model: _Optional[_Union[ModelRef, _Mapping]] = ..., detections: _Optional[_Iterable[_Union[Detection, _Mapping]]] = ..., times: _Optional[_Union[StageTimes, _Mapping]] = ..., published: _Optional[_Union[Instant, _Mapping]] = ...) -> None: ...

class Features(_message.Message):
    __slots__ = ("names", "values")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, names: _Optional[_Iterable[str]] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class FeatureDrift(_message.Message):
    __slots__ = ("name", "origin", "context", "window_s", "ks_d", "p_value", "expected_false_alarms_per_day", "shift_sigma", "verdict")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_S_FIELD_NUMBER: _ClassVar[int]
    KS_D_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FALSE_ALARMS_PER_DAY_FIELD_NUMBER: _ClassVar[int]
    SHIFT_SIGMA_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    name: str
    origin: FeatureOrigin
    context: str
    window_s: float
    ks_d: float
    p_value: float
    expected_false_alarms_per_day: float
    shift_sigma: float
    verdict: DriftVerdict
    def __init__(self, name: _Optional[str] = ..., origin: _Optional[_Union[FeatureOrigin, str]] = ..., context: _Optional[str] = ..., window_s: _Optional[float] = ..., ks_d: _Optional[float] = ..., p_value: _Optional[float] = ..., expected_false_alarms_per_day: _Optional[float] = ..., shift_sigma: _Optional[float] = ..., verdict: _Optional[_Union[DriftVerdict, str]] = ...) -> None: ...

class DriftState(_message.Message):
    __slots__ = ("camera", "observed", "verdict", "expected_false_alarms_per_day", "context", "unknown_context_share", "features", "kind", "explanation", "since", "model", "reference_sha256", "estimated_map50_change")
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FALSE_ALARMS_PER_DAY_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_CONTEXT_SHARE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_SHA256_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_MAP50_CHANGE_FIELD_NUMBER: _ClassVar[int]
    camera: str
    observed: Instant
    verdict: DriftVerdict
    expected_false_alarms_per_day: float
    context: str
    unknown_context_share: float
    features: _containers.RepeatedCompositeFieldContainer[FeatureDrift]
    kind: DriftKind
    explanation: str
    since: Instant
    model: ModelRef
    reference_sha256: str
    estimated_map50_change: float
    def __init__(self, camera: _Optional[str] = ..., observed: _Optional[_Union[Instant, _Mapping]] = ..., verdict: _Optional[_Union[DriftVerdict, str]] = ..., expected_false_alarms_per_day: _Optional[float] = ..., context: _Optional[str] = ..., unknown_context_share: _Optional[float] = ..., features: _Optional[_Iterable[_Union[FeatureDrift, _Mapping]]] = ..., kind: _Optional[_Union[DriftKind, str]] = ..., explanation: _Optional[str] = ..., since: _Optional[_Union[Instant, _Mapping]] = ..., model: _Optional[_Union[ModelRef, _Mapping]] = ..., reference_sha256: _Optional[str] = ..., estimated_map50_change: _Optional[float] = ...) -> None: ...

class DeviceDrift(_message.Message):
    __slots__ = ("verdict", "expected_false_alarms_per_day", "cameras")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FALSE_ALARMS_PER_DAY_FIELD_NUMBER: _ClassVar[int]
    CAMERAS_FIELD_NUMBER: _ClassVar[int]
    verdict: DriftVerdict
    expected_false_alarms_per_day: float
    cameras: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, verdict: _Optional[_Union[DriftVerdict, str]] = ..., expected_false_alarms_per_day: _Optional[float] = ..., cameras: _Optional[_Iterable[str]] = ...) -> None: ...

class CameraStatus(_message.Message):
    __slots__ = ("camera", "state", "epoch", "captured_frames", "outcomes", "captured_hz", "published_hz", "age_p50_ns", "age_p99_ns", "detail", "losses", "motion")
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_FRAMES_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_HZ_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_HZ_FIELD_NUMBER: _ClassVar[int]
    AGE_P50_NS_FIELD_NUMBER: _ClassVar[int]
    AGE_P99_NS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    MOTION_FIELD_NUMBER: _ClassVar[int]
    camera: str
    state: CameraState
    epoch: int
    captured_frames: int
    outcomes: _containers.RepeatedCompositeFieldContainer[FrameCount]
    captured_hz: float
    published_hz: float
    age_p50_ns: int
    age_p99_ns: int
    detail: str
    losses: int
    motion: Motion
    def __init__(self, camera: _Optional[str] = ..., state: _Optional[_Union[CameraState, str]] = ..., epoch: _Optional[int] = ..., captured_frames: _Optional[int] = ..., outcomes: _Optional[_Iterable[_Union[FrameCount, _Mapping]]] = ..., captured_hz: _Optional[float] = ..., published_hz: _Optional[float] = ..., age_p50_ns: _Optional[int] = ..., age_p99_ns: _Optional[int] = ..., detail: _Optional[str] = ..., losses: _Optional[int] = ..., motion: _Optional[_Union[Motion, str]] = ...) -> None: ...

class PromiseFigure(_message.Message):
    __slots__ = ("name", "context", "value", "least", "most", "samples", "broken")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LEAST_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    BROKEN_FIELD_NUMBER: _ClassVar[int]
    name: str
    context: str
    value: float
    least: float
    most: float
    samples: int
    broken: bool
    def __init__(self, name: _Optional[str] = ..., context: _Optional[str] = ..., value: _Optional[float] = ..., least: _Optional[float] = ..., most: _Optional[float] = ..., samples: _Optional[int] = ..., broken: bool = ...) -> None: ...

class ProbationReport(_message.Message):
    __slots__ = ("model", "outcome", "drive_s", "needed_drive_s", "frames", "needed_frames", "figures", "detail")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DRIVE_S_FIELD_NUMBER: _ClassVar[int]
    NEEDED_DRIVE_S_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FRAMES_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    outcome: TrialOutcome
    drive_s: float
    needed_drive_s: float
    frames: int
    needed_frames: int
    figures: _containers.RepeatedCompositeFieldContainer[PromiseFigure]
    detail: str
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., outcome: _Optional[_Union[TrialOutcome, str]] = ..., drive_s: _Optional[float] = ..., needed_drive_s: _Optional[float] = ..., frames: _Optional[int] = ..., needed_frames: _Optional[int] = ..., figures: _Optional[_Iterable[_Union[PromiseFigure, _Mapping]]] = ..., detail: _Optional[str] = ...) -> None: ...

class ClassAgreement(_message.Message):
    __slots__ = ("class_name", "active_detections", "candidate_detections", "matched_detections", "f1_share", "mean_difference_score")
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    MATCHED_DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    F1_SHARE_FIELD_NUMBER: _ClassVar[int]
    MEAN_DIFFERENCE_SCORE_FIELD_NUMBER: _ClassVar[int]
    class_name: str
    active_detections: int
    candidate_detections: int
    matched_detections: int
    f1_share: float
    mean_difference_score: float
    def __init__(self, class_name: _Optional[str] = ..., active_detections: _Optional[int] = ..., candidate_detections: _Optional[int] = ..., matched_detections: _Optional[int] = ..., f1_share: _Optional[float] = ..., mean_difference_score: _Optional[float] = ...) -> None: ...

class ShadowReport(_message.Message):
    __slots__ = ("model", "outcome", "drive_s", "needed_drive_s", "compared_frames", "over_budget_frames", "busy_frames", "error_frames", "cpu_share", "most_cpu_share", "agreement", "drift", "inference_p99_ms", "resident_bytes", "detail")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DRIVE_S_FIELD_NUMBER: _ClassVar[int]
    NEEDED_DRIVE_S_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FRAMES_FIELD_NUMBER: _ClassVar[int]
    OVER_BUDGET_FRAMES_FIELD_NUMBER: _ClassVar[int]
    BUSY_FRAMES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FRAMES_FIELD_NUMBER: _ClassVar[int]
    CPU_SHARE_FIELD_NUMBER: _ClassVar[int]
    MOST_CPU_SHARE_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    DRIFT_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_P99_MS_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    outcome: TrialOutcome
    drive_s: float
    needed_drive_s: float
    compared_frames: int
    over_budget_frames: int
    busy_frames: int
    error_frames: int
    cpu_share: float
    most_cpu_share: float
    agreement: _containers.RepeatedCompositeFieldContainer[ClassAgreement]
    drift: _containers.RepeatedCompositeFieldContainer[DriftState]
    inference_p99_ms: float
    resident_bytes: int
    detail: str
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., outcome: _Optional[_Union[TrialOutcome, str]] = ..., drive_s: _Optional[float] = ..., needed_drive_s: _Optional[float] = ..., compared_frames: _Optional[int] = ..., over_budget_frames: _Optional[int] = ..., busy_frames: _Optional[int] = ..., error_frames: _Optional[int] = ..., cpu_share: _Optional[float] = ..., most_cpu_share: _Optional[float] = ..., agreement: _Optional[_Iterable[_Union[ClassAgreement, _Mapping]]] = ..., drift: _Optional[_Iterable[_Union[DriftState, _Mapping]]] = ..., inference_p99_ms: _Optional[float] = ..., resident_bytes: _Optional[int] = ..., detail: _Optional[str] = ...) -> None: ...

class ModelState(_message.Message):
    __slots__ = ("active", "active_slot", "phase", "candidate", "last_good", "release_counter", "unsigned_allowed", "bad_sha256", "received_bytes", "total_bytes", "detail", "shadow", "probation", "assigned_release_counter", "active_is_unsigned")
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_SLOT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    LAST_GOOD_FIELD_NUMBER: _ClassVar[int]
    RELEASE_COUNTER_FIELD_NUMBER: _ClassVar[int]
    UNSIGNED_ALLOWED_FIELD_NUMBER: _ClassVar[int]
    BAD_SHA256_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    PROBATION_FIELD_NUMBER: _ClassVar[int]
    ASSIGNED_RELEASE_COUNTER_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_IS_UNSIGNED_FIELD_NUMBER: _ClassVar[int]
    active: ModelRef
    active_slot: Slot
    phase: UpdatePhase
    candidate: ModelRef
    last_good: ModelRef
    release_counter: int
    unsigned_allowed: bool
    bad_sha256: _containers.RepeatedScalarFieldContainer[str]
    received_bytes: int
    total_bytes: int
    detail: str
    shadow: ShadowReport
    probation: ProbationReport
    assigned_release_counter: int
    active_is_unsigned: bool
    def __init__(self, active: _Optional[_Union[ModelRef, _Mapping]] = ..., active_slot: _Optional[_Union[Slot, str]] = ..., phase: _Optional[_Union[UpdatePhase, str]] = ..., candidate: _Optional[_Union[ModelRef, _Mapping]] = ..., last_good: _Optional[_Union[ModelRef, _Mapping]] = ..., release_counter: _Optional[int] = ..., unsigned_allowed: bool = ..., bad_sha256: _Optional[_Iterable[str]] = ..., received_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ..., detail: _Optional[str] = ..., shadow: _Optional[_Union[ShadowReport, _Mapping]] = ..., probation: _Optional[_Union[ProbationReport, _Mapping]] = ..., assigned_release_counter: _Optional[int] = ..., active_is_unsigned: bool = ...) -> None: ...

class VehicleState(_message.Message):
    __slots__ = ("observed", "speed_mps", "ignition", "latitude_deg", "longitude_deg", "ambient_light_lux", "headlights_on")
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    SPEED_MPS_FIELD_NUMBER: _ClassVar[int]
    IGNITION_FIELD_NUMBER: _ClassVar[int]
    LATITUDE_DEG_FIELD_NUMBER: _ClassVar[int]
    LONGITUDE_DEG_FIELD_NUMBER: _ClassVar[int]
    AMBIENT_LIGHT_LUX_FIELD_NUMBER: _ClassVar[int]
    HEADLIGHTS_ON_FIELD_NUMBER: _ClassVar[int]
    observed: Instant
    speed_mps: float
    ignition: Ignition
    latitude_deg: float
    longitude_deg: float
    ambient_light_lux: float
    headlights_on: bool
    def __init__(self, observed: _Optional[_Union[Instant, _Mapping]] = ..., speed_mps: _Optional[float] = ..., ignition: _Optional[_Union[Ignition, str]] = ..., latitude_deg: _Optional[float] = ..., longitude_deg: _Optional[float] = ..., ambient_light_lux: _Optional[float] = ..., headlights_on: bool = ...) -> None: ...

class SpoolStatus(_message.Message):
    __slots__ = ("samples", "used_bytes", "limit_bytes", "dropped_samples")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    DROPPED_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    samples: int
    used_bytes: int
    limit_bytes: int
    dropped_samples: int
    def __init__(self, samples: _Optional[int] = ..., used_bytes: _Optional[int] = ..., limit_bytes: _Optional[int] = ..., dropped_samples: _Optional[int] = ...) -> None: ...

class DiskWriter(_message.Message):
    __slots__ = ("name", "written_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    written_bytes: int
    def __init__(self, name: _Optional[str] = ..., written_bytes: _Optional[int] = ...) -> None: ...

class DiskStatus(_message.Message):
    __slots__ = ("written_bytes", "limit_bytes_per_day", "refused_writes", "writers")
    WRITTEN_BYTES_FIELD_NUMBER: _ClassVar[int]
    LIMIT_BYTES_PER_DAY_FIELD_NUMBER: _ClassVar[int]
    REFUSED_WRITES_FIELD_NUMBER: _ClassVar[int]
    WRITERS_FIELD_NUMBER: _ClassVar[int]
    written_bytes: int
    limit_bytes_per_day: int
    refused_writes: int
    writers: _containers.RepeatedCompositeFieldContainer[DiskWriter]
    def __init__(self, written_bytes: _Optional[int] = ..., limit_bytes_per_day: _Optional[int] = ..., refused_writes: _Optional[int] = ..., writers: _Optional[_Iterable[_Union[DiskWriter, _Mapping]]] = ...) -> None: ...

class VehicleStatus(_message.Message):
    __slots__ = ("observed", "uptime_ns", "daemon_version", "cameras", "model", "drift", "spool", "execution_providers", "resident_bytes", "metadata_expires_wall_ns", "connected_to_cloud", "state", "disk", "certificate_expires_wall_ns", "clock_alarm", "metadata_alarm", "device_drift", "driven_ns")
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    UPTIME_NS_FIELD_NUMBER: _ClassVar[int]
    DAEMON_VERSION_FIELD_NUMBER: _ClassVar[int]
    CAMERAS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DRIFT_FIELD_NUMBER: _ClassVar[int]
    SPOOL_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    METADATA_EXPIRES_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_TO_CLOUD_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DISK_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_EXPIRES_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_ALARM_FIELD_NUMBER: _ClassVar[int]
    METADATA_ALARM_FIELD_NUMBER: _ClassVar[int]
    DEVICE_DRIFT_FIELD_NUMBER: _ClassVar[int]
    DRIVEN_NS_FIELD_NUMBER: _ClassVar[int]
    observed: Instant
    uptime_ns: int
    daemon_version: str
    cameras: _containers.RepeatedCompositeFieldContainer[CameraStatus]
    model: ModelState
    drift: _containers.RepeatedCompositeFieldContainer[DriftState]
    spool: SpoolStatus
    execution_providers: _containers.RepeatedScalarFieldContainer[str]
    resident_bytes: int
    metadata_expires_wall_ns: int
    connected_to_cloud: bool
    state: VehicleState
    disk: DiskStatus
    certificate_expires_wall_ns: int
    clock_alarm: str
    metadata_alarm: str
    device_drift: DeviceDrift
    driven_ns: int
    def __init__(self, observed: _Optional[_Union[Instant, _Mapping]] = ..., uptime_ns: _Optional[int] = ..., daemon_version: _Optional[str] = ..., cameras: _Optional[_Iterable[_Union[CameraStatus, _Mapping]]] = ..., model: _Optional[_Union[ModelState, _Mapping]] = ..., drift: _Optional[_Iterable[_Union[DriftState, _Mapping]]] = ..., spool: _Optional[_Union[SpoolStatus, _Mapping]] = ..., execution_providers: _Optional[_Iterable[str]] = ..., resident_bytes: _Optional[int] = ..., metadata_expires_wall_ns: _Optional[int] = ..., connected_to_cloud: bool = ..., state: _Optional[_Union[VehicleState, _Mapping]] = ..., disk: _Optional[_Union[DiskStatus, _Mapping]] = ..., certificate_expires_wall_ns: _Optional[int] = ..., clock_alarm: _Optional[str] = ..., metadata_alarm: _Optional[str] = ..., device_drift: _Optional[_Union[DeviceDrift, _Mapping]] = ..., driven_ns: _Optional[int] = ...) -> None: ...
