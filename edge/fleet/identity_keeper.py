"""Keeps the vehicle's certificate from ending, as a part of the daemon: one thread that mostly sleeps.

By its own clock it knows when to ask; by the cloud's, which the answer tells, whether the time has come. So a
clock that is wrong costs a question now and then, and neither renews over and over nor forgets to. A cloud
that lets this vehicle in no more is asked too: by its clock the certificate may have ended.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone

import grpc

from edge.backoff import Backoff, BackoffOptions
from edge.certificates import parse_certificate, read_pem
from edge.config import CloudConfig
from edge.errors import TrafficVisionError
from edge.fleet.channel import explain, open_enrolment_channel
from edge.fleet.identity import (
    Identity,
    accept,
    new_key,
    read_identity,
    renewal_due,
    renewal_request,
    used_since,
    write_identity,
)
from edge.fleet.renewable_channel import RenewableChannel
from edge.machine.disk_budget import DiskLane
from protos.traffic_vision.v1 import common_pb2, enrolment_pb2
from protos.traffic_vision.v1.enrolment_pb2_grpc import EnrolmentServiceStub

logger = logging.getLogger(__name__)

_JITTER = 0.05  # of a certificate's life
_CALL_S = 20.0
_CHANCE = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class KeeperOptions:
    """How patient.

    Attributes:
        look_s: between two looks at the clock and the connection.
        alone_s: without a connection for so long, the cloud is asked whether the certificate has ended.
        retry: between tries to renew.
        refused_s: after the cloud said no, or that the time has not come.
    """

    look_s: float = 60.0
    alone_s: float = 60.0
    retry: BackoffOptions = field(default_factory=lambda: BackoffOptions(initial_s=2.0, limit_s=60.0))
    refused_s: float = 3600.0


class IdentityKeeper:
    """A `BackgroundPart`."""

    name = "identity"

    def __init__(
        self,
        config: CloudConfig,
        channel: RenewableChannel,
        is_connected: Callable[[], bool],
        disk: DiskLane,
        options: KeeperOptions | None = None,
        *,
        instance_id: str = "",
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Read the certificate; nothing is asked before `start`.

        Args:
            config: where the certificate is, and where it is renewed.
            channel: is told that there is a new one. Its owner closes it.
            is_connected: whether the cloud lets this vehicle in.
            disk: counts what is written.
            options: how patient.
            instance_id: that the control stream tells: while that is open, nobody else renews.
            wall_ns: this machine's clock, which may be wrong.

        Raises:
            CertificateError: there is no certificate, or no key, that can be used.
        """
        self._config = config
        self._channel = channel
        self._is_connected = is_connected
        self._disk = disk
        self._options = options or KeeperOptions()
        self._instance_id = instance_id
        self._wall_ns = wall_ns
        self._retry = Backoff(self._options.retry)
        self._jitter = _CHANCE.uniform(-_JITTER, _JITTER)
        self._certificate = parse_certificate(config.cert, read_pem(config.cert))
        self._authority_pem = read_pem(config.ca)
        self._authority = parse_certificate(config.ca, self._authority_pem)
        self._said = ""
        self._connected_s = time.monotonic()  # when it last was
        self._asking: grpc.Channel | None = None
        self._lock = threading.Lock()  # guards `_asking` against `stop`
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        """Start the thread, where there is something to renew at."""
        if self._config.enrol_address is not None:
            self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end, and cut what it asks. Returns at once; may be called twice."""
        self._stopping.set()
        with self._lock:
            if self._asking is not None:
                self._asking.close()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; False where it hangs."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def fill_status(self, status: common_pb2.VehicleStatus) -> None:
        """Add when the certificate ends."""
        ends = self._certificate.not_valid_after_utc
        status.certificate_expires_wall_ns = int(ends.timestamp()) * 10**9

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                pause_s = self._step(self._config.enrol_address or "")
            except Exception:  # a thread's top
                if self._stopping.is_set():
                    return
                logger.exception("a defect in the renewal of the certificate; it goes on after a pause")
                pause_s = self._options.refused_s
            self._stopping.wait(pause_s)

    def _step(self, address: str) -> float:
        """Look, and ask where it is time; seconds until the next look."""
        now_s = time.monotonic()
        if self._is_connected():
            self._connected_s = now_s
        due = renewal_due(self._certificate, self._jitter)
        left_s = (due - self._now()).total_seconds()
        if left_s > 0 and now_s - self._connected_s < self._options.alone_s:
            return min(left_s, self._options.look_s)
        try:
            return self._ask(address, due)
        except grpc.RpcError as error:
            if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.PERMISSION_DENIED:
                return self._failed(error.details() or "", lasting=True)
            if left_s > 0:  # the cloud is out of reach, as it may be
                return _CHANCE.uniform(4, 6) * self._options.alone_s
            return self._failed(explain(error), lasting=False)
        except (TrafficVisionError, OSError) as error:
            return self._failed(str(error), lasting=True)

    def _ask(self, address: str, due: datetime) -> float:
        identity = read_identity(self._config.key)
        if identity.certificate != self._certificate:  # enrolled anew by hand
            self._take_over(identity)
            return 0.0
        if not os.access(self._config.key.parent, os.W_OK):
            return self._failed(f"{self._config.key.parent} cannot be written to", lasting=True)
        with open_enrolment_channel(address, self._authority_pem) as channel:
            with self._lock:
                self._asking = channel
            if self._stopping.is_set():
                return 0.0
            try:
                stub = EnrolmentServiceStub(channel)
                begun = stub.BeginRenewal(enrolment_pb2.BeginRenewalRequest(), timeout=_CALL_S)
                left_s = (due - _time(begun.server_wall_ns)).total_seconds()
                if left_s > 0:
                    self._retry.reset()
                    return min(left_s, self._options.refused_s)
                renewed = self._renew(stub, identity, begun.nonce)
            finally:
                with self._lock:
                    self._asking = None
        self._put_in(renewed)
        return 0.0

    def _renew(self, stub: EnrolmentServiceStub, identity: Identity, nonce: bytes) -> Identity:
        key = new_key()
        request = renewal_request(identity, key, nonce, self._instance_id)
        answer = stub.Renew(request, timeout=_CALL_S)
        return accept(key, answer.certificate_der, self._authority)

    def _put_in(self, identity: Identity) -> None:
        self._disk.wrote(write_identity(self._config.key, identity))
        self._take_over(identity)

    def _take_over(self, identity: Identity) -> None:
        self._certificate = identity.certificate
        self._channel.renew()
        self._connected_s = time.monotonic()
        self._retry.reset()
        self._said = ""
        logger.info(
            "a new certificate is in use, until %s",
            f"{identity.ends:%Y-%m-%d %H:%MZ}",
            extra={"event": "certificate_renewed", "until": identity.ends.isoformat()},
        )

    def _now(self) -> datetime:
        """Not before the certificate was made: a board without a clock battery wakes up in the past."""
        return max(_time(self._wall_ns()), used_since(self._certificate))

    def _failed(self, why: str, *, lasting: bool) -> float:
        new, self._said = why != self._said, why
        logger.log(
            logging.WARNING if new else logging.DEBUG,
            "the certificate, until %s, cannot be renewed: %s",
            f"{self._certificate.not_valid_after_utc:%Y-%m-%d}",
            why,
            extra={"event": "certificate_not_renewed"},
        )
        pause_s = self._retry.next_s()
        return _CHANCE.uniform(0.9, 1.1) * self._options.refused_s if lasting else pause_s


def _time(wall_ns: int) -> datetime:
    return datetime.fromtimestamp(wall_ns / 1e9, timezone.utc)
