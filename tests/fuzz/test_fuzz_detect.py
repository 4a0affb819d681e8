"""Mutated posts to `/detect`: an answer below 500, and the daemon goes on. Skipped where it is not served."""

from __future__ import annotations

import http.client
import random
import socket
import time
from pathlib import Path

import cv2
import pytest

from tests.daemons import DaemonProcess, write_config
from tests.fuzz.fuzzing import MARKS, mutated, run_cases
from tests.recordings import picture

pytestmark = MARKS

CALL_S = 30.0
OPEN_S = 5.0
TYPES = ("image/jpeg", "image/png", "application/octet-stream", "text/plain", "multipart/form-data", "")
ONCE_MORE: tuple[int, ...] = ()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def post(port: int, body: bytes, kind: str, path: str = "/detect") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CALL_S)
    try:
        connection.request("POST", path, body, {"Content-Type": kind} if kind else {})
        return connection.getresponse().status
    finally:
        connection.close()


def served(port: int, body: bytes) -> bool:
    until = time.monotonic() + OPEN_S
    while time.monotonic() < until:
        try:
            return post(port, body, "image/jpeg") == 200
        except ConnectionRefusedError:
            time.sleep(0.05)
    return False


def test_detect(tmp_path: Path) -> None:
    pictures = [cv2.imencode(suffix, picture(1))[1].tobytes() for suffix in (".jpg", ".png", ".bmp", ".webp")]
    port = free_port()
    config = write_config(
        tmp_path,
        {"url": "sim:7?seconds=0&rate=5&size=64x64"},
        http={"address": f"127.0.0.1:{port}", "max_picture_bytes": 100_000},
    )
    with DaemonProcess(config) as daemon:
        if not served(port, pictures[0]):
            daemon.terminate()
            pytest.skip("this daemon serves no POST /detect")

        def case(chance: random.Random) -> None:
            data = mutated(chance.choice(pictures), chance, pictures)
            if chance.random() < 0.02:
                data *= 1 + 200_000 // max(1, len(data))
            path = "/detect" if chance.random() < 0.9 else "/detect?" + chance.randbytes(8).hex()
            try:
                status = post(port, data, chance.choice(TYPES), path)
            except (ConnectionError, http.client.BadStatusLine):  # cut off in the middle of too large a body
                assert len(data) > 100_000
                return
            assert status < 500, f"status {status}"

        run_cases(case, ONCE_MORE)
        assert daemon.client.status().status.cameras[0].captured_frames > 0
        assert daemon.terminate() == 0
        assert daemon.errors == [], daemon.errors[:5]
