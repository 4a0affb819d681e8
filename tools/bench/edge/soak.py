"""`bench edge soak`: what the daemon holds at the end of a long run of what makes programs leak.

A camera is lost and comes back, clients come, go, stall and are cut off, and the model is swapped 200 times.

While a model changes, the daemon holds two, and that for as long as the machine lets it: a machine that grows
busy would look like a leak. What it holds is therefore read between the changes.
"""

from __future__ import annotations

import random
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge.redaction import redact
from edge.serve.client import ClientError, PerceptionClient
from protos.traffic_vision.v1 import common_pb2, perception_pb2
from tools.bench.edge.at_rest import at_rest, least_of_minutes
from tools.bench.edge.clients import JOIN_S
from tools.bench.edge.daemon import BenchDaemon, write_config
from tools.bench.edge.machine import Footprint, Watched
from tools.bench.edge.slope import slope
from tools.bench.edge.subject import another_version, load_sized
from tools.bench.edge.turns import Progress
from tools.bench.report import Report, Table, Target
from tools.bench.rounds import BenchError

SIZE = (384, 640)
RSS_MB_PER_HOUR = 4.0  # 100 MB a day; a leak of a few kilobytes a swap or a reconnect is beyond it
SETTLED_SHARE = 0.1  # of the run, at its start, is not counted: allocators and pools reach their size
LOSSY_CAMERA = "benchcam:lossy?rate=10&frames=40"
_SAMPLE_S = 1.0
_CHURN_PAUSE_S = 0.5
_STALL_S = 1.0
_SETTLE_S = 1.0  # after a change of model: the memory is given back at its end


@dataclass(frozen=True, slots=True)
class SoakSettings:
    """How much.

    Attributes:
        minutes: of the run.
        swaps: of the model, spread evenly over it.
        threads: of one inference.
        weights: a checkpoint or model file; the shipped baseline unless given.
        camera: its URL; the lossy one of the bench unless given.
    """

    minutes: float = 30.0
    swaps: int = 200
    threads: int = 1
    weights: Path | None = None
    camera: str | None = None


@dataclass(slots=True)
class _Run:
    """What happens, counted; times are seconds of it."""

    began: float = field(default_factory=time.monotonic)
    stopping: threading.Event = field(default_factory=threading.Event)
    at_s: list[float] = field(default_factory=list)
    footprints: list[Footprint] = field(default_factory=list)
    changes: list[tuple[float, float]] = field(default_factory=list)
    swapped: int = 0
    refused: list[str] = field(default_factory=list)
    clients: int = 0
    messages: int = 0


def bench_soak(settings: SoakSettings, progress: Progress = lambda done, of: None) -> Report:
    """Run it, and look at the daemon every second.

    Raises:
        TrafficVisionError: the weights or the camera cannot be used, or the daemon ended.
    """
    if settings.minutes <= 0 or settings.swaps < 0:
        raise BenchError("minutes must be more than 0, and swaps not negative")
    watched, run = Watched(), _Run()
    with tempfile.TemporaryDirectory(prefix="traffic-vision-bench-") as name:
        folder = Path(name)
        (sized,) = load_sized(settings.weights, (SIZE,), folder)
        models = (sized.model.data, another_version(sized.model, 2))
        factory = folder / "factory.onnx"
        factory.write_bytes(models[0])
        camera = {"url": settings.camera or LOSSY_CAMERA}
        config = write_config(folder / "daemon", camera, factory, settings.threads)
        with BenchDaemon(config) as daemon:
            jobs = [
                threading.Thread(target=_swap, args=(run, daemon.address, factory, models, settings)),
                threading.Thread(target=_churn, args=(run, daemon.address, 1)),
                threading.Thread(target=_churn, args=(run, daemon.address, 2)),
            ]
            for job in jobs:
                job.start()
            try:
                _watch(run, daemon, settings, progress)
            finally:
                run.stopping.set()
                for job in jobs:
                    job.join(2 * JOIN_S)
            with PerceptionClient(daemon.address) as client:
                status = client.status().status.cameras[0]
            daemon.stop()
            frames = daemon.event("frames", 1.0)["frames"]
    return _report(settings, run, status, dict(frames), watched)


def _watch(run: _Run, daemon: BenchDaemon, settings: SoakSettings, progress: Progress) -> None:
    length = settings.minutes * 60
    while (elapsed := time.monotonic() - run.began) < length:
        try:
            found = Footprint.of(daemon.pid)
        except OSError:
            raise BenchError(f"the daemon ended after {elapsed:.0f} s: {daemon.last_words()}") from None
        run.at_s.append(elapsed)
        run.footprints.append(found)
        progress(round(elapsed), round(length))
        run.stopping.wait(_SAMPLE_S)
        if not daemon.runs:
            raise BenchError(f"the daemon ended after {elapsed:.0f} s: {daemon.last_words()}")


def _swap(
    run: _Run, address: str, factory: Path, models: tuple[bytes, bytes], settings: SoakSettings
) -> None:
    if not settings.swaps:
        return
    every_s = settings.minutes * 60 / settings.swaps
    with PerceptionClient(address) as client:
        for number in range(1, settings.swaps + 1):
            if run.stopping.wait(max(0.0, run.began + (number - 0.5) * every_s - time.monotonic())):
                return
            new = factory.with_suffix(".new")
            new.write_bytes(models[number % 2])
            new.replace(factory)
            begin = time.monotonic() - run.began
            run.changes.append((begin, float("inf")))
            try:
                answer = client.reload(common_pb2.SLOT_FACTORY)
            except ClientError as error:
                run.refused.append(str(error))
                continue
            finally:
                run.changes[-1] = (begin, time.monotonic() - run.began)
            if answer.outcome == perception_pb2.RELOAD_OUTCOME_SWAPPED:
                run.swapped += 1
            else:
                run.refused.append(answer.detail)


