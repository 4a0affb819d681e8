from protos.traffic_vision.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReloadOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RELOAD_OUTCOME_UNSPECIFIED: _ClassVar[ReloadOutcome]
    RELOAD_OUTCOME_SWAPPED: _ClassVar[ReloadOutcome]
    RELOAD_OUTCOME_ALREADY_ACTIVE: _ClassVar[ReloadOutcome]
    RELOAD_OUTCOME_NOTHING_THERE: _ClassVar[ReloadOutcome]
    RELOAD_OUTCOME_REFUSED: _ClassVar[ReloadOutcome]
    RELOAD_OUTCOME_BUSY: _ClassVar[ReloadOutcome]
RELOAD_OUTCOME_UNSPECIFIED: ReloadOutcome
RELOAD_OUTCOME_SWAPPED: ReloadOutcome
RELOAD_OUTCOME_ALREADY_ACTIVE: ReloadOutcome
RELOAD_OUTCOME_NOTHING_THERE: ReloadOutcome
RELOAD_OUTCOME_REFUSED: ReloadOutcome
RELOAD_OUTCOME_BUSY: ReloadOutcome

class StreamDetectionsRequest(_message.Message):
    __slots__ = ("protocol", "cameras", "class_names", "min_score", "max_rate_hz", "queue_limit")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CAMERAS_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAMES_FIELD_NUMBER: _ClassVar[int]
    MIN_SCORE_FIELD_NUMBER: _ClassVar[int]
    MAX_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    protocol: _common_pb2.ProtocolRange
    cameras: _containers.RepeatedScalarFieldContainer[str]
    class_names: _containers.RepeatedScalarFieldContainer[str]
    min_score: float
    max_rate_hz: float
    queue_limit: int
    def __init__(self, protocol: _Optional[_Union[_common_pb2.ProtocolRange, _Mapping]] = ..., cameras: _Optional[_Iterable[str]] = ..., class_names: _Optional[_Iterable[str]] = ..., min_score: _Optional[float] = ..., max_rate_hz: _Optional[float] = ..., queue_limit: _Optional[int] = ...) -> None: ...

class StreamDetectionsResponse(_message.Message):
    __slots__ = ("sequence", "dropped_messages", "detections")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DROPPED_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    dropped_messages: int
    detections: _common_pb2.FrameDetections
    def __init__(self, sequence: _Optional[int] = ..., dropped_messages: _Optional[int] = ..., detections: _Optional[_Union[_common_pb2.FrameDetections, _Mapping]] = ...) -> None: ...

class StreamDriftRequest(_message.Message):
    __slots__ = ("protocol", "cameras", "changes_only")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CAMERAS_FIELD_NUMBER: _ClassVar[int]
    CHANGES_ONLY_FIELD_NUMBER: _ClassVar[int]
    protocol: _common_pb2.ProtocolRange
    cameras: _containers.RepeatedScalarFieldContainer[str]
    changes_only: bool
    def __init__(self, protocol: _Optional[_Union[_common_pb2.ProtocolRange, _Mapping]] = ..., cameras: _Optional[_Iterable[str]] = ..., changes_only: bool = ...) -> None: ...

class StreamDriftResponse(_message.Message):
    __slots__ = ("sequence", "dropped_messages", "state")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DROPPED_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    dropped_messages: int
    state: _common_pb2.DriftState
    def __init__(self, sequence: _Optional[int] = ..., dropped_messages: _Optional[int] = ..., state: _Optional[_Union[_common_pb2.DriftState, _Mapping]] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("protocol", "status", "class_names")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAMES_FIELD_NUMBER: _ClassVar[int]
    protocol: _common_pb2.ProtocolRange
    status: _common_pb2.VehicleStatus
    class_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, protocol: _Optional[_Union[_common_pb2.ProtocolRange, _Mapping]] = ..., status: _Optional[_Union[_common_pb2.VehicleStatus, _Mapping]] = ..., class_names: _Optional[_Iterable[str]] = ...) -> None: ...

class ReloadModelRequest(_message.Message):
    __slots__ = ("slot", "expected_sha256")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_SHA256_FIELD_NUMBER: _ClassVar[int]
    slot: _common_pb2.Slot
    expected_sha256: str
    def __init__(self, slot: _Optional[_Union[_common_pb2.Slot, str]] = ..., expected_sha256: _Optional[str] = ...) -> None: ...

class ReloadModelResponse(_message.Message):
    __slots__ = ("outcome", "active", "detail")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    outcome: ReloadOutcome
    active: _common_pb2.ModelRef
    detail: str
    def __init__(self, outcome: _Optional[_Union[ReloadOutcome, str]] = ..., active: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ..., detail: _Optional[str] = ...) -> None: ...

class ReportVehicleRequest(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: _common_pb2.VehicleState
    def __init__(self, state: _Optional[_Union[_common_pb2.VehicleState, _Mapping]] = ...) -> None: ...

class ReportVehicleResponse(_message.Message):
    __slots__ = ("valid_ms",)
    VALID_MS_FIELD_NUMBER: _ClassVar[int]
    valid_ms: int
    def __init__(self, valid_ms: _Optional[int] = ...) -> None: ...
