"""What the header of a JPEG says, without decoding it."""

from __future__ import annotations

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of the first frame header (ITU-T T.81, B.2.2), None where there is none."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker in _START_OF_FRAME:
            return int.from_bytes(data[position + 5 : position + 7], "big"), int.from_bytes(
                data[position + 7 : position + 9], "big"
            )
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None
