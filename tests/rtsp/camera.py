"""The RTSP camera of tests: a server of its own process, and a look at whether its pictures are true."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from tests.rtsp.scene import CELLS, scene

_SERVER = Path(__file__).with_name("server.py")
_SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's packages of GStreamer for Python are for that one
_OFF = 40  # grey levels: beyond what compression does
_SHARE_OFF = 0.002


class RtspCamera:
    """Serves `rtsp://127.0.0.1:PORT/cam`."""

    def __init__(self, size: str = "320x240", rate: int = 15, keys: int = 15) -> None:
        options = ["--size", size, "--rate", str(rate), "--keys", str(keys)]
        self._process = subprocess.Popen(
            [_SYSTEM_PYTHON, str(_SERVER), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        word, _, port = self._process.stdout.readline().partition(" ")
        assert word == "port", "GStreamer's RTSP server does not start: see .ci/run for its packages"
        self.port = int(port)

    def __enter__(self) -> RtspCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.freeze(False)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def size(self, size: str) -> None:
        """Cut everyone off, and give another size from now on."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"size {size}\n")
        self._process.stdin.flush()

    def freeze(self, frozen: bool) -> None:
        """Stop the process as it stands, or let it go on."""
        self._process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)


def number_of(image: npt.NDArray[np.uint8]) -> int | None:
    """The number that a picture carries; None where its bits contradict each other."""
    height, width = image.shape[:2]
    row = cv2.cvtColor(image[height // 8 : height // 8 + 1], cv2.COLOR_BGR2GRAY)[0]
    bits = [int(row[int((cell + 0.5) * width / CELLS)] > 128) for cell in range(CELLS)]
    half = CELLS // 2
    if any(one == other for one, other in zip(bits[:half], bits[half:], strict=True)):
        return None
    return int("".join(map(str, bits[:half])), 2)


def is_true(image: npt.NDArray[np.uint8]) -> bool:
    """Whether a picture looks everywhere as the scene of its number does."""
    number = number_of(image)
    if number is None:
        return False
    height, width = image.shape[:2]
    luma = np.frombuffer(scene(number, width, height), np.uint8).reshape(height, width).astype(np.float32)
    grey = np.clip((luma - 16) * 255 / 219, 0, 255)  # from video's range to the full one (ITU-R BT.601)
    off = np.abs(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32) - grey) > _OFF
    return bool(off.mean() <= _SHARE_OFF)
