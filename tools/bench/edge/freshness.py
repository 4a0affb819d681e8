"""`bench edge freshness`: how old a detection is when a client has it, by a number burnt into the picture.

The camera notes when it gave birth to each numbered frame (`tools.bench.edge.cameras`), the model reads the
number out of the pixels that it infers (`tools.bench.edge.numbers`), and the client here notes when the
detection came. The age is the difference of two readings of one clock, and the daemon's own word is in
neither; it is only checked against them.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from tools.bench.edge.clients import Client, Receipt
from tools.bench.edge.daemon import BenchDaemon, write_config
from tools.bench.edge.machine import Watched
from tools.bench.edge.numbers import number_of, reading_model
from tools.bench.edge.slope import Slope, slope
from tools.bench.edge.subject import SIZES, Sized, load_sized, make_video
from tools.bench.edge.turns import Progress
from tools.bench.report import Report, Table, Target
from tools.bench.rounds import BenchError, Spread
from tools.bench.subject import FRAME_SIZE

RATES_HZ = (5.0, 10.0, 15.0, 30.0)
SLACK_MS = 5.0
GROWTH_MS = 1.0  # over the run: less is no growth that a client could meet
GROWTH_FROM_S = 60.0  # a shorter run says nothing of growth
_SETTLE = 5  # frames that are not counted: the first ones wait for what is made once
_FRAME_HW = (FRAME_SIZE[1], FRAME_SIZE[0])
_VIDEO_FRAMES = 240


@dataclass(frozen=True, slots=True)
class FreshnessSettings:
    """How much is measured.

    Attributes:
        seconds: of each rate at each size.
        threads: of one inference.
        weights: a checkpoint or model file; the shipped baseline unless given.
        video: in place of the one made here.
        sizes: input sizes, of a checkpoint.
        rates_hz: frames per second of the camera.
    """

    seconds: float = 15.0
    threads: int = 2
    weights: Path | None = None
    video: Path | None = None
    sizes: tuple[tuple[int, int], ...] = SIZES
    rates_hz: tuple[float, ...] = RATES_HZ


@dataclass(frozen=True, slots=True)
class Ages:
    """What came of one rate at one size.

    Attributes:
        rate_hz: of the camera.
        born: frames that it gave birth to while ages were taken.
        at_s, age_ms, inference_ms: of each detection: when, how old at the client, how long the model took.
        contradicted: detections whose number was born at another time than the daemon says.
    """

    rate_hz: float
    born: int
    at_s: list[float]
    age_ms: list[float]
    inference_ms: list[float]
    contradicted: int

    @property
    def p50_limit_ms(self) -> float:
        """Inference, half a camera period where the camera outruns the model, and the slack."""
        inference, period = float(np.median(self.inference_ms)), 1e3 / self.rate_hz
        return inference + (period / 2 if period < inference else 0.0) + SLACK_MS

    @property
    def growth(self) -> Slope:
        """Of the age over the run, ms."""
        found, length = slope(self.at_s, self.age_ms), self.at_s[-1] - self.at_s[0]
        return Slope(found.estimate * length, found.low * length, found.high * length)


def bench_freshness(settings: FreshnessSettings, progress: Progress = lambda done, of: None) -> Report:
    """Measure each rate at each size, one after the other.

    Raises:
        TrafficVisionError: the weights or the video cannot be used, or the daemon failed.
    """
    watched = Watched()
    if settings.seconds <= 0 or min(settings.rates_hz) <= 0:
        raise BenchError("seconds and rates must be more than 0")
    results: dict[str, list[Ages]] = {}
    with tempfile.TemporaryDirectory(prefix="traffic-vision-bench-") as name:
        folder = Path(name)
        loaded = load_sized(settings.weights, settings.sizes, folder)
        video = settings.video or make_video(folder / "drive.mp4", _VIDEO_FRAMES)
        runs = [(each, rate) for each in loaded for rate in settings.rates_hz]
        for done, (each, rate) in enumerate(runs):
            progress(done, len(runs))
            place = folder / f"{each.title}-{rate:g}"
            results.setdefault(each.title, []).append(_measure(each, rate, video, settings, place))
        progress(len(runs), len(runs))
    return _report(settings, results, watched)


def _measure(sized: Sized, rate_hz: float, video: Path, settings: FreshnessSettings, folder: Path) -> Ages:
    folder.mkdir(parents=True)
    births = folder / "births"
    model = reading_model(sized.model, _FRAME_HW, folder / "reading.onnx")
    where = f"video={quote(str(video.absolute()))}&rate={rate_hz:g}&births={quote(str(births))}"
    camera = {"url": f"benchcam:stamped?{where}"}
    config = write_config(folder, camera, folder / "reading.onnx", settings.threads)
    with BenchDaemon(config) as daemon, Client(daemon.address, keep_detections=True) as client:
        client.wait_for(_SETTLE, 30.0)
        begun_ns = client.receipts[_SETTLE - 1].received_ns
        until_ns = begun_ns + round(settings.seconds * 1e9)
        while client.receipts[-1].received_ns < until_ns:
            client.wait_for(len(client.receipts) + 1, 30.0)
        receipts = client.receipts[_SETTLE:]
    born = {}
    for line in births.read_text().splitlines():
        number, _, time_ns = line.partition(" ")
        born[int(number)] = int(time_ns)
    meanwhile = sum(begun_ns <= time_ns <= receipts[-1].received_ns for time_ns in born.values())
    return _ages(receipts, born, meanwhile, rate_hz, model)


def _ages(receipts: list[Receipt], born: dict[int, int], meanwhile: int, rate_hz: float, model: Any) -> Ages:
    births_ns = []
    for receipt in receipts:
        number = number_of(receipt.detections, _FRAME_HW, model)
        if number not in born:
            raise BenchError(f"frame {number} was read, and the camera never made it")
        births_ns.append(born[number])
    pairs = list(zip(receipts, births_ns, strict=True))
    return Ages(
        rate_hz,
        meanwhile,
        at_s=[receipt.received_ns / 1e9 for receipt in receipts],
        age_ms=[(receipt.received_ns - born_ns) / 1e6 for receipt, born_ns in pairs],
        inference_ms=[receipt.inference_ns / 1e6 for receipt in receipts],
        contradicted=sum(receipt.captured_ns != born_ns for receipt, born_ns in pairs),
    )


def _report(settings: FreshnessSettings, results: dict[str, list[Ages]], watched: Watched) -> Report:
    sizes: dict[str, Any] = {}
    tables, targets, notes = [], [], [watched.to_text()]
    if settings.seconds < GROWTH_FROM_S:
        notes.append(f"growth is judged in runs of {GROWTH_FROM_S:g} s and more (--minutes 20)")
    for title, runs in results.items():
        rows: list[tuple[str | float | None, ...]] = []
        sizes[title] = []
        for ages in runs:
            age, inference, growth = Spread.of(ages.age_ms), Spread.of(ages.inference_ms), ages.growth
            limit = ages.p50_limit_ms
            distribution = {
                f"p{p}_ms": round(float(np.percentile(ages.age_ms, p)), 3) for p in (5, 25, 75, 95)
            }
            sizes[title].append(
                {
                    "rate_hz": ages.rate_hz,
                    "born": ages.born,
                    "detections": len(ages.age_ms),
                    "age": {**age.to_json("ms"), **distribution, "max_ms": round(max(ages.age_ms), 3)},
                    "inference": inference.to_json("ms"),
                    "p50_limit_ms": round(limit, 3),
                    "growth_ms": _finite(growth),
                    "contradicted": ages.contradicted,
                }
            )
            interval = f"{growth.low:+.1f} to {growth.high:+.1f}"
            spread = (age.min, age.p50, age.p99, max(ages.age_ms), inference.p50, inference.p99)
            rows.append((f"{ages.rate_hz:g}", *spread, interval))
            label = f"{title} at {ages.rate_hz:g} frames/s: age"
            targets += [
                Target(f"{label} p50, ms", round(age.p50, 2), round(limit, 2)),
                Target(f"{label} p99, ms", round(age.p99, 2), round(2 * limit, 2)),
                Target(f"{label} contradicted by the daemon, detections", ages.contradicted, 0),
            ]
            if settings.seconds >= GROWTH_FROM_S:
                grown = f"{label}'s growth over the run, ms (low end of 95 %)"
                targets.append(Target(grown, round(growth.low, 3), GROWTH_MS))
            if age.p50 > limit or age.p99 > 2 * limit:
                notes.append(f"{label}, ms: {_percentiles(ages.age_ms)}")
                notes.append(f"  inference there, ms: {_percentiles(ages.inference_ms)}")
        columns = ("frames/s", "min", "p50", "p99", "max", "inf p50", "inf p99", "growth, 95 %")
        heading = f"{title}, age at the client in ms, {settings.seconds:g} s each, {settings.threads} threads"
        tables.append(Table(heading, columns, rows))
    figures = {
        "threads": settings.threads,
        "seconds": settings.seconds,
        "sizes": sizes,
        "machine_state": watched.to_json(),
    }
    return Report("edge-freshness", figures, targets, tables, notes)


def _finite(found: Slope) -> dict[str, float | None]:
    values = {"estimate": found.estimate, "low": found.low, "high": found.high}
    return {name: round(value, 4) if np.isfinite(value) else None for name, value in values.items()}


def _percentiles(values: list[float]) -> str:
    at = (5, 25, 50, 75, 95, 99)
    return ", ".join(f"p{p} {value:.1f}" for p, value in zip(at, np.percentile(values, at), strict=True))
