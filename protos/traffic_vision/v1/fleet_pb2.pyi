from protos.traffic_vision.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CommandOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMMAND_OUTCOME_UNSPECIFIED: _ClassVar[CommandOutcome]
    COMMAND_OUTCOME_DONE: _ClassVar[CommandOutcome]
    COMMAND_OUTCOME_REFUSED: _ClassVar[CommandOutcome]
    COMMAND_OUTCOME_FAILED: _ClassVar[CommandOutcome]
    COMMAND_OUTCOME_UNKNOWN_ACTION: _ClassVar[CommandOutcome]

class ProblemCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROBLEM_CODE_UNSPECIFIED: _ClassVar[ProblemCode]
    PROBLEM_CODE_PROTOCOL: _ClassVar[ProblemCode]
    PROBLEM_CODE_MALFORMED: _ClassVar[ProblemCode]
    PROBLEM_CODE_UNKNOWN_VEHICLE: _ClassVar[ProblemCode]
    PROBLEM_CODE_REVOKED: _ClassVar[ProblemCode]
    PROBLEM_CODE_IDENTITY_IN_USE: _ClassVar[ProblemCode]
    PROBLEM_CODE_OVERLOADED: _ClassVar[ProblemCode]
    PROBLEM_CODE_SHUTTING_DOWN: _ClassVar[ProblemCode]

class SampleReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SAMPLE_REASON_UNSPECIFIED: _ClassVar[SampleReason]
    SAMPLE_REASON_DRIFT: _ClassVar[SampleReason]
    SAMPLE_REASON_UNCERTAINTY: _ClassVar[SampleReason]
    SAMPLE_REASON_BASELINE: _ClassVar[SampleReason]
    SAMPLE_REASON_DISAGREEMENT: _ClassVar[SampleReason]
    SAMPLE_REASON_REQUESTED: _ClassVar[SampleReason]

class UploadOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UPLOAD_OUTCOME_UNSPECIFIED: _ClassVar[UploadOutcome]
    UPLOAD_OUTCOME_STORED: _ClassVar[UploadOutcome]
    UPLOAD_OUTCOME_DUPLICATE: _ClassVar[UploadOutcome]
    UPLOAD_OUTCOME_REFUSED: _ClassVar[UploadOutcome]
    UPLOAD_OUTCOME_DEFERRED: _ClassVar[UploadOutcome]

class RefusalReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REFUSAL_REASON_UNSPECIFIED: _ClassVar[RefusalReason]
    REFUSAL_REASON_TOO_LARGE: _ClassVar[RefusalReason]
    REFUSAL_REASON_DIGEST: _ClassVar[RefusalReason]
    REFUSAL_REASON_PICTURE: _ClassVar[RefusalReason]
    REFUSAL_REASON_MALFORMED: _ClassVar[RefusalReason]
    REFUSAL_REASON_ID_CONFLICT: _ClassVar[RefusalReason]
    REFUSAL_REASON_FORGOTTEN: _ClassVar[RefusalReason]
    REFUSAL_REASON_QUOTA: _ClassVar[RefusalReason]
    REFUSAL_REASON_STORE_UNAVAILABLE: _ClassVar[RefusalReason]
COMMAND_OUTCOME_UNSPECIFIED: CommandOutcome
COMMAND_OUTCOME_DONE: CommandOutcome
COMMAND_OUTCOME_REFUSED: CommandOutcome
COMMAND_OUTCOME_FAILED: CommandOutcome
COMMAND_OUTCOME_UNKNOWN_ACTION: CommandOutcome
PROBLEM_CODE_UNSPECIFIED: ProblemCode
PROBLEM_CODE_PROTOCOL: ProblemCode
PROBLEM_CODE_MALFORMED: ProblemCode
PROBLEM_CODE_UNKNOWN_VEHICLE: ProblemCode
PROBLEM_CODE_REVOKED: ProblemCode
PROBLEM_CODE_IDENTITY_IN_USE: ProblemCode
PROBLEM_CODE_OVERLOADED: ProblemCode
PROBLEM_CODE_SHUTTING_DOWN: ProblemCode
SAMPLE_REASON_UNSPECIFIED: SampleReason
SAMPLE_REASON_DRIFT: SampleReason
SAMPLE_REASON_UNCERTAINTY: SampleReason
SAMPLE_REASON_BASELINE: SampleReason
SAMPLE_REASON_DISAGREEMENT: SampleReason
SAMPLE_REASON_REQUESTED: SampleReason
UPLOAD_OUTCOME_UNSPECIFIED: UploadOutcome
UPLOAD_OUTCOME_STORED: UploadOutcome
UPLOAD_OUTCOME_DUPLICATE: UploadOutcome
UPLOAD_OUTCOME_REFUSED: UploadOutcome
UPLOAD_OUTCOME_DEFERRED: UploadOutcome
REFUSAL_REASON_UNSPECIFIED: RefusalReason
REFUSAL_REASON_TOO_LARGE: RefusalReason
REFUSAL_REASON_DIGEST: RefusalReason
REFUSAL_REASON_PICTURE: RefusalReason
REFUSAL_REASON_MALFORMED: RefusalReason
REFUSAL_REASON_ID_CONFLICT: RefusalReason
REFUSAL_REASON_FORGOTTEN: RefusalReason
REFUSAL_REASON_QUOTA: RefusalReason
REFUSAL_REASON_STORE_UNAVAILABLE: RefusalReason

