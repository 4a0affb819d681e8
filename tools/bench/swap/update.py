"""`bench update`: from a release to the first frame on the new model, and what a look for news costs.

A real cloud, a real daemon that drives, real signatures, on loopback; shadow and rollout waits are not asked
for, and the probation that follows is as short as may be. The steps are told apart by what they leave behind:
the rows in the store, the time of the file of metadata that the vehicle fetched first, the daemon's log.

A look for news that finds none is measured on a daemon at rest, beside another at rest that does not look:
two processes over the same stretches of time, by their own processor clocks.
"""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from edge.perception.model_file import parse_model_file
from edge.serve.client import PerceptionClient
from tools.bench.edge.clients import Client
from tools.bench.edge.daemon import BenchDaemon
from tools.bench.edge.machine import Watched, cpu_ns
from tools.bench.edge.subject import Sized, another_version, load_sized, make_video
from tools.bench.edge.turns import Progress
from tools.bench.report import Report, Table, Target
from tools.bench.rounds import BenchError, Spread
from tools.bench.swap.vehicle import IDLE_HZ, VEHICLE, Cloud, Track, monotonic_of_wall_ns

SIZE = (320, 320)
TO_FIRST_FRAME_S = 5.0
CHECK_CPU_MS = 50.0
STEPS = ("signing", "nudge", "metadata, download, slot", "check, load", "exchange, first frame")
_REST_HZ = 0.02  # of the cameras of daemons at rest
_CHECK_EVERY_S = 1.0
_A_DAY_S = 86_400.0
_SOON_S = 60.0
_RELEASE_S = 300.0
_VIDEO_FRAMES = 120
_RATE_HZ = 30.0
_LOOK_S = 0.05
_LOOKING, _RESTING = "looking", "resting"
_LOOKED = "update check:"  # what the daemon's log says at the end of each look
_FIRST_LOOKS = 3  # that are not counted

Done = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class UpdateSettings:
    """How much.

    Attributes:
        releases: how many are made, one after the other.
        checks: looks for news.
        threads: of one inference.
        weights: a checkpoint, exported at `size`, or a model file; the shipped baseline unless given.
        size: height and width of a checkpoint's input.
    """

    releases: int = 20
    checks: int = 100
    threads: int = 2
    weights: Path | None = None
    size: tuple[int, int] = SIZE


@dataclass(frozen=True, slots=True)
class Arrival:
    """One release on its way, in seconds from its beginning.

    Attributes:
        steps: how long each of `STEPS` took.
        total: to the first detections of the new model at a client.
    """

    steps: tuple[float, ...]
    total: float


@dataclass(frozen=True, slots=True)
class Look:
    """One look for news.

    Attributes:
        cpu_ms: processor time of the daemon from one look's end to the next one's.
        rest_ms: the same of the daemon that does not look.
    """

    cpu_ms: float
    rest_ms: float


