"""Repeatable chance: every draw is a function of the drive's seed and of what the draw is for.

A stateful generator would make a frame depend on the frames before it; a hash makes `render(seed, t)` pure.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from hashlib import blake2b

_MASK = (1 << 64) - 1


@lru_cache(maxsize=65536)
def draws(seed: int, stream: str, index: int) -> tuple[float, ...]:
    """Return eight numbers, uniform in [0, 1), for place `index` of `stream` in drive `seed`.

    They are the words of a BLAKE2b digest (RFC 7693), the same on every machine.
    """
    key = struct.pack("<QQ", seed & _MASK, index & _MASK)
    return tuple(word / 2**64 for word in struct.unpack("<8Q", blake2b(key + stream.encode()).digest()))
