from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class EnrolmentTicket(_message.Message):
    __slots__ = ("vehicle", "enrol_address", "authority_der", "token", "expires_wall_ns", "fleet", "release_floor", "issued_wall_ns", "root_version", "root_sha256")
    VEHICLE_FIELD_NUMBER: _ClassVar[int]
    ENROL_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_DER_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    FLEET_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FLOOR_FIELD_NUMBER: _ClassVar[int]
    ISSUED_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    ROOT_VERSION_FIELD_NUMBER: _ClassVar[int]
    ROOT_SHA256_FIELD_NUMBER: _ClassVar[int]
    vehicle: str
    enrol_address: str
    authority_der: bytes
    token: str
    expires_wall_ns: int
    fleet: str
    release_floor: int
    issued_wall_ns: int
    root_version: int
    root_sha256: bytes
    def __init__(self, vehicle: _Optional[str] = ..., enrol_address: _Optional[str] = ..., authority_der: _Optional[bytes] = ..., token: _Optional[str] = ..., expires_wall_ns: _Optional[int] = ..., fleet: _Optional[str] = ..., release_floor: _Optional[int] = ..., issued_wall_ns: _Optional[int] = ..., root_version: _Optional[int] = ..., root_sha256: _Optional[bytes] = ...) -> None: ...

class EnrolRequest(_message.Message):
    __slots__ = ("token", "csr_der", "root_version")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CSR_DER_FIELD_NUMBER: _ClassVar[int]
    ROOT_VERSION_FIELD_NUMBER: _ClassVar[int]
    token: str
    csr_der: bytes
    root_version: int
    def __init__(self, token: _Optional[str] = ..., csr_der: _Optional[bytes] = ..., root_version: _Optional[int] = ...) -> None: ...

class EnrolResponse(_message.Message):
    __slots__ = ("certificate_der", "root_json", "fleet_address", "vehicle")
    CERTIFICATE_DER_FIELD_NUMBER: _ClassVar[int]
    ROOT_JSON_FIELD_NUMBER: _ClassVar[int]
    FLEET_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    VEHICLE_FIELD_NUMBER: _ClassVar[int]
    certificate_der: bytes
    root_json: bytes
    fleet_address: str
    vehicle: str
    def __init__(self, certificate_der: _Optional[bytes] = ..., root_json: _Optional[bytes] = ..., fleet_address: _Optional[str] = ..., vehicle: _Optional[str] = ...) -> None: ...

class BeginRenewalRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BeginRenewalResponse(_message.Message):
    __slots__ = ("nonce", "server_wall_ns")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    SERVER_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    server_wall_ns: int
    def __init__(self, nonce: _Optional[bytes] = ..., server_wall_ns: _Optional[int] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("certificate_der", "nonce", "csr_der", "signature", "instance_id")
    CERTIFICATE_DER_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    CSR_DER_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    certificate_der: bytes
    nonce: bytes
    csr_der: bytes
    signature: bytes
    instance_id: str
    def __init__(self, certificate_der: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., csr_der: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., instance_id: _Optional[str] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("certificate_der",)
    CERTIFICATE_DER_FIELD_NUMBER: _ClassVar[int]
    certificate_der: bytes
    def __init__(self, certificate_der: _Optional[bytes] = ...) -> None: ...
