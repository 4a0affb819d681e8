"""The loop around every fuzz target: cases by seed, until the time is up; a failure names its seed.

TRAFFIC_VISION_FUZZ_SECONDS  of each target (default 100: with six targets ten minutes in all)
TRAFFIC_VISION_FUZZ_SEED     the first case; the next ones count up from it (default: another one each time)
TRAFFIC_VISION_FUZZ_CASES    at most so many cases

A case is made of its seed alone, so that a failure is had again by
`TRAFFIC_VISION_FUZZ_SEED=N TRAFFIC_VISION_FUZZ_CASES=1 pytest -m services tests/fuzz/... -k TARGET`.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence

import pytest

SECONDS = float(os.environ.get("TRAFFIC_VISION_FUZZ_SECONDS", "100"))
GRACE_S = 240.0  # of a target's processes, beside the time of its cases

# What a target is marked with: it starts servers, and pytest's own time-out must not come before its end.
MARKS = [pytest.mark.services, pytest.mark.timeout(SECONDS + GRACE_S)]


def run_cases(case: Callable[[random.Random], object], once_more: Sequence[int] = ()) -> int:
    """Run a target's cases until the time is up; gives how many there were.

    Args:
        case: one case, made of that chance alone; raises where the target misbehaves.
        once_more: seeds that failed once, which come first.

    Raises:
        AssertionError: a case failed; the message names its seed.
    """
    first = int(os.environ.get("TRAFFIC_VISION_FUZZ_SEED") or random.SystemRandom().randrange(10**9))
    limit = int(os.environ.get("TRAFFIC_VISION_FUZZ_CASES", "0"))
    until = time.monotonic() + SECONDS
    seeds = [*(() if limit else once_more)]
    done = 0
    while time.monotonic() < until and not (limit and done >= limit):
        seed = seeds[done] if done < len(seeds) else first + done - len(seeds)
        try:
            case(random.Random(seed))
        except BaseException as error:
            raise AssertionError(
                f"case {seed} failed (again: TRAFFIC_VISION_FUZZ_SEED={seed} TRAFFIC_VISION_FUZZ_CASES=1):"
                f" {type(error).__name__}: {str(error)[:1000]}"
            ) from error
        done += 1
    print(f"{done} cases from seed {first}")
    assert done
    return done


_TELLING = (0, 1, 0x7F, 0x80, 0xFF)
_NUMBERS = (0, 1, 2, 127, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1)


def mutated(data: bytes, chance: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Bytes near those given: flipped, cut, doubled, with telling numbers in them, crossed with others."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 8, 32))):
        if not out:
            out += chance.randbytes(chance.randrange(1, 64))
        at = chance.randrange(len(out))
        kind = chance.randrange(8)
        if kind == 0:
            out[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            out[at] = chance.choice(_TELLING)
        elif kind == 2:
            number = chance.choice(_NUMBERS) & 0xFFFFFFFF
            size = chance.choice((1, 2, 4))
            part = (number & (1 << 8 * size) - 1).to_bytes(size, chance.choice(("big", "little")))
            out[at : at + len(part)] = part
        elif kind == 3:
            del out[at : at + chance.choice((1, 2, 16, len(out)))]
        elif kind == 4:
            end = at + chance.randrange(1, 65)
            out[at:at] = out[at:end] * chance.choice((1, 2, 16))
        elif kind == 5:
            out[at : at + chance.randrange(1, 17)] = chance.randbytes(chance.randrange(1, 17))
        elif kind == 6 and others:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            out[at : at + chance.randrange(64)] = other[start : start + chance.randrange(256)]
        else:
            out[at:at] = chance.randbytes(chance.randrange(1, 9))
    return bytes(out)
