from __future__ import annotations

import random
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.serve.http.pictures import (
    MAX_JPEG_SCANS,
    MAX_PIXELS,
    PictureError,
    TooLargeError,
    UnknownKindError,
    decode_picture,
)
from tests.http_fuzz import hostile, promises, seeds

SEEDS = seeds()


@pytest.mark.parametrize("kind", SEEDS)
def test_each_kind_decodes(kind: str) -> None:
    image = decode_picture(SEEDS[kind])
    assert image.shape == ((1, 5000, 3) if kind == "thin" else (96, 160, 3)) and image.dtype == "uint8"


@pytest.mark.parametrize("kind", promises())
def test_what_promises_too_much_is_refused_by_its_header(kind: str) -> None:
    with pytest.raises(TooLargeError, match=f"{MAX_PIXELS} are taken at most"):
        decode_picture(promises()[kind])


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"GIF89a" + bytes(40), b"II*\0" + bytes(40), b"P6 1 1 255 abc"]
)
def test_other_kinds_never_reach_a_decoder(data: bytes) -> None:
    with pytest.raises(UnknownKindError):
        decode_picture(data)


def test_a_png_whose_chunk_goes_on_past_its_end_reaches_no_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV took 3.3 GB for one of 402 bytes."""

    def never(data: object, flags: int) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", never)
    png = SEEDS[".png"]
    start = png.index(b"IDAT") - 4
    for damaged in (png[:start] + b"\x7f\xff\xff\xff" + png[start + 4 :], png[:-1], png[:start]):
        with pytest.raises(PictureError, match="cut short"):
            decode_picture(damaged)


@pytest.mark.parametrize("name", [b"IHDR", b"IDAT", b"IEND"])
def test_a_png_that_is_not_what_its_checksums_say_reaches_no_decoder(
    name: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    png = bytearray(SEEDS[".png"])
    png[png.index(name) + (4 if name == b"IEND" else 12)] ^= 0x20
    with pytest.raises(PictureError, match=f"its {name.decode()} is damaged"):
        decode_picture(bytes(png))


def test_of_a_png_only_what_makes_the_picture_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    png = SEEDS[".png"]
    start = png.index(b"IDAT") - 4
    added = b"".join(
        struct.pack(">I4s", len(content), name) + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in ((b"zTXt", bytes(100)), (b"iCCP", bytes(100)), (b"acTL", bytes(8)))
    )
    image = decode_picture(png[:start] + added + png[start:])
    assert np.array_equal(image, decode_picture(png))


def test_what_moves_is_no_picture() -> None:
    flags = b"\x02\x00\x00\x00"
    size = (159).to_bytes(3, "little") + (95).to_bytes(3, "little")
    with pytest.raises(UnknownKindError, match="animated"):
        decode_picture(b"RIFF\x1e\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00" + flags + size)


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    with pytest.raises(PictureError, match="scans"):
        decode_picture(SEEDS["progressive"] + b"\xff\xda" * (MAX_JPEG_SCANS + 1))


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from(sorted(SEEDS)), st.integers(0, 40))
def test_noise_is_a_picture_or_refused(noise: bytes, kind: str, head: int) -> None:
    try:
        image = decode_picture(SEEDS[kind][:head] + noise)
    except PictureError:
        return
    assert image.ndim == 3 and image.shape[0] * image.shape[1] <= MAX_PIXELS


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_hostile_pictures_are_pictures_or_refused(seed: int) -> None:
    try:
        image = decode_picture(hostile(random.Random(seed), SEEDS))
    except PictureError:
        return
    assert image.ndim == 3 and image.shape[0] * image.shape[1] <= MAX_PIXELS
