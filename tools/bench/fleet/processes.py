"""The processes of a fleet benchmark: the cloud, watched, and the vehicles, listened to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import grpc

from protos import handshake
from protos.traffic_vision.v1 import common_pb2, fleet_pb2, fleet_pb2_grpc
from tools.bench.edge.machine import Footprint, cpu_ns
from tools.bench.fleet.setting import PROBE, identity_of
from tools.bench.rounds import BenchError

STOP_S = 20.0
SAMPLE_S = 0.5
PROBE_PAUSE_S = 0.1
CLOUD_CORES = 2  # that the cloud's process may use
_COMMAND = (sys.executable, "-c", "from tools.cli import main; main()")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a vehicle did, and when (monotonic seconds)."""

    vehicle: int
    event: str
    release: int
    at_s: float


class Events:
    """What the vehicles tell, from the threads that read it."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._told: list[Event] = []
        self._changed = threading.Condition()

    def add(self, event: Event) -> None:
        """Take one."""
        with self._changed:
            self._told.append(event)
            self._changed.notify_all()

    def when(self, event: str) -> dict[int, float]:
        """When each vehicle told this first."""
        with self._changed:
            found: dict[int, float] = {}
            for told in self._told:
                if told.event == event:
                    found.setdefault(told.vehicle, told.at_s)
            return found

    def confirmed(self, counter: int) -> dict[int, float]:
        """When each vehicle had confirmed this release, or a later one."""
        with self._changed:
            found: dict[int, float] = {}
            for told in self._told:
                if told.event == "confirmed" and told.release >= counter:
                    found.setdefault(told.vehicle, told.at_s)
            return found

    def wait(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until it holds, looking after each event and now and then; False where it does not."""
        end_s = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() >= end_s:
                return False
            with self._changed:
                self._changed.wait(0.2)
        return True


@contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Start what begins in this block on so many of this thread's cores; where the system has no such bounds,
    on all.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    all_of_them = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_of_them)[:count])  # a child inherits it with its first thread
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_of_them)


def cores_of(pid: int) -> list[int]:
    """The cores that any thread of a process may use; empty where the system does not tell."""
    found: set[int] = set()
    if hasattr(os, "sched_getaffinity"):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):  # this thread has ended
                found |= os.sched_getaffinity(int(task.name))
    return sorted(found)


class Cloud:
    """`traffic-vision cloud serve`, and what it used."""

    def __init__(self, folder: Path) -> None:
        """Start it, on `CLOUD_CORES` cores.

        Raises:
            BenchError: it does not serve.
        """
        self._log = (folder / "server.log").open("ab")
        config = folder / "cloud" / "cloud.toml"
        with on_cores(CLOUD_CORES):
            self._process = subprocess.Popen(
                [*_COMMAND, "cloud", "serve", "--config", str(config)],
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().split()
        if line[:1] != ["serving"]:
            self.stop()
            raise BenchError(f"the cloud does not serve; see {folder / 'server.log'}")
        self.address = line[1]
        self.peak_rss_bytes = 0
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def cores(self) -> list[int]:
        """Those that its threads may use at this moment."""
        return cores_of(self._process.pid)

    def cpu_s(self) -> float:
        """Processor seconds so far."""
        return cpu_ns(self._process.pid) / 1e9

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if hasattr(self, "_stopping"):
            self._stopping.set()
            self._watcher.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()

    def _watch(self) -> None:
        while not self._stopping.wait(SAMPLE_S):
            try:
                self.peak_rss_bytes = max(self.peak_rss_bytes, Footprint.of(self._process.pid).rss_bytes)
            except (OSError, ValueError, IndexError):  # it has ended
                return


@contextmanager
def vehicles(
    folder: Path, address: str, count: int, processes: int, fails_each: int, events: Events
) -> Iterator[None]:
    """Run so many vehicles in so many processes, and hear what they tell."""
    with ExitStack() as stack:
        log = stack.enter_context((folder / "vehicles.log").open("ab"))
        for number in range(processes):
            first, last = (count * part // processes for part in (number, number + 1))
            stack.enter_context(_worker(folder, address, first, last, fails_each, events, log))
        yield


@contextmanager
def _worker(
    folder: Path, address: str, first: int, last: int, fails_each: int, events: Events, log: IO[bytes]
) -> Iterator[None]:
    arguments = (folder, address, first, last, fails_each)
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.bench.fleet.worker", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
    )
    assert process.stdin is not None and process.stdout is not None
    output = process.stdout

    def read() -> None:
        for line in output:
            told = json.loads(line)
            events.add(Event(told["vehicle"], told["event"], told["release"], told["at_s"]))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield
    finally:
        process.stdin.close()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(STOP_S)
        output.close()


@dataclass(slots=True)
class Probe:
    """A vehicle that only sends drift events, and notes how long each receipt took, ms.

    A receipt is said once the event is on the cloud's disk: it waits for everything that a control stream
    can wait for.
    """

    latencies_ms: list[float] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self, folder: Path, address: str) -> Iterator[Probe]:
        """Probe until the block ends."""
        identity = identity_of(folder, PROBE)
        credentials = grpc.ssl_channel_credentials(
            *((identity / name).read_bytes() for name in ("ca.crt", "client.key", "client.crt"))
        )
        with grpc.secure_channel(address, credentials) as channel:
            thread = threading.Thread(target=self._probe, args=(channel,), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                self._stopping.set()
                thread.join(STOP_S)

    def _probe(self, channel: grpc.Channel) -> None:
        received = threading.Semaphore(0)
        sent_s = [0.0]

        def requests() -> Iterator[fleet_pb2.ControlRequest]:
            yield fleet_pb2.ControlRequest(
                hello=fleet_pb2.Hello(
                    protocol=handshake.supported(), instance_id=PROBE, hardware_ids=["none"]
                )
            )
            number = 0
            while not self._stopping.wait(PROBE_PAUSE_S):
                number += 1
                state = common_pb2.DriftState(camera="front", verdict=common_pb2.DRIFT_VERDICT_STABLE)
                sent_s[0] = time.monotonic()
                yield fleet_pb2.ControlRequest(
                    drift_event=fleet_pb2.DriftEvent(id=f"probe-{number}", state=state)
                )
                received.acquire()

        call = fleet_pb2_grpc.FleetServiceStub(channel).Control(requests())
        try:
            for response in call:
                if response.HasField("drift_event_receipt"):
                    self.latencies_ms.append((time.monotonic() - sent_s[0]) * 1e3)
                    received.release()
        except grpc.RpcError:
            pass  # the channel was closed
        finally:
            received.release()
