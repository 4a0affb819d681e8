"""What the monitor costs: processor time a frame beyond the features, the features themselves, and memory."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import cv2
import numpy as np
import numpy.typing as npt

from edge.drift import DriftMonitor, Reference, combine, fit
from edge.drift.features import NAMES, extract
from tools.bench.drift.delay import TAU_S
from tools.bench.drift.outcome import Outcome
from tools.bench.drift.setting import DriftSettings, Progress
from tools.bench.drift.streams import JUDGED_SEEDS, ar1, rho_of
from tools.bench.report import Table, Target
from tools.bench.rounds import Spread, interleave
from tools.drives.light import light
from tools.drives.render import render

FEATURES, CONTEXTS = 16, 3
RATES_HZ = (30.0, 2.0)
FRAME_US, FEATURES_MS, MEMORY_MB = 60.0, 1.0, 5.0
FRAME_SIZE = (1280, 720)
_APART = 8.0  # standard deviations between two contexts
_HOURS = 4.4
_FULL_S = 600.0  # of each context before it counts: every window is full
_TRACED_S = 60.0
_QUICK_HOURS, _QUICK_S, _QUICK_TRACED_S = 0.05, 60.0, 10.0
_BOXES = 8
_PICTURES = 6
_CLASS_NAMES = ("car", "person", "truck", "bicycle")
_TURN = 20  # rounds in one context
_SEED = 9_900


@dataclass(frozen=True, slots=True)
class _Watched:
    """A monitor, and frames for it: a stretch of each context."""

    reference: Reference
    frames: tuple[npt.NDArray[np.float32], ...]


def measure_cost(settings: DriftSettings, progress: Progress) -> Outcome:
    """Time a second of frames at each rate and the features of one frame, in turns."""
    rounds = 20 if settings.quick else 600
    hours = _QUICK_HOURS if settings.quick else _HOURS
    full_s = _QUICK_S if settings.quick else _FULL_S
    watched = {rate: _watched(rate, hours, full_s) for rate in (RATES_HZ[:1] if settings.quick else RATES_HZ)}
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    spent: dict[str, list[float]] = {}
    try:
        contenders = {_name(rate): _second(each, rate) for rate, each in watched.items()}
        contenders["features"] = _features()
        timed = {name: _with_cpu(run, spent.setdefault(name, [])) for name, run in contenders.items()}
        times = interleave(timed, rounds, progress=progress)
    finally:
        cv2.setNumThreads(threads)
    memory = _memory_mb(watched[RATES_HZ[0]], _QUICK_TRACED_S if settings.quick else _TRACED_S)
    return _outcome(times, spent, memory, watched[RATES_HZ[0]].reference, rounds)


def _name(rate_hz: float) -> str:
    return f"monitor at {rate_hz:g} frames/s"


def _watched(rate_hz: float, hours: float, full_s: float) -> _Watched:
    rng = np.random.default_rng(JUDGED_SEEDS[_SEED])
    names = [f"feature {number}" for number in range(FEATURES)]
    frames = round(hours * 3600 * rate_hz)
    references, stretches = [], []
    for number in range(CONTEXTS):
        series = ar1(rng, rho_of(TAU_S * rate_hz), frames, FEATURES).astype(np.float32) + number * _APART
        references.append(fit(series, rate_hz, names, context=f"context {number}"))
        stretches.append(series[: round(full_s * rate_hz)])
    return _Watched(combine(*references), tuple(stretches))


def _second(watched: _Watched, rate_hz: float) -> Callable[[int], object]:
    """Take a second of frames each round: one judgement; a while in each context, all windows full before."""
    monitor = DriftMonitor(watched.reference)
    numbers = count()

    def take(context: int, position: int) -> None:
        number = next(numbers)
        monitor.observe(round(number * 1e9 / rate_hz), watched.frames[context][position])

    for context, stretch in enumerate(watched.frames):
        for position in range(len(stretch)):
            take(context, position)
    a_second = round(rate_hz)

    def run(number: int) -> None:
        context = number // _TURN % CONTEXTS
        begin = number * a_second % (len(watched.frames[context]) - a_second)
        for position in range(begin, begin + a_second):
            take(context, position)

    return run


def _features() -> Callable[[int], object]:
    """The features of a simulated frame with some boxes in it."""
    noon, rng = light("noon"), np.random.default_rng(JUDGED_SEEDS[_SEED])
    pictures = [render(drive, 20.0, noon, FRAME_SIZE).image for drive in range(_PICTURES)]
    width, height = FRAME_SIZE
    corners = rng.uniform((0, 0), (0.8 * width, 0.8 * height), (_BOXES, 2))
    sides = rng.uniform(20, 200, (_BOXES, 2))
    scores = rng.uniform(0.25, 1.0, (_BOXES, 1))
    boxes = np.hstack([corners, corners + sides, scores, rng.integers(0, 4, (_BOXES, 1))]).astype(np.float32)
    return lambda number: extract(pictures[number % _PICTURES], boxes, class_names=_CLASS_NAMES)


def _with_cpu(run: Callable[[int], object], spent: list[float]) -> Callable[[int], object]:
    """The thread's own time, which a busy machine does not add to, goes aside."""

    def timed(number: int) -> object:
        started = time.thread_time_ns()
        result = run(number)
        if number >= 0:
            spent.append((time.thread_time_ns() - started) / 1e6)
        return result

    return timed


