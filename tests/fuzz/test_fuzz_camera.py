"""Mutated videos and pictures: refused with a reason, or frames and broken frames; the process lives on."""

from __future__ import annotations

import random
import selectors
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from tests.fuzz.fuzzing import MARKS, mutated, run_cases
from tests.recordings import picture, write_video

pytestmark = MARKS

CASE_TIMEOUT_S = 30.0
VIDEOS = (("drive.avi", "MJPG"), ("drive.mp4", "mp4v"), ("drive.avi", "XVID"), ("drive.mkv", "mp4v"))
PICTURES = (".jpg", ".png", ".bmp", ".webp")
ONCE_MORE: tuple[int, ...] = ()


class Child:
    """`tests.fuzz.camera_child`; one that died is told of, with how it ended."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.camera_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )

    def look(self, path: Path) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{path}\n")
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            assert selector.select(CASE_TIMEOUT_S), f"the reader hung for {CASE_TIMEOUT_S:g} s"
        answer = self._process.stdout.readline().strip()
        assert answer, f"the reader died: exit code {self._process.wait(10)}"
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child()
    yield child
    child.close()


def test_videos(tmp_path: Path, child: Child) -> None:
    videos: list[tuple[str, bytes]] = []
    for number, (name, fourcc) in enumerate(VIDEOS):
        path = write_video(tmp_path / f"{number}{name}", frames=12, fourcc=fourcc)
        assert child.look(path).startswith("ok 12"), name
        videos.append((path.suffix, path.read_bytes()))

    def case(chance: random.Random) -> None:
        suffix, data = chance.choice(videos)
        # Heads and indexes are where decoders trip, and a small part of a file.
        head = chance.choice((64, 1024, len(data)))
        if chance.random() < 0.5:
            data = mutated(data[:head], chance, [other for _, other in videos]) + data[head:]
        else:
            data = data[:-head] + mutated(data[-head:], chance, [other for _, other in videos])
        path = tmp_path / f"case{suffix}"
        path.write_bytes(data)
        answer = child.look(path)
        assert not answer.startswith("defect"), answer

    run_cases(case, ONCE_MORE)


def test_pictures(tmp_path: Path, child: Child) -> None:
    pictures = {suffix: cv2.imencode(suffix, picture(1))[1].tobytes() for suffix in PICTURES}

    def case(chance: random.Random) -> None:
        suffix = chance.choice(PICTURES)
        data = pictures[suffix]
        head = chance.choice((40, 400, len(data)))
        path = tmp_path / f"case{suffix}"
        path.write_bytes(mutated(data[:head], chance, list(pictures.values())) + data[head:])
        answer = child.look(path)
        assert not answer.startswith("defect"), answer

    run_cases(case, ONCE_MORE)
