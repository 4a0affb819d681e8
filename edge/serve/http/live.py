"""The live picture: a frame and its own boxes, to whoever looks, and at no cost where nobody does.

Viewers pull: each asks for what is newer than what it has, and gets the newest. So none can be behind by more
than one picture, a slow one slows nobody, and there is no stream to hold open. A picture is encoded once for
all viewers, off the frame loop's thread.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from edge.frames.frame import Frame
from edge.publication import Publication

MAX_RATE_HZ = 10.0
MAX_WIDTH = 1280
JPEG_QUALITY = 80
# Somebody looks at a camera so long after asking for its picture.
WATCHED_S = 2.0

_PERIOD_NS = round(1e9 / MAX_RATE_HZ)


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A frame, and what was published of it."""

    frame: Frame
    published: Publication

    @property
    def id(self) -> str:
        """Which frame, as viewers name it."""
        return f"{self.frame.epoch}-{self.frame.sequence}"


@dataclass(frozen=True, slots=True, eq=False)
class LivePicture:
    """What a viewer gets: `data` is the length of a JSON text (4 bytes, big-endian), the text, and a JPEG."""

    id: str
    data: bytes


@dataclass(slots=True, eq=False)
class _Screen:
    """One camera's. What other threads than the server's touch: `watched_until_ns` and `shot`."""

    watched_until_ns: int = 0
    shot: Shot | None = None
    picture: LivePicture | None = None
    encoded_ns: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    encoding: asyncio.Lock = field(default_factory=asyncio.Lock)


class LiveView:
    """Keeps the last frame of each camera that somebody looks at; a `FrameObserver`."""

    name = "live view"

    def __init__(self, cameras: Sequence[str], executor: Executor) -> None:
        """Nobody looks.

        Args:
            cameras: their names.
            executor: where pictures are encoded.
        """
        self._screens = {name: _Screen() for name in cameras}
        self._executor = executor
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def observe(self, frame: Frame, published: Publication) -> None:
        """Keep the frame if somebody looks. On the frame loop's thread."""
        screen = self._screens[frame.camera]
        if time.monotonic_ns() > screen.watched_until_ns:
            screen.shot = screen.picture = None
            return
        screen.shot = Shot(frame, published)
        self._tell(screen)

    async def next(self, camera: str, after: str, timeout_s: float) -> LivePicture | None:
        """The camera's newest picture, once it is another than `after`; None where none came in time.

        Args:
            camera: a name that is there.
            after: the id of the picture that the viewer has; empty for none.
            timeout_s: how long to wait.
        """
        self._loop = asyncio.get_running_loop()
        screen = self._screens[camera]
        deadline = time.monotonic() + timeout_s
        while not self._closed:
            now_ns = time.monotonic_ns()
            screen.watched_until_ns = now_ns + round((timeout_s + WATCHED_S) * 1e9)
            arrived = screen.arrived
            rest_s = max(0.0, (screen.encoded_ns + _PERIOD_NS - now_ns) / 1e9)
            if rest_s and screen.picture is not None and screen.picture.id != after:
                return screen.picture
            if screen.shot is not None and screen.shot.id != after:
                if not rest_s:
                    return await self._encoded(screen)
                await asyncio.sleep(rest_s)
                continue
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            try:
                await asyncio.wait_for(arrived.wait(), left_s)
            except asyncio.TimeoutError:
                break
        return None

    def close(self) -> None:
        """Send every viewer away. From any thread; may be called twice."""
        self._closed = True
        for screen in self._screens.values():
            self._tell(screen)

    async def _encoded(self, screen: _Screen) -> LivePicture | None:
        async with screen.encoding:
            shot = screen.shot
            if shot is None:
                return None
            if screen.picture is None or screen.picture.id != shot.id:
                screen.encoded_ns = time.monotonic_ns()
                running = asyncio.get_running_loop()
                screen.picture = await running.run_in_executor(self._executor, encode, shot)
            return screen.picture

    def _tell(self, screen: _Screen) -> None:
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(_ring, screen)
        except RuntimeError:  # the server has ended
            self._loop = None


def _ring(screen: _Screen) -> None:
    screen.arrived.set()
    screen.arrived = asyncio.Event()


def encode(shot: Shot) -> LivePicture:
    """A shot as viewers get it, at most `MAX_WIDTH` wide; boxes stay in pixels of the whole frame."""
    image = shot.frame.image
    height, width = image.shape[:2]
    if width > MAX_WIDTH:
        size = (MAX_WIDTH, max(1, round(height * MAX_WIDTH / width)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    head = json.dumps(_describe(shot), separators=(",", ":")).encode()
    return LivePicture(shot.id, len(head).to_bytes(4, "big") + head + jpeg.tobytes())


def _describe(shot: Shot) -> dict[str, Any]:
    published = shot.published
    found, names = published.detections, published.model.class_names
    return {
        "id": shot.id,
        "camera": shot.frame.camera,
        "epoch": shot.frame.epoch,
        "sequence": shot.frame.sequence,
        "is_live": published.is_live,
        "captured_s": published.captured_ns / 1e9,
        "width_px": published.width,
        "height_px": published.height,
        "age_ms": published.age_ns / 1e6,
        "times_ms": {
            "wait": published.wait_ns / 1e6,
            "preprocess": found.stage_ns.preprocess / 1e6,
            "inference": found.stage_ns.inference / 1e6,
            "postprocess": found.stage_ns.postprocess / 1e6,
        },
        "model": {
            "sha256": found.model_digest,
            "name": published.model.name,
            "version": published.model.version,
        },
        "detections": detections_json(found.boxes.tolist(), names),
    }


def detections_json(
    rows: list[list[float]], names: Sequence[str], keep: Callable[[float], bool] = lambda score: True
) -> list[dict[str, Any]]:
    """Detections as JSON values.

    Args:
        rows: x1, y1, x2, y2 in pixels, score, class.
        names: of the classes.
        keep: whether a detection of that score goes in.
    """
    return [
        {
            "class_name": names[int(index)],
            "class_index": int(index),
            "score": round(score, 4),
            "box_px": [round(x1, 1), round(y1, 1), round(x2, 1), round(y2, 1)],
        }
        for x1, y1, x2, y2, score, index in rows
        if keep(score)
    ]