def bench_update(settings: UpdateSettings, progress: Progress = lambda done, of: None) -> Report:
    """Measure both, the releases first.

    Raises:
        TrafficVisionError: the weights cannot be used, a process failed, or a release did not arrive.
    """
    if min(settings.releases, settings.checks) < 1:
        raise BenchError("releases and checks must be 1 or more")
    watched = Watched()
    steps = settings.releases + settings.checks
    with tempfile.TemporaryDirectory(prefix="traffic-vision-bench-") as name, ExitStack() as opened:
        folder = Path(name)
        (sized,) = load_sized(settings.weights, (settings.size,), folder)
        factory = folder / "factory.onnx"
        factory.write_bytes(sized.model.data)
        video = make_video(folder / "drive.mp4", _VIDEO_FRAMES, _RATE_HZ)
        cloud = opened.enter_context(Cloud(folder / "cloud", VEHICLE, _LOOKING, _RESTING))
        with ExitStack() as driving:
            plan = _Plan(VEHICLE, factory, video, settings.threads, _A_DAY_S, IDLE_HZ)
            daemon, _ = _open(cloud, plan, driving)
            client = driving.enter_context(Client(daemon.address))

            def released(count: int) -> None:
                progress(count, steps)

            arrivals = _releases(cloud, daemon, client, sized, settings.releases, released)
        with ExitStack() as resting:

            def looked(count: int) -> None:
                progress(settings.releases + count, steps)

            looks = _looks(cloud, factory, video, settings, resting, looked)
    return _report(settings, sized, arrivals, looks, watched)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a daemon is to run; while its gate is shut, its camera gives so many frames per second."""

    name: str
    factory: Path
    video: Path
    threads: int
    check_interval_s: float
    idle_hz: float


def _open(cloud: Cloud, plan: _Plan, opened: ExitStack) -> tuple[BenchDaemon, Track]:
    place = cloud.folder_of(plan.name)
    track = Track(plan.video, _RATE_HZ, place / "births", place / "gate")
    config = cloud.daemon_config(
        plan.name,
        track,
        plan.factory,
        plan.threads,
        check_interval_s=plan.check_interval_s,
        idle_hz=plan.idle_hz,
    )
    return opened.enter_context(BenchDaemon(config)), track


def _releases(
    cloud: Cloud, daemon: BenchDaemon, client: Client, sized: Sized, count: int, done: Done
) -> list[Arrival]:
    client.wait_for(1, _SOON_S)
    with PerceptionClient(daemon.address) as asking:
        _until(lambda: asking.status().status.connected_to_cloud, "the vehicle connects")
    pause, chance = threading.Event(), random.Random(1)  # noqa: S311 - no secret
    cached = cloud.folder_of(VEHICLE) / "state" / "slots" / "metadata" / "timestamp.json"
    arrivals = []
    for number in range(count):
        data = another_version(sized.model, 100 + number)
        # Whoever polls, polls at its own moments.
        pause.wait(chance.random())
        arrivals.append(_release(cloud, daemon, client, data, cached))
        done(number + 1)
    return arrivals


def _release(cloud: Cloud, daemon: BenchDaemon, client: Client, data: bytes, cached: Path) -> Arrival:
    digest, seen = parse_model_file(data, "a release").digest, len(daemon.events)
    before, first = _changed_ns(cached), len(client.receipts)
    began_ns = time.monotonic_ns()
    cloud.release(data)
    signed_ns = time.monotonic_ns()
    staged = daemon.event("update_staged", _RELEASE_S, after=seen)
    fetched_ns = _changed_ns(cached)
    if fetched_ns == before:
        raise BenchError("the vehicle staged a release without new metadata")
    swapped = daemon.event("model_swapped", _RELEASE_S, after=seen)
    arrived_ns = _first_of(client, digest, first)
    daemon.event("update_confirmed", _RELEASE_S, after=seen)
    moments = (began_ns, signed_ns, monotonic_of_wall_ns(fetched_ns), staged["read_ns"], swapped["read_ns"])
    # The line of the log and the detections come by two ways, and either may be read first.
    ordered = [*moments[:-1], min(moments[-1], arrived_ns), arrived_ns]
    steps = tuple((after - at) / 1e9 for at, after in pairwise(ordered))
    return Arrival(steps, (arrived_ns - began_ns) / 1e9)


def _until(holds: Callable[[], bool], what: str) -> None:
    pause, end = threading.Event(), time.monotonic() + _SOON_S
    while not holds():
        if time.monotonic() > end:
            raise BenchError(f"not within {_SOON_S:g} s: {what}")
        pause.wait(_LOOK_S)


def _first_of(client: Client, digest: str, first: int) -> int:
    """When the client had the first detections of that model."""
    while True:
        for receipt in client.receipts[first:]:
            if receipt.model_sha256 == digest:
                return receipt.received_ns
        first = len(client.receipts)
        client.wait_for(first + 1, _SOON_S)


def _changed_ns(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _looks(
    cloud: Cloud, factory: Path, video: Path, settings: UpdateSettings, opened: ExitStack, done: Done
) -> list[Look]:
    """Looks for news one after the other, by a daemon at rest beside one that rests and does not look."""
    both = {}
    for name, every_s in ((_RESTING, _A_DAY_S), (_LOOKING, _CHECK_EVERY_S)):
        plan = _Plan(name, factory, video, settings.threads, every_s, _REST_HZ)
        daemon, track = _open(cloud, plan, opened)
        daemon.event("update_confirmed", _RELEASE_S)  # of the newest release: from now on there is no news
        track.shut()
        both[name] = daemon
    looking, resting = both[_LOOKING], both[_RESTING]
    messages = looking.said(_LOOKED, _SOON_S)
    looks: list[Look] = []
    last: tuple[int, int] | None = None
    for number in range(-_FIRST_LOOKS, settings.checks + 1):
        messages = looking.said(_LOOKED, _SOON_S, after=messages)
        now = cpu_ns(looking.pid), cpu_ns(resting.pid)
        if last is not None and number > 0:
            looks.append(Look((now[0] - last[0]) / 1e6, (now[1] - last[1]) / 1e6))
            done(len(looks))
        last = now
    return looks


def _report(
    settings: UpdateSettings, sized: Sized, arrivals: list[Arrival], looks: list[Look], watched: Watched
) -> Report:
    totals = Spread.of([arrival.total for arrival in arrivals])
    own_ms = [look.cpu_ms - look.rest_ms for look in looks]
    cpu = {
        "the daemon, look to look": [look.cpu_ms for look in looks],
        "one that does not look, meanwhile": [look.rest_ms for look in looks],
        "the look": own_ms,
    }
    steps = {name: [arrival.steps[index] for arrival in arrivals] for index, name in enumerate(STEPS)} | {
        "all": [arrival.total for arrival in arrivals]
    }
    look = Spread.of(own_ms)
    columns = ("min", "p50", "p99", "max")
    megabytes = len(sized.model.data) / 1e6
    return Report(
        "update",
        {
            "model": f"{sized.model.metadata.name} {sized.model.metadata.version}",
            "model_mb": round(megabytes, 2),
            "input_hw": list(sized.input_hw),
            "threads": settings.threads,
            "releases": len(arrivals),
            "steps_s": {name: _spread_json(values, "s") for name, values in steps.items()},
            "checks": len(looks),
            "cpu": {name: _spread_json(values, "ms") for name, values in cpu.items()},
            "machine_state": watched.to_json(),
        },
        [
            Target("from a release to its first frame, s, p99", round(totals.p99, 3), TO_FIRST_FRAME_S),
            Target("processor time of a look without news, ms, p99", round(look.p99, 2), CHECK_CPU_MS),
        ],
        [
            Table(
                f"{len(arrivals)} releases of {megabytes:.1f} MB at {_RATE_HZ:g} frames/s: seconds",
                ("", *columns),
                [(name, *_spread(values)) for name, values in steps.items()],
            ),
            Table(
                f"{len(looks)} looks without news, every {_CHECK_EVERY_S:g} s: processor time, ms",
                ("", *columns),
                [(name, *_spread(values)) for name, values in cpu.items()],
            ),
        ],
        [watched.to_text()],
    )


def _spread(values: list[float]) -> tuple[float, float, float, float]:
    spread = Spread.of(values)
    return spread.min, spread.p50, spread.p99, max(values)


def _spread_json(values: list[float], unit: str) -> dict[str, float]:
    return {**Spread.of(values).to_json(unit), f"max_{unit}": round(max(values), 3)}
