"""Old and new speak to each other: unknown fields survive, unknown kinds arrive, versions are agreed on."""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from protos import handshake
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet


def later_sample() -> type[Message]:
    """The Sample of a later release: the same message with two fields more."""
    pool = descriptor_pool.DescriptorPool()
    common_file, fleet_file = descriptor_pb2.FileDescriptorProto(), descriptor_pb2.FileDescriptorProto()
    common.DESCRIPTOR.CopyToProto(common_file)
    fleet.DESCRIPTOR.CopyToProto(fleet_file)
    (sample,) = (m for m in fleet_file.message_type if m.name == "Sample")
    kinds = descriptor_pb2.FieldDescriptorProto
    for number, name, kind in (
        (50, "speed_mps", kinds.TYPE_DOUBLE),
        (51, "embedding", kinds.TYPE_BYTES),
    ):
        sample.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    pool.Add(common_file)
    pool.Add(fleet_file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("traffic_vision.v1.Sample"))


LATER_SAMPLE = later_sample()


@given(st.floats(allow_nan=False), st.binary(max_size=64), st.text(max_size=20), st.binary(max_size=64))
def test_what_an_older_side_does_not_know_survives_it(
    speed: float, embedding: bytes, identity: str, jpeg: bytes
) -> None:
    sent = LATER_SAMPLE(id=identity, jpeg=jpeg, speed_mps=speed, embedding=embedding)
    read_by_older = fleet.Sample.FromString(sent.SerializeToString())
    assert (read_by_older.id, read_by_older.jpeg) == (identity, jpeg)
    assert LATER_SAMPLE.FromString(read_by_older.SerializeToString()) == sent


@given(st.text(max_size=20), st.binary(max_size=64))
def test_what_an_older_side_does_not_send_is_empty(identity: str, jpeg: bytes) -> None:
    read_by_newer = LATER_SAMPLE.FromString(fleet.Sample(id=identity, jpeg=jpeg).SerializeToString())
    assert (read_by_newer.id, read_by_newer.jpeg) == (identity, jpeg)
    assert read_by_newer.speed_mps == 0


@given(st.integers(min_value=0, max_value=2**31 - 1))
def test_a_kind_of_a_later_release_arrives_as_its_number(number: int) -> None:
    sent = fleet.UploadSamplesResponse(sample_id="a")
    sent.outcome = number
    assert fleet.UploadSamplesResponse.FromString(sent.SerializeToString()).outcome == number


def test_an_unknown_message_on_the_control_stream_is_no_known_one() -> None:
    known = fleet.ControlResponse(update_nudge=fleet.UpdateNudge(release_counter=3)).SerializeToString()
    field_60 = bytes([0xE2, 0x03, len(known)]) + known
    read = fleet.ControlResponse.FromString(field_60)
    assert read.WhichOneof("message") is None
    assert read.SerializeToString() == field_60


versions = st.builds(
    common.ProtocolRange,
    oldest=st.integers(min_value=0, max_value=12),
    newest=st.integers(min_value=0, max_value=12),
)


def spoken(versions: common.ProtocolRange) -> set[int]:
    return set(range(versions.oldest, versions.newest + 1)) if versions.oldest >= 1 else set()


@given(versions, versions)
def test_two_sides_agree_on_the_newest_that_both_speak(
    ours: common.ProtocolRange, theirs: common.ProtocolRange
) -> None:
    both = spoken(ours) & spoken(theirs)
    assert handshake.agree(ours, theirs) == (max(both) if both else None)
    assert handshake.agree(ours, theirs) == handshake.agree(theirs, ours)


def test_this_code_speaks_with_itself_and_not_with_silence() -> None:
    assert handshake.agree(handshake.supported(), handshake.supported()) == handshake.NEWEST_PROTOCOL
    assert handshake.agree(handshake.supported(), common.ProtocolRange()) is None
