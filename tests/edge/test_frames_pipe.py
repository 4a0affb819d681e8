"""What comes through the pipes of capturing processes: their framing, and whether their reader keeps up."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.frames import gdp, gstreamer
from edge.frames.backlog import BEHIND_S, Backlog
from edge.frames.child import reason
from edge.frames.records import HEADER_BYTES, Header, Kind, RecordError, pack, unpack
from edge.frames.sources import LiveOptions, SourceError


@given(st.integers(1, 16384), st.integers(1, 16384), st.integers(0, 2**62))
def test_a_record_reads_as_it_was_written(width: int, height: int, time_ns: int) -> None:
    header = Header(Kind.PICTURE, width, height, time_ns, width * height * 3)
    assert unpack(pack(header)) == header


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(RecordError):
        unpack(data)


@pytest.mark.parametrize("width, height, length", [(10, 10, 299), (0, 10, 0), (1 << 20, 1, 3 << 20)])
def test_a_picture_whose_size_is_not_its_pixels_is_refused(width: int, height: int, length: int) -> None:
    with pytest.raises(RecordError):
        unpack(pack(Header(Kind.PICTURE, width, height, 0, length)))


@given(st.binary(min_size=gdp.HEADER_BYTES, max_size=gdp.HEADER_BYTES))
def test_a_gdp_header_is_read_or_refused(data: bytes) -> None:
    try:
        payload = gdp.read_header(data)
    except gdp.GdpError:
        return
    assert data[0] == 1 and payload.length <= (16384 * 3 + 3) * 16384


def test_a_gdp_header_and_caps() -> None:
    head = struct.pack(">BBBxHI", 1, 0, 0, gdp.CAPS, 20).ljust(gdp.HEADER_BYTES, b"\0")
    assert gdp.read_header(head) == gdp.Payload(gdp.CAPS, 20)
    caps = b"video/x-raw, format=(string)BGR, width=(int)321, height=(int)240, framerate=(fraction)30/1\0"
    shape = gdp.read_caps(caps)
    assert (shape.width, shape.height, shape.stride) == (321, 240, 964)
    for wrong in (b"audio/x-raw", caps.replace(b"BGR", b"I420"), caps.replace(b"321", b"99999")):
        with pytest.raises(gdp.GdpError):
            gdp.read_caps(wrong)


def test_a_reader_that_waits_keeps_up_whatever_the_cameras_clock_says() -> None:
    backlog = Backlog(0.0)
    assert not any(backlog.read(n * 0.033, n * 0.033 + 0.02) for n in range(1, 1000))


def test_a_reader_that_never_waits_is_behind_until_it_does() -> None:
    backlog = Backlog(0.0)
    late = [backlog.read(n * 0.05, n * 0.05 + 0.0001) for n in range(1, 41)]
    assert late.index(True) == pytest.approx(BEHIND_S / 0.05, abs=1)
    assert all(late[late.index(True) :])
    assert not backlog.read(2.1, 2.11)
    assert not backlog.read(2.12, 2.1201)


def test_the_line_that_names_the_error_is_the_reason() -> None:
    assert reason(["WARNING: slow", "ERROR: no camera", "Freeing pipeline ..."]) == "ERROR: no camera"
    assert reason(["one", "two"]) == "two"


def test_the_elements_of_a_pipeline_are_told_from_caps_pads_and_properties() -> None:
    words = [
        "nvarguscamerasrc",
        "sensor-id=0",
        "!",
        "video/x-raw(memory:NVMM),width=1",
        "!",
        "nvvidconv",
        "!",
        "c.",
    ]
    assert gstreamer.elements(words) == ["nvarguscamerasrc", "nvvidconv"]


def test_without_gstreamer_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gstreamer.shutil, "which", lambda tool: None)
    with pytest.raises(SourceError, match=r"gst-launch-1\.0, and it is not installed.*gstreamer1\.0-tools"):
        gstreamer.GstreamerCamera("videotestsrc", LiveOptions())


@pytest.mark.parametrize(
    "pipeline, told", [("", "is empty"), ("videotestsrc pattern='ball", "can't be read")]
)
def test_a_pipeline_that_cannot_be_read_is_refused(pipeline: str, told: str) -> None:
    with pytest.raises(SourceError, match=told):
        gstreamer.GstreamerCamera(pipeline, LiveOptions())
