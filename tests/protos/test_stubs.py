"""The committed stubs are those of the committed sources, and the sources keep their own rules."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto

from protos.traffic_vision.v1 import common_pb2, enrolment_pb2, fleet_pb2, perception_pb2

FOLDER = Path(common_pb2.__file__).parent
FILES: tuple[FileDescriptor, ...] = (
    common_pb2.DESCRIPTOR,
    enrolment_pb2.DESCRIPTOR,
    fleet_pb2.DESCRIPTOR,
    perception_pb2.DESCRIPTOR,
)
OWN_EXTENSIONS = (1000, 2000)


def messages() -> list[Descriptor]:
    return [message for file in FILES for message in file.message_types_by_name.values()]


def fields() -> list[FieldDescriptor]:
    return [field for message in messages() for field in message.fields]


def test_the_stubs_are_fresh() -> None:
    lines = [line.split("  ", 1) for line in (FOLDER / "stubs.sha256").read_text().splitlines()]
    recorded = {name: digest for digest, name in lines}
    present = {file.name: file for file in FOLDER.iterdir() if file.suffix == ".proto" or "_pb2" in file.name}
    assert recorded.keys() == present.keys()
    digests = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in present.items()}
    stale = [name for name, digest in digests.items() if digest != recorded[name]]
    assert stale == [], "make them anew: make protos"


def test_every_source_has_a_stub_in_the_package() -> None:
    assert {file.name for file in FILES} == {
        f"protos/traffic_vision/v1/{source.name}" for source in FOLDER.glob("*.proto")
    }
    assert {file.package for file in FILES} == {"traffic_vision.v1"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: Path(file.name).stem)
def test_enums_begin_with_unspecified_and_carry_their_name(file: FileDescriptor) -> None:
    for enum in file.enum_types_by_name.values():
        prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
        assert enum.values_by_number[0].name == prefix + "UNSPECIFIED"
        assert all(value.name.startswith(prefix) for value in enum.values), enum.name
        numbers = [value.number for value in enum.values]
        assert numbers == list(range(len(numbers))), enum.name


@pytest.mark.parametrize("message", messages(), ids=lambda message: message.name)
def test_each_message_leaves_room_for_extensions_of_ones_own(message: Descriptor) -> None:
    proto = DescriptorProto()
    message.CopyToProto(proto)
    assert OWN_EXTENSIONS in [(span.start, span.end) for span in proto.reserved_range]


UNITS = (
    *("_ns", "_ms", "_s", "_px", "_bytes", "_hz", "_mps", "_deg", "_lux"),
    *("_d", "_share", "_sigma", "_per_day", "_change"),
)
# Pure numbers: a count of what the name says, an ordinal, a probability, or with the unit in the comment.
UNITLESS = {
    *(
        "class_index",
        "dropped_messages",
        "dropped_samples",
        "losses",
        "refused_writes",
        "epoch",
        "frames",
        "captured_frames",
    ),
    *(
        "newest",
        "oldest",
        "p_value",
        "priority",
        "protocol_version",
        "queue_limit",
        "release_counter",
        "root_version",
    ),
    "release_floor",
    *("assigned_release_counter", "withdrawn_release_counters"),
    *("samples", "samples_in_flight_limit", "score", "min_score", "sequence", "values", "version"),
    *("needed_frames", "compared_frames", "over_budget_frames", "busy_frames", "error_frames"),
    *("active_detections", "candidate_detections", "matched_detections", "mean_difference_score"),
    *("value", "least", "most"),  # of a promise, whose unit is in its name
}


def test_numbers_say_their_unit() -> None:
    numeric = [
        field
        for field in fields()
        if field.cpp_type
        not in (
            FieldDescriptor.CPPTYPE_STRING,
            FieldDescriptor.CPPTYPE_MESSAGE,
            FieldDescriptor.CPPTYPE_ENUM,
            FieldDescriptor.CPPTYPE_BOOL,
        )
    ]
    unsaid = [
        field.full_name for field in numeric if field.name not in UNITLESS and not field.name.endswith(UNITS)
    ]
    assert numeric
    assert unsaid == []


def test_each_rpc_has_messages_of_its_own() -> None:
    """So that any of them can grow without the others."""
    seen: set[str] = set()
    for file in FILES:
        for service in file.services_by_name.values():
            for method in service.methods:
                assert method.input_type.name == f"{method.name}Request"
                assert method.output_type.name == f"{method.name}Response"
                seen |= {method.name}
    assert {"Control", "UploadSamples", "FetchMetadata", "FetchTarget", "Enrol", "Renew"} <= seen
    assert {"StreamDetections", "StreamDrift", "GetStatus", "ReloadModel", "ReportVehicle"} <= seen
