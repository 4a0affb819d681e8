"""What to send next and what an answer means: the rules of an upload stream, without threads and wire."""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field

import grpc

from edge.backoff import Backoff, BackoffOptions
from protos.traffic_vision.v1 import fleet_pb2

_RETRY_LIMIT_S = 3600.0
# An item that seems to break the stream is left alone, so that others may pass: longer each time, to this.
_SUSPECT_LIMIT_S = 600.0
_SUSPECT_FACTOR = 4.0

# Ways for a stream to end that say nothing about what was sent in it.
_TRANSPORT = frozenset(
    {
        grpc.StatusCode.OK,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


class Fate(enum.Enum):
    """What becomes of an item after its answer."""

    ACKNOWLEDGE = enum.auto()  # the cloud has it
    DISCARD = enum.auto()  # the cloud will never take it
    KEEP = enum.auto()  # it is sent again
    STRAY = enum.auto()  # an answer to nothing that was asked in this stream


@dataclass(slots=True)
class UploadCounts:
    """Since the start.

    Attributes:
        sent, sent_bytes: on the wire; an item may be among them more than once.
        stored, duplicates: what the cloud said that it has.
        deferred: answers that asked to come again later.
        refused: what will never be taken, by reason.
        strays: answers to nothing that was asked.
        unanswered: sent, and the stream ended before the answer.
    """

    sent: int = 0
    sent_bytes: int = 0
    stored: int = 0
    duplicates: int = 0
    deferred: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    strays: int = 0
    unanswered: int = 0


@dataclass(frozen=True, slots=True)
class _Suspect:
    strikes: int
    until_s: float


class UploadRules:
    """One upload lane. Times are seconds of any clock that does not go back."""

    def __init__(self, limit: int, backoff: BackoffOptions | None = None) -> None:
        """At most `limit` items without an answer at a time."""
        self.counts = UploadCounts()
        self._limit = limit
        self._window = limit
        self._in_flight: set[str] = set()
        self._answered = False  # in this stream
        self._resume_s = -math.inf
        self._backoff = Backoff(backoff)
        self._suspects: dict[str, _Suspect] = {}

    @property
    def in_flight(self) -> Set[str]:
        """Sent in this stream, and without an answer."""
        return self._in_flight

    def limit_to(self, limit: int) -> None:
        """Take the cloud's word for how many may be in flight."""
        self._limit = max(1, limit)
        self._window = min(self._window, self._limit)

    def wait_s(self, now_s: float) -> float:
        """Seconds until an item may be sent: 0 now, infinite where an answer must come first."""
        if len(self._in_flight) >= self._window:
            return math.inf
        return max(0.0, self._resume_s - now_s)

    def skip(self, now_s: float) -> Set[str]:
        """The ids that are not to be sent now."""
        return self._in_flight | {name for name, suspect in self._suspects.items() if suspect.until_s > now_s}

    def skips_until_s(self, now_s: float) -> float | None:
        """Seconds until the first of the items that wait alone may be tried again; None: there is none."""
        waits = [suspect.until_s - now_s for suspect in self._suspects.values() if suspect.until_s > now_s]
        return min(waits, default=None)

    def sent(self, item_id: str, size_bytes: int) -> None:
        """An item goes out."""
        self._in_flight.add(item_id)
        self.counts.sent += 1
        self.counts.sent_bytes += size_bytes

    def postpone(self, item_id: str, now_s: float) -> None:
        """Let an item wait that cannot go now, so that others may pass."""
        strikes = self._suspects[item_id].strikes + 1 if item_id in self._suspects else 0
        wait_s = min(_SUSPECT_LIMIT_S, self._backoff.options.initial_s * _SUSPECT_FACTOR**strikes)
        # What was dropped from the spool meanwhile is never heard of again.
        self._suspects = {
            name: suspect
            for name, suspect in self._suspects.items()
            if suspect.until_s > now_s - 2 * _SUSPECT_LIMIT_S
        }
        self._suspects[item_id] = _Suspect(strikes, now_s + wait_s)

    def answer(self, item_id: str, outcome: int, reason: int, retry_after_ms: int, now_s: float) -> Fate:
        """Take an answer; the numbers are those of `UploadOutcome` and `RefusalReason`."""
        if item_id not in self._in_flight:
            self.counts.strays += 1
            return Fate.STRAY
        self._in_flight.discard(item_id)
        self._suspects.pop(item_id, None)
        self._answered = True
        self._window = min(self._limit, self._window * 2)
        if outcome in (fleet_pb2.UPLOAD_OUTCOME_STORED, fleet_pb2.UPLOAD_OUTCOME_DUPLICATE):
            self._backoff.reset()
            if outcome == fleet_pb2.UPLOAD_OUTCOME_STORED:
                self.counts.stored += 1
            else:
                self.counts.duplicates += 1
            return Fate.ACKNOWLEDGE
        if outcome == fleet_pb2.UPLOAD_OUTCOME_REFUSED:
            self.counts.refused[reason_name(reason)] += 1
            return Fate.DISCARD
        # DEFERRED is said of the vehicle's quota or the cloud's store, so it is the whole lane that waits. An
        # outcome that a newer cloud knows and we do not is safe to treat alike.
        self.counts.deferred += 1
        wait_s = min(max(retry_after_ms / 1000, self._backoff.next_s()), _RETRY_LIMIT_S)
        self._resume_s = max(self._resume_s, now_s + wait_s)
        return Fate.KEEP

    def closed(self, code: grpc.StatusCode, now_s: float) -> None:
        """The stream is over: what has no answer will be sent again, one by one where it may be to blame."""
        if self._in_flight and not self._answered:
            if self._window == 1 and code not in _TRANSPORT:
                for item_id in self._in_flight:
                    self.postpone(item_id, now_s)
            self._window = 1
        self.counts.unanswered += len(self._in_flight)
        self._in_flight.clear()
        self._answered = False


def reason_name(reason: int) -> str:
    """A refusal's reason as files and metrics call it: "too_large", "digest"..."""
    if reason not in fleet_pb2.RefusalReason.values():
        return f"reason_{reason}"
    return fleet_pb2.RefusalReason.Name(reason).removeprefix("REFUSAL_REASON_").lower()
