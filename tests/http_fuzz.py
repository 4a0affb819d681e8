"""Hostile pictures for `POST /detect`: noise, real ones cut and changed, headers that promise too much."""

from __future__ import annotations

import random
import struct
import time
from collections import Counter
from collections.abc import Mapping

import cv2
import httpx
import numpy as np

from tests.models_factory import picture

ACCEPTED = frozenset({200, 413, 415, 422, 503})
_SUFFIXES = (".jpg", ".png", ".webp", ".bmp")


def seeds() -> dict[str, bytes]:
    """Small pictures of each kind, progressive and grey ones too."""
    image = picture((96, 160), (20, 10, 60, 50, "red"))
    made = {suffix: cv2.imencode(suffix, image)[1].tobytes() for suffix in _SUFFIXES}
    made["progressive"] = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    made["grey"] = cv2.imencode(".png", image[:, :, 0])[1].tobytes()
    made["deep"] = cv2.imencode(".png", image.astype(np.uint16) * 257)[1].tobytes()
    made["alpha"] = cv2.imencode(".webp", cv2.cvtColor(image, cv2.COLOR_BGR2BGRA))[1].tobytes()
    made["thin"] = cv2.imencode(".png", np.zeros((1, 5000, 3), np.uint8))[1].tobytes()
    return made


def hostile(chance: random.Random, kinds: Mapping[str, bytes]) -> bytes:
    """One body."""
    data = bytearray(chance.choice(list(kinds.values())))
    way = chance.randrange(6)
    if way == 0:
        return chance.randbytes(chance.randrange(2000))
    if way == 1:  # a real head before noise
        return bytes(data[: chance.randrange(1, 40)]) + chance.randbytes(chance.randrange(2000))
    if way == 2:
        return bytes(data[: chance.randrange(len(data))])
    if way == 3:
        for _ in range(chance.randrange(1, 30)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data)
    if way == 4:  # the sizes in the header
        for _ in range(chance.randrange(1, 8)):
            data[chance.randrange(min(64, len(data)))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        return bytes(data)
    start = chance.randrange(len(data))
    piece = data[start : start + chance.randrange(1, 200)]
    return bytes(data[:start] + piece * chance.randrange(2, 6) + data[start:])


def promises() -> dict[str, bytes]:
    """Headers of pictures that would take gigabytes."""
    wide = 60_000
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", wide, wide) + b"\x08\x02\x00\x00\x00"
    jpeg = b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, wide, wide, 3) + bytes(9)
    bmp = (
        b"BM" + struct.pack("<IHHI", 0, 0, 0, 54) + struct.pack("<IiiHH", 40, wide, -wide, 1, 24) + bytes(24)
    )
    size = (16383).to_bytes(3, "little")
    webp = b"RIFF\x1e\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00" + size + size
    return {"png": png, "jpeg": jpeg, "bmp": bmp, "webp": webp}


def fuzz_detect(client: httpx.Client, seconds: float, seed: int) -> Counter[int]:
    """Post hostile pictures for so long; gives how often each status came.

    Raises:
        AssertionError: an answer that none should get, with the body that got it.
    """
    chance, kinds, codes = random.Random(seed), seeds(), Counter[int]()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        body = hostile(chance, kinds)
        answer = client.post("/detect", content=body)
        codes[answer.status_code] += 1
        assert answer.status_code in ACCEPTED, (answer.status_code, answer.text, body.hex())
    return codes
