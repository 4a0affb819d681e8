"""Small recordings, whole and damaged, made on the spot."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

RATE_HZ = 10.0
HEIGHT, WIDTH = 96, 160


def picture(index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A picture that differs from its neighbours and does not compress to nothing."""
    rng = np.random.default_rng(index)
    coarse = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def write_video(path: Path, frames: int = 20, rate_hz: float = RATE_HZ, fourcc: str = "mp4v") -> Path:
    code = cv2.VideoWriter.fourcc(*fourcc)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, rate_hz, (WIDTH, HEIGHT))
    assert writer.isOpened(), f"this OpenCV writes no {fourcc}"
    for index in range(frames):
        writer.write(picture(index))
    writer.release()
    return path


def damage_packets(path: Path, *indices: int, keep: int = 0) -> None:
    """Overwrite the packets of these frames but for their first bytes; the container stays whole.

    With its start code left to it, an MPEG-4 decoder passes over the packet in silence; without, it fails.
    """
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
    packets = []
    while capture.grab():
        packets.append(capture.retrieve()[1].tobytes())
    capture.release()
    data = bytearray(path.read_bytes())
    for index in indices:
        # The demuxer may rewrite a packet's head, so its tail is what is looked for.
        end = data.index(packets[index][-64:]) + 64
        size = len(packets[index]) - keep
        data[end - size : end] = (b"\0" if keep else b"\xff") * size
    path.write_bytes(data)


def write_pictures(folder: Path, count: int = 5, suffix: str = ".jpg") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        cv2.imwrite(str(folder / f"frame{index}{suffix}"), picture(index))
    return folder
