"""Mutated posts to `/detect`: an answer, never an error of the server, and the daemon goes on."""

from __future__ import annotations

import http.client
import random
from pathlib import Path

import cv2

from tests.daemons import DaemonProcess, write_config
from tests.fuzz.fuzzing import MARKS, mutated, run_cases
from tests.http_fuzz import ACCEPTED, hostile, seeds
from tests.recordings import picture

pytestmark = MARKS

CALL_S = 30.0
TYPES = ("image/jpeg", "image/png", "application/octet-stream", "text/plain", "multipart/form-data", "")
ONCE_MORE: tuple[int, ...] = ()


def post(port: int, body: bytes, kind: str, path: str = "/detect") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CALL_S)
    try:
        connection.request("POST", path, body, {"Content-Type": kind} if kind else {})
        return connection.getresponse().status
    finally:
        connection.close()


def test_detect(tmp_path: Path) -> None:
    kinds = seeds()
    pictures = [cv2.imencode(suffix, picture(1))[1].tobytes() for suffix in (".jpg", ".png", ".bmp", ".webp")]
    config = write_config(
        tmp_path,
        {"url": "sim:7?seconds=0&rate=5&size=64x64"},
        http={"address": "127.0.0.1:0", "max_picture_bytes": 100_000},
    )
    with DaemonProcess(config) as daemon:
        port = int(daemon.event("http_started")["address"].rpartition(":")[2])
        assert post(port, pictures[0], "image/jpeg") == 200

        def case(chance: random.Random) -> None:
            data = (
                hostile(chance, kinds)
                if chance.random() < 0.5
                else mutated(chance.choice(pictures), chance, pictures)
            )
            if chance.random() < 0.02:
                data *= 1 + 200_000 // max(1, len(data))
            path = "/detect" if chance.random() < 0.9 else "/detect?" + chance.randbytes(8).hex()
            try:
                status = post(port, data, chance.choice(TYPES), path)
            except (ConnectionError, http.client.BadStatusLine):  # cut off in the middle of too large a body
                assert len(data) > 100_000
                return
            assert status in ACCEPTED | {400, 404, 405}, f"status {status}"

        run_cases(case, ONCE_MORE)
        assert daemon.client.status().status.cameras[0].captured_frames > 0
        assert daemon.terminate() == 0
        # The picture libraries' own lines on what is damaged aside.
        assert not [line for line in daemon.errors if "Traceback" in line or "Error" in line], daemon.errors[
            :5
        ]
