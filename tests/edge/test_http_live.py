from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest

import edge.serve.http.live as live_module
from edge.frames.frame import Frame, FrameKey
from edge.perception.detector import Detections, StageTimes
from edge.publication import Publication
from edge.serve.http.live import MAX_RATE_HZ, MAX_WIDTH, LivePicture, LiveView
from tests.models_factory import loaded, rectangles_model

MODEL = loaded(rectangles_model())
LONG_S = 30.0


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


def shot(sequence: int, hw: tuple[int, int] = (90, 160)) -> tuple[Frame, Publication]:
    image = np.full((*hw, 3), sequence % 250, np.uint8)
    boxes = np.array([[1, 2, 30 + sequence, 40, 0.9, 0]], np.float32)
    found = Detections(boxes, MODEL.digest, StageTimes(1_000_000, 2_000_000, 3_000_000))
    frame = Frame("front", sequence, 0, sequence, image)
    key = FrameKey("front", 0, sequence)
    return frame, Publication(key, sequence, False, *hw, found, MODEL.metadata, 500_000, 7_000_000, 0)


def opened(picture: LivePicture | None) -> tuple[dict[str, Any], np.ndarray]:
    assert picture is not None
    length = int.from_bytes(picture.data[:4], "big")
    jpeg = np.frombuffer(picture.data[4 + length :], np.uint8)
    return json.loads(picture.data[4 : 4 + length]), np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))


def test_where_nobody_looks_nothing_is_kept(pool: ThreadPoolExecutor) -> None:
    view = LiveView(["front"], pool)
    view.observe(*shot(0))
    screen = view._screens["front"]
    assert screen.shot is None and screen.picture is None


def test_a_viewer_gets_the_newest_with_its_own_boxes(pool: ThreadPoolExecutor) -> None:
    async def watch() -> None:
        view = LiveView(["front"], pool)
        waiting = asyncio.create_task(view.next("front", "", LONG_S))
        await asyncio.sleep(0)
        feeder = threading.Thread(target=view.observe, args=shot(3))  # as the frame loop's thread does
        feeder.start()
        head, image = opened(await waiting)
        assert head["sequence"] == 3 and head["detections"][0]["box_px"] == [1, 2, 33, 40]
        assert abs(int(image.mean()) - 3) <= 2
        for sequence in range(4, 9):
            view.observe(*shot(sequence))
        head, image = opened(await view.next("front", head["id"], LONG_S))
        assert head["sequence"] == 8 and abs(int(image.mean()) - 8) <= 2
        assert head["times_ms"] == {"wait": 0.5, "preprocess": 1, "inference": 2, "postprocess": 3}
        assert await view.next("front", head["id"], 0.01) is None
        feeder.join()

    asyncio.run(watch())


def test_a_picture_is_encoded_once_for_all_viewers_and_not_too_often(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    encode = live_module.encode

    def counted(one: live_module.Shot) -> LivePicture:
        encoded.append(one.id)
        return encode(one)

    monkeypatch.setattr(live_module, "encode", counted)

    async def watch() -> None:
        view = LiveView(["front"], pool)
        await view.next("front", "", 0.001)
        view.observe(*shot(1))
        got = await asyncio.gather(*(view.next("front", "", LONG_S) for _ in range(5)))
        assert {picture.id for picture in got if picture} == {"0-1"} and encoded == ["0-1"]
        screen = view._screens["front"]
        began_ns = screen.encoded_ns
        for sequence in range(2, 7):
            view.observe(*shot(sequence))
            await view.next("front", encoded[-1], LONG_S)
        assert len(encoded) == 6 and screen.encoded_ns - began_ns >= 5e9 / MAX_RATE_HZ

    asyncio.run(watch())


def test_wide_pictures_are_sent_smaller_and_boxes_stay_in_pixels_of_the_frame(
    pool: ThreadPoolExecutor,
) -> None:
    async def watch() -> None:
        view = LiveView(["front"], pool)
        await view.next("front", "", 0.001)
        view.observe(*shot(1, (1080, 1920)))
        head, image = opened(await view.next("front", "", LONG_S))
        assert image.shape == (720, MAX_WIDTH, 3)
        assert (head["width_px"], head["height_px"]) == (1920, 1080)

    asyncio.run(watch())


def test_who_watches_is_sent_away_at_the_end(pool: ThreadPoolExecutor) -> None:
    async def watch() -> None:
        view = LiveView(["front"], pool)
        waiting = asyncio.create_task(view.next("front", "", LONG_S))
        await asyncio.sleep(0)
        threading.Thread(target=view.close).start()
        assert await asyncio.wait_for(waiting, LONG_S / 2) is None
        assert await view.next("front", "", LONG_S) is None

    asyncio.run(watch())
