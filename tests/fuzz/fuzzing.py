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
import threading
import time
from collections.abc import Callable, Sequence
from itertools import chain, count, islice

import pytest

SECONDS = float(os.environ.get("TRAFFIC_VISION_FUZZ_SECONDS", "100"))
GRACE_S = 240.0  # of a target's processes, beside the time of its cases

# What a target is marked with: it starts servers, and pytest's own time-out must not come before its end.
MARKS = [pytest.mark.services, pytest.mark.timeout(SECONDS + GRACE_S)]


class Cases:
    """A target's cases. Several threads may run them, each for as long as a target has.

    Attributes:
        first: the seed of the first.
        is_limited: whether there are only so many, however long there is time.
        done: how many there were.
    """

    def __init__(self, once_more: Sequence[int] = ()) -> None:
        """Take seeds that failed once, which come first."""
        self.first = int(os.environ.get("TRAFFIC_VISION_FUZZ_SEED") or random.SystemRandom().randrange(10**9))
        limit = int(os.environ.get("TRAFFIC_VISION_FUZZ_CASES", "0"))
        self.is_limited = limit > 0
        following = count(self.first)
        self._seeds = islice(following, limit) if limit else chain(once_more, following)
        self._has_failed = False
        self._lock = threading.Lock()
        self.done = 0

    def run(self, case: Callable[[random.Random], object]) -> None:
        """Run cases, made of their chance alone, until the time is up; one raises where a target misbehaves.

        Raises:
            AssertionError: a case failed; the message names its seed.
        """
        until = time.monotonic() + SECONDS
        while time.monotonic() < until and (seed := self._next()) is not None:
            try:
                case(random.Random(seed))
            # Not Exception alone: pytest.fail and its time-out are none, and the seed is told of them too.
            except BaseException as error:
                self._has_failed = True  # so that the others end
                raise AssertionError(
                    f"case {seed} failed"
                    f" (again: TRAFFIC_VISION_FUZZ_SEED={seed} TRAFFIC_VISION_FUZZ_CASES=1):"
                    f" {type(error).__name__}: {str(error)[:1000]}"
                ) from error
            with self._lock:
                self.done += 1

    def _next(self) -> int | None:
        with self._lock:
            return None if self._has_failed else next(self._seeds, None)


def run_cases(case: Callable[[random.Random], object], once_more: Sequence[int] = ()) -> int:
    """Run a target's cases until the time is up; gives how many there were.

    Args:
        case: one case, made of that chance alone; raises where the target misbehaves.
        once_more: seeds that failed once, which come first.

    Raises:
        AssertionError: a case failed; the message names its seed.
    """
    cases = Cases(once_more)
    cases.run(case)
    print(f"{cases.done} cases from seed {cases.first}")
    assert cases.done
    return cases.done


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
