"""The daemon in blocks of paced frames, its model changed by a local client or left alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from edge.serve.client import PerceptionClient
from protos.traffic_vision.v1 import common_pb2, perception_pb2
from tools.bench.edge.clients import Client, Receipt
from tools.bench.edge.daemon import BenchDaemon
from tools.bench.edge.machine import Footprint
from tools.bench.rounds import BenchError
from tools.bench.swap.blocks import Block, Pair
from tools.bench.swap.phases import Change
from tools.bench.swap.vehicle import Track

SETTLE_S = 0.3  # before a block and after its last change
_LAST_FRAME_S = 2.0
# What a local client may choose at any time. The release that was confirmed last runs first; it is checked
# against its signatures, from the shipped root down, whenever its turn comes again.
SLOTS = (common_pb2.SLOT_FACTORY, common_pb2.SLOT_LAST_GOOD)


@dataclass(slots=True)
class Held:
    """The daemon's memory after each change of model, MB, and what a change took, ms."""

    rss_mb: list[float] = field(default_factory=list)
    took_ms: list[float] = field(default_factory=list)


class DaemonSide:
    """Drives one daemon."""

    def __init__(self, daemon: BenchDaemon, client: Client, track: Track) -> None:
        """Take a daemon that serves, a client of it, and its camera."""
        self.held = Held()
        self._daemon = daemon
        self._client = client
        self._track = track
        self._asking = PerceptionClient(daemon.address)
        self._pause = threading.Event()
        self._swapped = 0
        self._calls: list[tuple[int, int]] = []  # begin and end of each, ns
        self._swapped_ns: list[int] = []
        self._seconds = 0.0  # of the last block with changes

    def close(self) -> None:
        """End the connection."""
        self._asking.close()

    def pair(self, swaps: int, every_s: float, *, calm_first: bool) -> Pair:
        """Two blocks, as long as each other; the first pair of all begins with the changes.

        Args:
            swaps: changes of model in the one.
            every_s: from the start of one to that of the next, at least.
            calm_first: whether the one without comes first.

        Raises:
            BenchError: a change did not come about, or the client lost messages.
        """
        self._track.open()
        try:
            self._pause.wait(SETTLE_S)
            if calm_first and self._seconds:
                before = self._block(0, every_s)
                return Pair(self._block(swaps, every_s), before)
            changed = self._block(swaps, every_s)
            return Pair(changed, self._block(0, every_s))
        finally:
            self._track.shut()

    def changes(self, events: Sequence[Mapping[str, Any]]) -> list[Change]:
        """Each change of model so far, by the client's calls and by the daemon's log up to now."""
        prepared = [event for event in events if event.get("event") == "model_prepared"]
        # The first ones put in what was there before the blocks.
        prepared = prepared[len(prepared) - len(self._calls) :]
        return [
            Change(begin, end, swapped, event["check_ns"], event["load_ns"])
            for (begin, end), swapped, event in zip(self._calls, self._swapped_ns, prepared, strict=True)
        ]

    def missing(self) -> tuple[int, int]:
        """Frames that the client has no detections of, from its first ones to its last: by the camera's
        births, and by the daemon's sequence.
        """
        return missing(self._client.receipts, self._track.born_between)

    def _block(self, swaps: int, every_s: float) -> Block:
        begin_ns = time.monotonic_ns()
        first = max(0, len(self._client.receipts) - 1)
        if swaps:
            for _ in range(swaps):
                self._swap(every_s)
            self._pause.wait(SETTLE_S)
            self._seconds = (time.monotonic_ns() - begin_ns) / 1e9
        else:
            self._pause.wait(self._seconds)
        end_ns = time.monotonic_ns()
        self._see_frame_after(end_ns)
        receipts = self._client.receipts[first:]
        if any(receipt.dropped for receipt in receipts):
            raise BenchError("the bench's own client was too slow, and lost messages")
        block = _block(self._track.born_between(begin_ns, end_ns), receipts)
        if len(block.swapped_ns) != swaps:
            raise BenchError(
                f"the client saw {len(block.swapped_ns)} changes of model in a block with {swaps}"
            )
        self._swapped_ns += block.swapped_ns
        return block

    def _swap(self, every_s: float) -> None:
        began = time.monotonic_ns()
        answer = self._asking.reload(SLOTS[self._swapped % 2])
        ended = time.monotonic_ns()
        took_s = (ended - began) / 1e9
        if answer.outcome != perception_pb2.RELOAD_OUTCOME_SWAPPED:
            said = perception_pb2.ReloadOutcome.Name(answer.outcome)
            raise BenchError(f"change {self._swapped + 1} of the model: {said}: {answer.detail}")
        self._swapped += 1
        self._calls.append((began, ended))
        self.held.took_ms.append(1e3 * took_s)
        self.held.rss_mb.append(Footprint.of(self._daemon.pid).rss_bytes / 1e6)
        self._pause.wait(max(0.0, every_s - took_s))

    def _see_frame_after(self, end_ns: int) -> None:
        limit = time.monotonic() + _LAST_FRAME_S
        while self._client.receipts[-1].captured_ns < end_ns and time.monotonic() < limit:
            self._client.wait_for(len(self._client.receipts) + 1, _LAST_FRAME_S)


def _block(born_ns: list[int], receipts: list[Receipt]) -> Block:
    """A block by the camera's births and by what the client received, whatever the daemon says of it."""
    births = set(born_ns)
    changed = [
        after.published_ns
        for before, after in pairwise(receipts)
        if after.model_sha256 != before.model_sha256 and after.captured_ns in births
    ]
    answered = {
        receipt.captured_ns: receipt.published_ns for receipt in receipts if receipt.captured_ns in births
    }
    return Block(born_ns, answered, changed)


def missing(receipts: list[Receipt], born_between: Callable[[int, int], list[int]]) -> tuple[int, int]:
    """Frames without detections from the first receipt to the last: by births, and by sequence."""
    first, last = receipts[0], receipts[-1]
    born = len(born_between(first.captured_ns, last.captured_ns + 1))
    return born - len(receipts), last.sequence - first.sequence + 1 - len(receipts)


def exchanges(events: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """The gap around each exchange, and how long it held the loop up, ms, by the daemon's own log."""
    found = [event for event in events if event.get("event") == "model_swapped"]
    gaps = [event["gap_ns"] / 1e6 for event in found if event["gap_ns"] is not None]
    return gaps, [event["exchange_ns"] / 1e6 for event in found]
