"""A fleet service for tests, on loopback with mutual TLS: it keeps what it is sent, and misbehaves as told.

In a test's own process: `with serving(Cloud(...), authority) as address`. As a process that can be killed:
`python -m tests.fleet_cloud FOLDER PORT`; it prints `port N`, then `stored ID` or `known ID` for each sample.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from edge.files import atomic_write
from edge.fleet.channel import ChannelOptions
from protos.handshake import INSTANCE_METADATA
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.traffic_vision.v1 import fleet_pb2_grpc as fleet_grpc
from tests.certificates import SERVER_NAME, Authority, Issued

STORED = fleet.UPLOAD_OUTCOME_STORED
DUPLICATE = fleet.UPLOAD_OUTCOME_DUPLICATE
REFUSED = fleet.UPLOAD_OUTCOME_REFUSED
DEFERRED = fleet.UPLOAD_OUTCOME_DEFERRED


@dataclass(frozen=True)
class Answer:
    """How to answer one sample: an outcome, or one of the ways not to answer.

    Attributes:
        outcome: `STORED` is made `DUPLICATE` where the sample is known.
        keep: whether the sample is stored, whatever is said.
        hold: answers wait until so many are held, then all go out, the last first.
        cut: abort the stream with this status instead of answering.
        silent: say nothing.
    """

    outcome: int = STORED
    reason: int = 0
    retry_after_ms: int = 0
    keep: bool = True
    hold: int = 0
    cut: grpc.StatusCode | None = None
    silent: bool = False


class Cloud(fleet_grpc.FleetServiceServicer):
    """Answers uploads by a plan: a function of the sample's id and how often it has been sent."""

    def __init__(self, plan: Callable[[str, int], Answer] = lambda item_id, attempt: Answer()) -> None:
        self.plan = plan
        self.content: dict[str, bytes] = {}
        self.inserts: Counter[str] = Counter()  # how often an id entered the store as new
        self.attempts: Counter[str] = Counter()
        self.conflicts: list[str] = []
        self.streams = 0
        self.open_streams = 0
        self.peers: list[str] = []
        self.instances: list[object] = []  # as the calls' metadata says
        self.changed = threading.Condition()

    def wait_for(self, holds: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
        """Wait until something that the cloud sees holds."""
        with self.changed:
            assert self.changed.wait_for(holds, timeout_s), f"not within {timeout_s} s: {what}"

    def UploadSamples(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for item_id, answer in self._answers(((r.sample.id, r.sample) for r in request_iterator), context):
            yield fleet.UploadSamplesResponse(
                sample_id=item_id,
                outcome=answer.outcome,
                reason=answer.reason,
                retry_after_ms=answer.retry_after_ms,
            )

    def UploadFeatures(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for item_id, answer in self._answers(((r.series.id, r.series) for r in request_iterator), context):
            yield fleet.UploadFeaturesResponse(
                series_id=item_id,
                outcome=answer.outcome,
                reason=answer.reason,
                retry_after_ms=answer.retry_after_ms,
            )

    def _answers(
        self, items: Iterator[tuple[str, Any]], context: grpc.ServicerContext
    ) -> Iterator[tuple[str, Answer]]:
        held: list[tuple[str, Answer]] = []
        with self.changed:
            self.streams += 1
            self.open_streams += 1
            names = context.auth_context().get("x509_common_name", [b""])
            self.peers.append(names[0].decode())
            self.instances.append(dict(context.invocation_metadata()).get(INSTANCE_METADATA))
            self.changed.notify_all()
        try:
            for item_id, message in items:
                answer = self._take(item_id, message)
                if answer.cut is not None:
                    context.abort(answer.cut, "cut by the test")
                if answer.silent:
                    continue
                held.append((item_id, answer))
                if len(held) >= answer.hold:
                    yield from reversed(held)
                    held.clear()
            yield from reversed(held)
        finally:
            with self.changed:
                self.open_streams -= 1
                self.changed.notify_all()

    def _take(self, item_id: str, message: Any) -> Answer:
        with self.changed:
            self.attempts[item_id] += 1
            answer = self.plan(item_id, self.attempts[item_id])
            known = self.content.get(item_id)
            content = message.SerializeToString(deterministic=True)
            if answer.keep and answer.outcome in (STORED, DUPLICATE):
                if known is None:
                    self.content[item_id] = content
                    self.inserts[item_id] += 1
                elif known != content:
                    self.conflicts.append(item_id)
                elif answer.outcome == STORED:
                    answer = Answer(DUPLICATE, hold=answer.hold, cut=answer.cut, silent=answer.silent)
            self.changed.notify_all()
            return answer


class _Killable(fleet_grpc.FleetServiceServicer):
    """Stores each sample as a file before it says so."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def UploadSamples(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for request in request_iterator:
            sample = request.sample
            path = self._folder / sample.id
            known = path.exists()
            if known:
                assert path.read_bytes() == sample.jpeg
            else:
                atomic_write(path, sample.jpeg)
            print("known" if known else "stored", sample.id, flush=True)
            yield fleet.UploadSamplesResponse(sample_id=sample.id, outcome=DUPLICATE if known else STORED)


@contextmanager
def serving(
    cloud: fleet_grpc.FleetServiceServicer, authority: Authority, own: Issued | None = None
) -> Iterator[str]:
    """Serve on loopback; vehicles must have a certificate of the same authority. Gives HOST:PORT."""
    with ThreadPoolExecutor(max_workers=16) as threads:
        server, port = _start(threads, cloud, own or authority.server(), authority.certificate, 0)
        try:
            yield f"127.0.0.1:{port}"
        finally:
            assert server.stop(grace=None).wait(timeout=30)


def _start(
    threads: ThreadPoolExecutor, cloud: fleet_grpc.FleetServiceServicer, own: Issued, ca: bytes, port: int
) -> tuple[grpc.Server, int]:
    server = grpc.server(threads)
    fleet_grpc.add_FleetServiceServicer_to_server(cloud, server)
    credentials = grpc.ssl_server_credentials([(own.key, own.certificate)], ca, require_client_auth=True)
    port = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    server.start()
    return server, port


def vehicle_options(
    folder: Path, address: str, authority: Authority, own: Issued, **more: Any
) -> ChannelOptions:
    """Write a vehicle's certificates into a folder; the options that use them."""
    folder.mkdir(exist_ok=True)
    (folder / "ca.crt").write_bytes(authority.certificate)
    certificate, key = own.write(folder, "client")
    more.setdefault("server_name", SERVER_NAME)
    return ChannelOptions(address, folder / "ca.crt", certificate, key, **more)


def sample(item_id: str, size: int = 200) -> bytes:
    """A sample as it lies in the spool, whose content follows from its id."""
    jpeg = (item_id.encode() + b"|") * (size // (len(item_id) + 1) + 1)
    message = fleet.Sample(id=item_id, jpeg=jpeg, jpeg_sha256=hashlib.sha256(jpeg).hexdigest())
    return message.SerializeToString()


def main() -> None:
    """Serve from FOLDER (`server.crt`, `server.key`, `ca.crt`, and `store/`) on PORT until killed."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    own = Issued((folder / "server.crt").read_bytes(), (folder / "server.key").read_bytes())
    threads, ca = ThreadPoolExecutor(max_workers=16), (folder / "ca.crt").read_bytes()
    server, port = _start(threads, _Killable(folder / "store"), own, ca, port)
    print("port", port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
