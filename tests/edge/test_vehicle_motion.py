"""Does the picture move? On simulated and real drives, and on pictures of them that stand still."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import pytest

from edge.config import VehicleStateConfig
from edge.frames.frame import Frame
from edge.frames.sources import open_source
from edge.perception.detector import Detections, StageTimes
from edge.publication import Publication
from edge.vehicle_state.motion import PictureMotion, changed_share, small_copy
from edge.vehicle_state.part import VehicleWatch
from edge.vehicle_state.state import Reports
from protos.traffic_vision.v1 import common_pb2 as common
from tests.models_factory import loaded, rectangles_model
from tests.shared_data import shared_data

SECOND = 10**9
SIZE = "size=320x180&rate=2"


def frames(url: str, most: int = 60) -> Iterator[Frame]:
    with open_source(url) as source:
        for number, frame in enumerate(source):
            if number == most:
                return
            if isinstance(frame, Frame):
                yield frame


def said(pictures: Iterator[tuple[int, np.ndarray]]) -> list[bool | None]:
    motion = PictureMotion()
    looks = (motion.look(time_ns, image) for time_ns, image in pictures)
    return [look.moves for look in looks if look is not None]


@pytest.mark.parametrize("light", ["noon", "dusk", "night"])
def test_a_simulated_drive_moves(light: str) -> None:
    drive = frames(f"sim:7?seconds=25&light={light}&{SIZE}")
    told = said((frame.captured_ns, frame.image) for frame in drive)
    assert len(told) > 40 and all(told)


@pytest.mark.parametrize("light", ["noon", "night"])
@pytest.mark.parametrize("noise", [0, 4, 12])
def test_a_parked_view_stands_still_through_noise_exposure_and_passing_cars(light: str, noise: float) -> None:
    (view,) = frames(f"sim:7?seconds=1&light={light}&{SIZE}", 1)
    rng = np.random.default_rng(1)

    def parked() -> Iterator[tuple[int, np.ndarray]]:
        for look in range(60):
            image = view.image.astype(np.float32) * (1 + 0.1 * np.sin(look))
            left = (look * 37) % 280  # a car goes by, in one picture of three
            if look % 3 == 0:
                image[100:140, left : left + 60] = rng.uniform(0, 255, 3)
            noisy = image + rng.normal(0, noise, image.shape)
            yield look * 500_000_000, np.clip(noisy, 0, 255).astype(np.uint8)

    told = said(parked())
    assert len(told) > 50 and not any(told)


@pytest.mark.parametrize("name", ["night", "seattlestreet1", "seattlestreet2"])
def test_a_real_drive_moves(name: str) -> None:
    drive = frames(str(shared_data(f"drives/{name}.mp4")), 600)
    told = said((frame.captured_ns, frame.image) for frame in drive)
    assert len(told) > 30 and all(told)


def test_pictures_that_have_nothing_to_do_with_each_other_move() -> None:
    rng = np.random.default_rng(2)

    def unrelated() -> Iterator[tuple[int, np.ndarray]]:
        for number in range(60):
            coarse = rng.integers(0, 255, (12, 20, 3), dtype=np.uint8)
            yield number * 100_000_000, cv2.resize(coarse, (640, 360))

    told = said(unrelated())
    assert told and all(told)


def test_a_picture_without_texture_tells_nothing() -> None:
    dark = small_copy(np.zeros((720, 1280, 3), np.uint8))
    assert dark.shape == (90, 160) and changed_share(dark, dark) is None


def test_looks_are_taken_twice_a_second_and_memory_is_bounded() -> None:
    motion = PictureMotion()
    image = np.zeros((90, 160, 3), np.uint8)
    looks = [motion.look(number * 33_333_333, image) for number in range(900)]
    assert 50 <= sum(look is not None for look in looks) <= 60
    assert len(motion._seen) <= 6
    assert motion.look(0, image) is None and len(motion._seen) == 1  # another drive


def test_whether_it_moves_just_now_is_what_a_report_says_and_else_the_latest_picture() -> None:
    now = 0
    reports = Reports(common.Instant, valid_ms=2000, monotonic_ns=lambda: now)
    watch = VehicleWatch(VehicleStateConfig(), ["front"], reports)
    drive = list(frames(f"sim:7?seconds=5&{SIZE}"))
    published = Publication(
        drive[0].key, 0, False, 180, 320, Detections(np.zeros((0, 6), np.float32), "", StageTimes(0, 0, 0)),
        loaded(rectangles_model()).metadata, 0, 0, 0,
    )  # fmt: skip

    def show(count: int, start: int, *, still: bool) -> bool:
        for number in range(count):
            shown = drive[0] if still else drive[number % len(drive)]
            frame = Frame("front", start + number, 0, (start + number) * SECOND // 2, shown.image)
            watch.observe(frame, published)
        return watch.moves("front")

    assert watch.moves("front")
    assert show(8, 0, still=False)
    # Long before it is parked.
    assert not show(6, 8, still=True)
    assert not watch.parked("front")
    reports.report(common.VehicleState(speed_mps=9))
    assert watch.moves("front")
    reports.report(common.VehicleState(speed_mps=0))
    assert show(8, 14, still=False) is False
    now = 3 * SECOND
    assert watch.moves("front")


def test_a_status_says_for_how_long_it_drove_and_parked_time_is_none() -> None:
    watch = VehicleWatch(VehicleStateConfig(parked_after_s=10), ["front", "rear"], Reports(common.Instant))
    drive = list(frames(f"sim:7?seconds=5&{SIZE}"))
    published = Publication(
        drive[0].key, 0, False, 180, 320, Detections(np.zeros((0, 6), np.float32), "", StageTimes(0, 0, 0)),
        loaded(rectangles_model()).metadata, 0, 0, 0,
    )  # fmt: skip

    def driven_s(cameras: Sequence[str], start: int, end: int, *, still: bool = False) -> float:
        for number in range(2 * start, 2 * end):
            for camera in cameras:
                image = drive[0 if still else number % len(drive)].image
                watch.observe(Frame(camera, number, 0, number * SECOND // 2, image), published)
        status = common.VehicleStatus()
        watch.fill_status(status)
        assert status.HasField("driven_ns")
        return status.driven_ns / SECOND

    assert driven_s([], 0, 0) == 0
    assert driven_s(["front", "rear"], 0, 30) == 29.5, "two cameras see one drive"
    parked = driven_s(["front"], 30, 100, still=True)
    assert parked <= 42, "ten seconds and some looks until it counts as parked"
    assert driven_s(["front"], 100, 130, still=True) == parked
    assert parked + 20 < driven_s(["front"], 130, 160) <= parked + 30