class ControlRequest(_message.Message):
    __slots__ = ("hello", "heartbeat", "drift_event", "model_state", "command_result", "session_token_kept")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    DRIFT_EVENT_FIELD_NUMBER: _ClassVar[int]
    MODEL_STATE_FIELD_NUMBER: _ClassVar[int]
    COMMAND_RESULT_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_KEPT_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    drift_event: DriftEvent
    model_state: _common_pb2.ModelState
    command_result: CommandResult
    session_token_kept: SessionTokenKept
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., drift_event: _Optional[_Union[DriftEvent, _Mapping]] = ..., model_state: _Optional[_Union[_common_pb2.ModelState, _Mapping]] = ..., command_result: _Optional[_Union[CommandResult, _Mapping]] = ..., session_token_kept: _Optional[_Union[SessionTokenKept, _Mapping]] = ...) -> None: ...

class ControlResponse(_message.Message):
    __slots__ = ("welcome", "update_nudge", "command", "problem", "drift_event_receipt", "assignment")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_NUDGE_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    DRIFT_EVENT_RECEIPT_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    update_nudge: UpdateNudge
    command: Command
    problem: Problem
    drift_event_receipt: DriftEventReceipt
    assignment: Assignment
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., update_nudge: _Optional[_Union[UpdateNudge, _Mapping]] = ..., command: _Optional[_Union[Command, _Mapping]] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ..., drift_event_receipt: _Optional[_Union[DriftEventReceipt, _Mapping]] = ..., assignment: _Optional[_Union[Assignment, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "daemon_version", "hardware_ids", "instance_id", "status", "fleet", "session_token")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    DAEMON_VERSION_FIELD_NUMBER: _ClassVar[int]
    HARDWARE_IDS_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FLEET_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    protocol: _common_pb2.ProtocolRange
    daemon_version: str
    hardware_ids: _containers.RepeatedScalarFieldContainer[str]
    instance_id: str
    status: _common_pb2.VehicleStatus
    fleet: str
    session_token: bytes
    def __init__(self, protocol: _Optional[_Union[_common_pb2.ProtocolRange, _Mapping]] = ..., daemon_version: _Optional[str] = ..., hardware_ids: _Optional[_Iterable[str]] = ..., instance_id: _Optional[str] = ..., status: _Optional[_Union[_common_pb2.VehicleStatus, _Mapping]] = ..., fleet: _Optional[str] = ..., session_token: _Optional[bytes] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol_version", "protocol", "server_version", "server_wall_ns", "heartbeat_interval_ms", "sample_limit_bytes", "samples_in_flight_limit", "assigns_releases", "session_token")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVER_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_IN_FLIGHT_LIMIT_FIELD_NUMBER: _ClassVar[int]
    ASSIGNS_RELEASES_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    protocol: _common_pb2.ProtocolRange
    server_version: str
    server_wall_ns: int
    heartbeat_interval_ms: int
    sample_limit_bytes: int
    samples_in_flight_limit: int
    assigns_releases: bool
    session_token: bytes
    def __init__(self, protocol_version: _Optional[int] = ..., protocol: _Optional[_Union[_common_pb2.ProtocolRange, _Mapping]] = ..., server_version: _Optional[str] = ..., server_wall_ns: _Optional[int] = ..., heartbeat_interval_ms: _Optional[int] = ..., sample_limit_bytes: _Optional[int] = ..., samples_in_flight_limit: _Optional[int] = ..., assigns_releases: bool = ..., session_token: _Optional[bytes] = ...) -> None: ...

class SessionTokenKept(_message.Message):
    __slots__ = ("token_sha256",)
    TOKEN_SHA256_FIELD_NUMBER: _ClassVar[int]
    token_sha256: bytes
    def __init__(self, token_sha256: _Optional[bytes] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.VehicleStatus
    def __init__(self, status: _Optional[_Union[_common_pb2.VehicleStatus, _Mapping]] = ...) -> None: ...

class DriftEvent(_message.Message):
    __slots__ = ("id", "state", "previous")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: _common_pb2.DriftState
    previous: _common_pb2.DriftVerdict
    def __init__(self, id: _Optional[str] = ..., state: _Optional[_Union[_common_pb2.DriftState, _Mapping]] = ..., previous: _Optional[_Union[_common_pb2.DriftVerdict, str]] = ...) -> None: ...

class DriftEventReceipt(_message.Message):
    __slots__ = ("drift_event_id",)
    DRIFT_EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    drift_event_id: str
    def __init__(self, drift_event_id: _Optional[str] = ...) -> None: ...

class UpdateNudge(_message.Message):
    __slots__ = ("release_counter",)
    RELEASE_COUNTER_FIELD_NUMBER: _ClassVar[int]
    release_counter: int
    def __init__(self, release_counter: _Optional[int] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("release_counter", "rollout_id", "pinned", "withdrawn_release_counters")
    RELEASE_COUNTER_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_RELEASE_COUNTERS_FIELD_NUMBER: _ClassVar[int]
    release_counter: int
    rollout_id: str
    pinned: bool
    withdrawn_release_counters: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, release_counter: _Optional[int] = ..., rollout_id: _Optional[str] = ..., pinned: bool = ..., withdrawn_release_counters: _Optional[_Iterable[int]] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("id", "sample_request", "upload_budget", "status_request")
    ID_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_BUDGET_FIELD_NUMBER: _ClassVar[int]
    STATUS_REQUEST_FIELD_NUMBER: _ClassVar[int]
    id: str
    sample_request: SampleRequest
    upload_budget: UploadBudget
    status_request: StatusRequest
    def __init__(self, id: _Optional[str] = ..., sample_request: _Optional[_Union[SampleRequest, _Mapping]] = ..., upload_budget: _Optional[_Union[UploadBudget, _Mapping]] = ..., status_request: _Optional[_Union[StatusRequest, _Mapping]] = ...) -> None: ...

class SampleRequest(_message.Message):
    __slots__ = ("camera", "samples", "interval_ms")
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    camera: str
    samples: int
    interval_ms: int
    def __init__(self, camera: _Optional[str] = ..., samples: _Optional[int] = ..., interval_ms: _Optional[int] = ...) -> None: ...

class UploadBudget(_message.Message):
    __slots__ = ("bytes_per_day",)
    BYTES_PER_DAY_FIELD_NUMBER: _ClassVar[int]
    bytes_per_day: int
    def __init__(self, bytes_per_day: _Optional[int] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CommandResult(_message.Message):
    __slots__ = ("command_id", "outcome", "detail")
    COMMAND_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    command_id: str
    outcome: CommandOutcome
    detail: str
    def __init__(self, command_id: _Optional[str] = ..., outcome: _Optional[_Union[CommandOutcome, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("code", "detail", "retry_after_ms", "protocol")
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    code: ProblemCode
    detail: str
    retry_after_ms: int
    protocol: _common_pb2.ProtocolRange
    def __init__(self, code: _Optional[_Union[ProblemCode, str]] = ..., detail: _Optional[str] = ..., retry_after_ms: _Optional[int] = ..., protocol: _Optional[_Union[_common_pb2.ProtocolRange, _Mapping]] = ...) -> None: ...

class SampleSource(_message.Message):
    __slots__ = ("id", "drive_id", "picture", "drive_ns")
    ID_FIELD_NUMBER: _ClassVar[int]
    DRIVE_ID_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    DRIVE_NS_FIELD_NUMBER: _ClassVar[int]
    id: str
    drive_id: str
    picture: str
    drive_ns: int
    def __init__(self, id: _Optional[str] = ..., drive_id: _Optional[str] = ..., picture: _Optional[str] = ..., drive_ns: _Optional[int] = ...) -> None: ...

class Sample(_message.Message):
    __slots__ = ("id", "frame", "source", "jpeg", "jpeg_sha256", "detections", "features", "drift", "reasons", "priority", "drift_event_id", "vehicle")
    ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    JPEG_FIELD_NUMBER: _ClassVar[int]
    JPEG_SHA256_FIELD_NUMBER: _ClassVar[int]
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    DRIFT_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    DRIFT_EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    VEHICLE_FIELD_NUMBER: _ClassVar[int]
    id: str
    frame: _common_pb2.FrameRef
    source: SampleSource
    jpeg: bytes
    jpeg_sha256: str
    detections: _common_pb2.FrameDetections
    features: _common_pb2.Features
    drift: _common_pb2.DriftState
    reasons: _containers.RepeatedScalarFieldContainer[SampleReason]
    priority: float
    drift_event_id: str
    vehicle: _common_pb2.VehicleState
    def __init__(self, id: _Optional[str] = ..., frame: _Optional[_Union[_common_pb2.FrameRef, _Mapping]] = ..., source: _Optional[_Union[SampleSource, _Mapping]] = ..., jpeg: _Optional[bytes] = ..., jpeg_sha256: _Optional[str] = ..., detections: _Optional[_Union[_common_pb2.FrameDetections, _Mapping]] = ..., features: _Optional[_Union[_common_pb2.Features, _Mapping]] = ..., drift: _Optional[_Union[_common_pb2.DriftState, _Mapping]] = ..., reasons: _Optional[_Iterable[_Union[SampleReason, str]]] = ..., priority: _Optional[float] = ..., drift_event_id: _Optional[str] = ..., vehicle: _Optional[_Union[_common_pb2.VehicleState, _Mapping]] = ...) -> None: ...

class UploadSamplesRequest(_message.Message):
    __slots__ = ("sample",)
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    sample: Sample
    def __init__(self, sample: _Optional[_Union[Sample, _Mapping]] = ...) -> None: ...

class UploadSamplesResponse(_message.Message):
    __slots__ = ("sample_id", "outcome", "reason", "detail", "retry_after_ms")
    SAMPLE_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    sample_id: str
    outcome: UploadOutcome
    reason: RefusalReason
    detail: str
    retry_after_ms: int
    def __init__(self, sample_id: _Optional[str] = ..., outcome: _Optional[_Union[UploadOutcome, str]] = ..., reason: _Optional[_Union[RefusalReason, str]] = ..., detail: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class FeatureSeries(_message.Message):
    __slots__ = ("id", "camera", "source", "names", "drive_ns", "values", "model", "started", "context")
    ID_FIELD_NUMBER: _ClassVar[int]
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    DRIVE_NS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    id: str
    camera: str
    source: SampleSource
    names: _containers.RepeatedScalarFieldContainer[str]
    drive_ns: _containers.RepeatedScalarFieldContainer[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    model: _common_pb2.ModelRef
    started: _common_pb2.Instant
    context: str
    def __init__(self, id: _Optional[str] = ..., camera: _Optional[str] = ..., source: _Optional[_Union[SampleSource, _Mapping]] = ..., names: _Optional[_Iterable[str]] = ..., drive_ns: _Optional[_Iterable[int]] = ..., values: _Optional[_Iterable[float]] = ..., model: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ..., started: _Optional[_Union[_common_pb2.Instant, _Mapping]] = ..., context: _Optional[str] = ...) -> None: ...

class UploadFeaturesRequest(_message.Message):
    __slots__ = ("series",)
    SERIES_FIELD_NUMBER: _ClassVar[int]
    series: FeatureSeries
    def __init__(self, series: _Optional[_Union[FeatureSeries, _Mapping]] = ...) -> None: ...

class UploadFeaturesResponse(_message.Message):
    __slots__ = ("series_id", "outcome", "reason", "detail", "retry_after_ms")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    outcome: UploadOutcome
    reason: RefusalReason
    detail: str
    retry_after_ms: int
    def __init__(self, series_id: _Optional[str] = ..., outcome: _Optional[_Union[UploadOutcome, str]] = ..., reason: _Optional[_Union[RefusalReason, str]] = ..., detail: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class FetchMetadataRequest(_message.Message):
    __slots__ = ("role", "version")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    role: str
    version: int
    def __init__(self, role: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class FetchMetadataResponse(_message.Message):
    __slots__ = ("data", "offset_bytes", "total_bytes")
    DATA_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    offset_bytes: int
    total_bytes: int
    def __init__(self, data: _Optional[bytes] = ..., offset_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ...) -> None: ...

class FetchTargetRequest(_message.Message):
    __slots__ = ("path", "sha256", "offset_bytes", "chunk_limit_bytes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHUNK_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    sha256: str
    offset_bytes: int
    chunk_limit_bytes: int
    def __init__(self, path: _Optional[str] = ..., sha256: _Optional[str] = ..., offset_bytes: _Optional[int] = ..., chunk_limit_bytes: _Optional[int] = ...) -> None: ...

class FetchTargetResponse(_message.Message):
    __slots__ = ("data", "offset_bytes", "total_bytes")
    DATA_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    offset_bytes: int
    total_bytes: int
    def __init__(self, data: _Optional[bytes] = ..., offset_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ...) -> None: ...
