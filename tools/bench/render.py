"""`bench render`: how long one picture of a simulated drive takes on one core."""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2

from tools.bench.report import Report, Table, Target
from tools.bench.rounds import Spread, interleave
from tools.drives.light import light
from tools.drives.render import SIZE, render

TARGET_MS = 10.0
LIGHTS = ("noon", "dusk", "night")
_DRIVES = 10
_STEP_S = 0.1


def bench_render(rounds: int, progress: Callable[[int, int], None] = lambda done, of: None) -> Report:
    """Time `render` at 640x360 by noon, dusk and night, moment after moment of several drives.

    Args:
        rounds: pictures of each light.
        progress: told how many rounds are done.

    Raises:
        BenchError: fewer than one round.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    cpu_ms: dict[str, list[float]] = {name: [] for name in LIGHTS}
    try:
        drawing = {name: _drawing(name, cpu_ms[name]) for name in LIGHTS}
        times = interleave(drawing, rounds, warm_up=2, progress=progress)
    finally:
        cv2.setNumThreads(threads)
    spreads = {name: Spread.of(spent) for name, spent in times.items()}
    cpu = {name: Spread.of(spent) for name, spent in cpu_ms.items()}
    noon = spreads[LIGHTS[0]].p50
    figures = {
        "size": list(SIZE),
        "rounds": rounds,
        "lights": {
            name: {
                **spread.to_json("ms"),
                **cpu[name].to_json("cpu_ms"),
                "p50_ratio_to_noon": round(spread.p50 / noon, 4),
            }
            for name, spread in spreads.items()
        },
    }
    slowest = max(round(spread.p50, 3) for spread in spreads.values())
    title = f"one picture of {SIZE[0]}x{SIZE[1]}, one thread, {rounds} of each light"
    rows = [
        (name, s.min, s.p50, s.p99, s.p50 / noon, cpu[name].min, cpu[name].p50) for name, s in spreads.items()
    ]
    columns = ("ms", "min", "p50", "p99", "ratio", "CPU min", "CPU p50")
    return Report(
        bench="render",
        figures=figures,
        targets=[Target("picture at 640x360 in the slowest light, p50 ms", slowest, TARGET_MS)],
        tables=[Table(title, columns, rows)],
    )


def _drawing(name: str, cpu_ms: list[float]) -> Callable[[int], object]:
    """Draw the moment of a round; the thread's own time, which a busy machine does not add to, goes aside."""
    chosen = light(name)

    def draw(number: int) -> object:
        # Consecutive moments of one drive, as a replay asks for them, then the next drive.
        drive, moment = number // 20 % _DRIVES, number % 20
        started = time.thread_time_ns()
        drawn = render(drive, 20.0 + moment * _STEP_S, chosen)
        if number >= 0:
            cpu_ms.append((time.thread_time_ns() - started) / 1e6)
        return drawn

    return draw
