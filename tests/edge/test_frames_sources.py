from __future__ import annotations

import os
from importlib.metadata import EntryPoint
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import TrafficVisionError
from edge.frames import sources
from edge.frames.frame import BrokenFrame, Frame
from edge.frames.picture_folder import natural_key
from edge.frames.sources import SourceError, open_source
from tests.recordings import HEIGHT, RATE_HZ, WIDTH, damage_packets, picture, write_pictures, write_video


def taken(url: str, **options: float) -> list[Frame | BrokenFrame]:
    with open_source(url, **options) as source:
        return list(source)


def broken(frames: list[Frame | BrokenFrame]) -> list[int]:
    return [frame.sequence for frame in frames if isinstance(frame, BrokenFrame)]


def test_a_video_yields_every_frame_with_the_containers_times(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.mp4", frames=20, rate_hz=RATE_HZ)
    with open_source(str(path)) as source:
        assert (source.name, source.rate_hz, source.frame_count) == ("drive.mp4", RATE_HZ, 20)
        frames = list(source)
    assert [frame.sequence for frame in frames] == list(range(20))
    assert [frame.captured_ns for frame in frames] == [index * 100_000_000 for index in range(20)]
    for frame in frames:
        assert isinstance(frame, Frame)
        assert (frame.image.shape, frame.image.dtype, frame.epoch) == ((HEIGHT, WIDTH, 3), np.uint8, 0)
        difference = np.abs(frame.image.astype(int) - picture(frame.sequence)).mean()
        assert difference < 12, f"frame {frame.sequence} is not the picture that was written"


@pytest.mark.parametrize("indices", [(1,), (7,), (18,), (5, 6, 7, 12)])
def test_a_damaged_packet_costs_its_own_frame_alone(tmp_path: Path, indices: tuple[int, ...]) -> None:
    path = write_video(tmp_path / "drive.mp4", fourcc="mjpg")
    whole = taken(str(path))
    damage_packets(path, *indices)
    frames = taken(str(path))
    assert broken(frames) == list(indices)
    assert [frame.sequence for frame in frames] == list(range(20))
    assert [frame.captured_ns for frame in frames] == [frame.captured_ns for frame in whole]


def test_frames_that_the_decoder_passes_over_in_silence_are_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.mp4", fourcc="mp4v")
    damage_packets(path, 8, keep=4)
    frames = taken(str(path))
    assert 8 in broken(frames)
    assert [frame.captured_ns for frame in frames] == [index * 100_000_000 for index in range(20)]


def test_a_damaged_first_frame_is_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.avi", fourcc="MJPG")
    damage_packets(path, 0)
    frames = taken(str(path))
    assert broken(frames) == [0]
    assert frames[1].captured_ns == 100_000_000


def test_a_recording_that_breaks_off_says_so_in_its_last_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.avi", frames=40, fourcc="MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames = taken(str(path))
    assert 10 < len(frames) < 30
    last = frames[-1]
    assert isinstance(last, BrokenFrame)
    assert "declares 40 frames" in last.reason
    assert broken(frames)[-1] == len(frames) - 1


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"  # FFmpeg would play it as a terminal's recording
    text.write_text("hello\n" * 100)
    fake = tmp_path / "fake.mp4"
    fake.write_bytes(b"\0" * 5000)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    cut = write_video(tmp_path / "cut.mp4")
    cut.write_bytes(cut.read_bytes()[:2000])
    for path in (text, fake, empty, cut):
        with pytest.raises(SourceError, match=path.name):
            open_source(str(path))
    os.mkfifo(tmp_path / "pipe.mp4")  # nobody writes into it
    with pytest.raises(SourceError, match="pipe"):
        open_source(str(tmp_path / "pipe.mp4"))


def test_a_video_of_which_no_frame_decodes_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.mp4", frames=3)
    damage_packets(path, 0, 1, 2)
    with pytest.raises(SourceError, match="none of its frames decodes"):
        open_source(str(path))


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".bmp", ".webp", ".JPG"])
def test_pictures_come_in_natural_order_at_the_rate_that_was_asked_for(tmp_path: Path, suffix: str) -> None:
    write_pictures(tmp_path / "pictures", count=12, suffix=suffix)
    frames = taken(str(tmp_path / "pictures"), still_rate_hz=4.0)
    assert [frame.name for frame in frames] == [f"frame{index}{suffix}" for index in range(12)]
    assert [frame.captured_ns for frame in frames] == [index * 250_000_000 for index in range(12)]


def test_one_picture_is_a_drive_of_one_frame(tmp_path: Path) -> None:
    write_pictures(tmp_path, count=1)
    assert [frame.name for frame in taken(str(tmp_path / "frame0.jpg"))] == ["frame0.jpg"]