def _memory_mb(watched: _Watched, traced_s: float) -> float:
    """What a monitor holds once it has watched each context, its reference included, MB."""
    data = watched.reference.to_bytes()
    rate_hz = watched.reference.rate_hz
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        monitor = DriftMonitor(Reference.from_bytes(data))
        numbers = count()
        for stretch in watched.frames:
            for vector in stretch[: round(traced_s * rate_hz)]:
                monitor.observe(round(next(numbers) * 1e9 / rate_hz), vector)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / 1e6


def _outcome(
    times: dict[str, list[float]],
    spent: dict[str, list[float]],
    memory_mb: float,
    reference: Reference,
    rounds: int,
) -> Outcome:
    a_frame = dict.fromkeys(times, 1.0) | {_name(rate): round(rate) for rate in RATES_HZ}
    wall = {name: Spread.of([1e3 * t / a_frame[name] for t in each]) for name, each in times.items()}
    cpu = {name: Spread.of([1e3 * t / a_frame[name] for t in each]) for name, each in spent.items()}
    file_kb = len(reference.to_bytes()) / 1e3 / CONTEXTS
    rows = [
        (name, wall[name].min, wall[name].p50, wall[name].p99, cpu[name].min, cpu[name].p50) for name in times
    ]
    title = f"cost: {FEATURES} features, {CONTEXTS} contexts, one thread, {rounds} rounds in turns"
    columns = ("us a frame", "min", "p50", "p99", "CPU min", "CPU p50")
    return Outcome(
        figures={
            "rounds": rounds,
            "a_frame": {name: {**wall[name].to_json("us"), **cpu[name].to_json("cpu_us")} for name in times},
            "features_extracted": len(NAMES),
            "memory_mb": round(memory_mb, 3),
            "reference_kb_a_context": round(file_kb, 2),
        },
        targets=[
            Target(
                "cost: us of processor time a frame beyond the features, p50",
                round(cpu[_name(RATES_HZ[0])].p50, 2),
                FRAME_US,
            ),
            Target(
                "cost: ms for the features of a frame, p50", round(wall["features"].p50 / 1e3, 3), FEATURES_MS
            ),
            Target("cost: MB of memory of a monitor", round(memory_mb, 2), MEMORY_MB),
        ],
        tables=[Table(title, columns, rows)],
        notes=[
            f"memory: {memory_mb:.2f} MB; the reference's file has {file_kb:.1f} kB a context; the features"
            f" are the daemon's {len(NAMES)} of a {FRAME_SIZE[0]}x{FRAME_SIZE[1]} frame with {_BOXES} boxes"
        ],
    )
