"""Real clients of the daemon under test, each on a thread of its own, noting what came when."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from types import TracebackType

from edge.serve.client import PerceptionClient
from protos.traffic_vision.v1 import common_pb2
from tools.bench.rounds import BenchError

JOIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """One message, as the client saw it. Times are this machine's monotonic clock, ns.

    Attributes:
        received_ns: when it came.
        published_ns: when the daemon says that it published it.
        captured_ns: the frame's own time.
        inference_ns: how long the model took.
        detections: what was found.
        dropped: messages lost before it.
        model_sha256: of the model file that found it.
        sequence: the daemon's number of the frame.
    """

    received_ns: int
    published_ns: int
    captured_ns: int
    inference_ns: int
    detections: tuple[common_pb2.Detection, ...]
    dropped: int
    model_sha256: str = ""
    sequence: int = -1


class Client:
    """Takes every message from its making on, until it is closed."""

    def __init__(self, address: str, *, keep_detections: bool = False) -> None:
        """Connect; the daemon may still be starting.

        Args:
            address: of the perception service.
            keep_detections: whether receipts hold them.
        """
        self.receipts: list[Receipt] = []
        self._keep = keep_detections
        self._news = threading.Condition()
        self._client = PerceptionClient(address)
        self._thread = threading.Thread(target=self._take, name="bench-client", daemon=True)
        self._thread.start()

    def wait_for(self, count: int, timeout_s: float) -> None:
        """Wait until so many messages have come in all.

        Raises:
            BenchError: they did not come in time.
        """
        with self._news:
            if not self._news.wait_for(lambda: len(self.receipts) >= count, timeout_s):
                raise BenchError(
                    f"a client got {len(self.receipts)} of {count} messages within {timeout_s:g} s;"
                    " the daemon is stuck, or its video is too short"
                )

    def close(self) -> None:
        """End it."""
        self._client.close()
        self._thread.join(JOIN_S)

    def __enter__(self) -> Client:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        self.close()

    def _take(self) -> None:
        for message in self._client.detections():
            now_ns = time.monotonic_ns()
            found = message.detections
            receipt = Receipt(
                received_ns=now_ns,
                published_ns=found.published.monotonic_ns,
                captured_ns=found.frame.captured.monotonic_ns,
                inference_ns=found.times.inference_ns,
                detections=tuple(found.detections) if self._keep else (),
                dropped=message.dropped_messages,
                model_sha256=found.model.sha256,
                sequence=found.frame.sequence,
            )
            with self._news:
                self.receipts.append(receipt)
                self._news.notify_all()