def _churn(run: _Run, address: str, seed: int) -> None:
    """Clients one after the other: some take a few messages, some stall, some go without a word."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    while not run.stopping.wait(_CHURN_PAUSE_S * chance.random()):
        run.clients += 1
        with suppress(ClientError), PerceptionClient(address) as client:
            # A camera in back-off sends nothing; the timer takes the client away from a stream that waits.
            leave = threading.Timer(5.0, client.close)
            leave.start()
            try:
                _take_some(run, client, chance)
            finally:
                leave.cancel()
                leave.join(JOIN_S)


def _take_some(run: _Run, client: PerceptionClient, chance: random.Random) -> None:
    kind = chance.randrange(4)
    if kind == 0:
        client.status()
    elif kind == 1:
        next(client.drift(), None)
    else:
        messages = client.detections(queue_limit=chance.choice((0, 1, 3)))
        for _ in range(chance.randrange(1, 8)):
            if next(messages, None) is None:
                return
            run.messages += 1
            if kind == 3:
                run.stopping.wait(_STALL_S * chance.random())


def _report(
    settings: SoakSettings,
    run: _Run,
    status: common_pb2.CameraStatus,
    frames: dict[str, int],
    watched: Watched,
) -> Report:
    first = int(len(run.at_s) * SETTLED_SHARE)
    at_s, kept = run.at_s[first:], run.footprints[first:]
    rests = at_rest(at_s, run.changes, _SETTLE_S)
    rest_s = [time_s for time_s, rest in zip(at_s, rests, strict=True) if rest]
    resting = [found for found, rest in zip(kept, rests, strict=True) if rest]
    if not resting:
        raise BenchError("the model changed all the time: fewer swaps, or more minutes")
    rss_mb = [found.rss_bytes / 1e6 for found in resting]
    growth = slope([time_s / 3600 for time_s in rest_s], rss_mb)
    series = {
        "RSS between changes, MB": rss_mb,
        "RSS at all times, MB": [found.rss_bytes / 1e6 for found in kept],
        # Clients hold some while they are there: what is leaked is in the least of each minute.
        "threads, the least of each minute": least_of_minutes(
            rest_s, [float(found.threads) for found in resting]
        ),
        "descriptors, the least of each minute": least_of_minutes(
            rest_s, [float(found.descriptors) for found in resting]
        ),
    }
    rows, figures = [], {}
    for name, values in series.items():
        tenth = max(1, len(values) // 10)
        start, end = float(np.median(values[:tenth])), float(np.median(values[-tenth:]))
        rows.append((name, start, end, min(values), max(values)))
        figures[name] = {"start": start, "end": end, "min": min(values), "max": max(values)}
    captured = frames.pop("captured")
    reconnects = status.epoch
    targets = [
        Target("RSS between changes, MB an hour (low end of 95 %)", round(growth.low, 2), RSS_MB_PER_HOUR),
        *(
            Target(f"{name}, end over start", figures[name]["end"] - figures[name]["start"], 0)
            for name in series
            if not name.startswith("RSS")
        ),
        Target("swaps", run.swapped, settings.swaps, at_least=True),
        Target("frames that left in no counted way", abs(captured - sum(frames.values())), 0),
    ]
    camera = redact(settings.camera) if settings.camera else "the bench's lossy one"
    notes = [
        f"RSS between changes {growth.estimate:+.2f} MB an hour, 95 %: {growth.low:+.2f} to"
        f" {growth.high:+.2f} (Theil-Sen); the first {SETTLED_SHARE:.0%} of the run are left out",
        f"{len(resting)} of {len(kept)} looks were between two changes of model, which took"
        f" {_changing_s(run):.1f} s (p50)",
        *growth.verdict(RSS_MB_PER_HOUR, "RSS, MB an hour,"),
        f"camera: {camera}; {reconnects} reconnects, {run.swapped} swaps, {run.clients} clients that took"
        f" {run.messages} messages; frames: {captured} captured, "
        + ", ".join(f"{count} {way}" for way, count in frames.items() if count),
        *(f"a swap did not come about: {reason}" for reason in dict.fromkeys(run.refused)),
        watched.to_text(),
    ]
    figures_all: dict[str, Any] = {
        "minutes": settings.minutes,
        "camera": camera,
        "reconnects": reconnects,
        "swaps": run.swapped,
        "swaps_refused": len(run.refused),
        "clients": run.clients,
        "messages": run.messages,
        "frames": {"captured": captured, **frames},
        "rss_mb_per_hour": round(growth.estimate, 3),
        "rss_mb_per_hour_95": [
            round(end, 3) if np.isfinite(end) else None for end in (growth.low, growth.high)
        ],
        "looks": len(kept),
        "looks_between_changes": len(resting),
        "change_p50_s": round(_changing_s(run), 3),
        "process": figures,
        "rss_mb_series": [round(value, 1) for value in rss_mb[:: max(1, len(rss_mb) // 120)]],
        "machine_state": watched.to_json(),
    }
    title = f"{settings.minutes:g} minutes, a look a second; start and end: medians of a tenth of the run"
    return Report(
        "edge-soak", figures_all, targets, [Table(title, ("", "start", "end", "min", "max"), rows)], notes
    )


def _changing_s(run: _Run) -> float:
    return float(np.median([end - begin for begin, end in run.changes])) if run.changes else 0.0
