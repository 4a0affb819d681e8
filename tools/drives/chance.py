"""Repeatable chance: every draw is a function of the drive's seed and of what the draw is for.

A stateful generator would make a frame depend on the frames before it; a hash makes `render(seed, t)` pure.
"""

from __future__ import annotations

from functools import lru_cache

_MASK = (1 << 64) - 1


def _mix(value: int) -> int:
    """Return the SplitMix64 finaliser of a 64-bit integer (Steele, Lea and Flood, OOPSLA 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


@lru_cache(maxsize=65536)
def draws(seed: int, stream: str, index: int, count: int = 8) -> tuple[float, ...]:
    """Return `count` numbers, uniform in [0, 1), for place `index` of `stream` in drive `seed`."""
    state = _mix(seed & _MASK)
    for byte in stream.encode():
        state = _mix(state ^ byte)
    state = _mix(state ^ (index & _MASK))
    return tuple(_mix(state + number) / 2**64 for number in range(1, count + 1))