def test_a_damaged_picture_in_the_middle_is_counted_and_not_the_end(tmp_path: Path) -> None:
    write_pictures(tmp_path, count=5)
    (tmp_path / "frame1.jpg").write_bytes(b"no picture")
    (tmp_path / "frame2.jpg").write_bytes(b"")
    whole = (tmp_path / "frame3.jpg").read_bytes()
    (tmp_path / "frame3.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "frame4.jpg").unlink()
    os.mkfifo(tmp_path / "frame4.jpg")  # nobody writes into it
    (tmp_path / "frame5.jpg").mkdir()
    write_pictures(tmp_path / "more", count=1)
    (tmp_path / "more" / "frame0.jpg").rename(tmp_path / "frame6.jpg")
    frames = taken(str(tmp_path))
    assert broken(frames) == [1, 2, 3, 4, 5]
    assert [frame.sequence for frame in frames] == [0, 1, 2, 3, 4, 5, 6]
    assert isinstance(frames[6], Frame)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_picture_that_may_not_be_read_is_counted(tmp_path: Path) -> None:
    write_pictures(tmp_path, count=2)
    (tmp_path / "frame0.jpg").chmod(0)
    assert broken(taken(str(tmp_path))) == [0]


def test_a_change_of_shape_raises_the_epoch(tmp_path: Path) -> None:
    for index, (height, width) in enumerate([(64, 96), (64, 96), (96, 64), (64, 96)]):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture(index, height, width))
    assert [frame.epoch for frame in taken(str(tmp_path))] == [0, 0, 1, 2]


def test_a_grey_picture_becomes_bgr(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), picture(0)[..., 0])
    frame = taken(str(tmp_path))[0]
    assert isinstance(frame, Frame)
    assert frame.image.shape == (HEIGHT, WIDTH, 3)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("no pictures here")
    with pytest.raises(SourceError, match="holds no picture"):
        open_source(str(tmp_path))


def test_a_missing_source_is_refused_with_the_kinds_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"not found.*sim:"):
        open_source(str(tmp_path / "nowhere.mp4"))
    with pytest.raises(SourceError, match=r"empty.*sim:"):
        open_source("")


@pytest.mark.parametrize("rate_hz", [0, -1, 1e300, float("inf"), float("nan")])
def test_a_rate_that_gives_no_times_is_refused(tmp_path: Path, rate_hz: float) -> None:
    write_pictures(tmp_path, count=2)
    with pytest.raises(SourceError, match="rate for still pictures"):
        open_source(str(tmp_path), still_rate_hz=rate_hz)


def test_an_unknown_scheme_lists_the_known_ones_and_keeps_passwords_to_itself() -> None:
    with pytest.raises(SourceError, match=r"'mms:' is no known kind.*sim:") as raised:
        open_source("mms://driver:secret@10.0.0.2/stream")
    assert "secret" not in str(raised.value)
    assert isinstance(raised.value, TrafficVisionError)


def test_a_file_whose_name_looks_like_a_scheme_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "sim.mp4").rename(tmp_path / "sim:7.mp4")
    assert len(taken("sim:7.mp4")) == 20


def test_a_windows_path_is_no_scheme() -> None:
    with pytest.raises(SourceError, match=r"'C:.*not found"):
        open_source("C:\\drives\\one.mp4")


class _Plugin:
    name = "plugged"
    rate_hz = None
    frame_count = None

    def __init__(self, url: str) -> None:
        self.url = url

    def __iter__(self):
        yield Frame(self.url, 0, 0, 0, picture(0))

    def close(self) -> None: ...

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None: ...


def _no_source(url: str) -> str:
    return url


@pytest.fixture
def _plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("plug", f"{__name__}:_Plugin", sources.PLUGIN_GROUP),
        EntryPoint("odd", f"{__name__}:_no_source", sources.PLUGIN_GROUP),
        EntryPoint("gone", "no_such_module_here:open", sources.PLUGIN_GROUP),
    ]
    monkeypatch.setattr(
        sources, "entry_points", lambda group: points if group == sources.PLUGIN_GROUP else []
    )


@pytest.mark.usefixtures("_plugged")
def test_a_plug_in_gets_the_whole_url() -> None:
    frames = taken("plug:7?light=night")
    assert frames[0].camera == "plug:7?light=night"
    with pytest.raises(SourceError, match="gave str, no source"):
        open_source("odd:1")
    with pytest.raises(SourceError, match="cannot be loaded"):
        open_source("gone:1")


names = st.text(st.sampled_from("aB01290_²٣é. "), max_size=12)


@given(st.lists(names, unique=True))
def test_the_natural_order_is_total_and_does_not_depend_on_the_listing(listed: list[str]) -> None:
    backwards = listed[::-1]
    assert sorted(listed, key=natural_key) == sorted(backwards, key=natural_key)


@given(names, st.integers(0, 10**6), st.integers(0, 10**6))
def test_numbers_sort_by_value(stem: str, one: int, other: int) -> None:
    stem += "x"
    if one != other:
        assert (natural_key(f"{stem}{one}.jpg") < natural_key(f"{stem}{other}.jpg")) == (one < other)
