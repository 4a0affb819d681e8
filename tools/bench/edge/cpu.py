"""`bench edge cpu`: processor time a frame at 5 frames/s, beside a bare loop that waits as long.

What a process burns between frames (threads that spin, timers that tick) shows here and nowhere else.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tools.bench.edge.clients import Client
from tools.bench.edge.daemon import BenchDaemon, write_config
from tools.bench.edge.machine import Watched
from tools.bench.edge.subject import Reel, load_sized, make_video
from tools.bench.edge.throughput import BARE, DAEMON, Settings, bare_step
from tools.bench.edge.turns import Progress, daemon_turns, in_turns, loop_turns, ratios, verdict_note
from tools.bench.report import Report, Table, Target
from tools.bench.rounds import Spread

RATE_HZ = 5.0
TARGET = 1.15
SIZE = (384, 640)
_MARGIN_S = 20.0


def bench_cpu(settings: Settings, progress: Progress = lambda done, of: None) -> Report:
    """Measure both in turns.

    Args:
        settings: how much; its sizes are not looked at.
        progress: told how many rounds are done.

    Raises:
        TrafficVisionError: the weights or the video cannot be used, or the daemon failed.
    """
    watched = Watched()
    frames = max(2, round(settings.seconds * RATE_HZ))
    with tempfile.TemporaryDirectory(prefix="traffic-vision-bench-") as name, ExitStack() as opened:
        folder = Path(name)
        (sized,) = load_sized(settings.weights, (SIZE,), folder)
        needed = (settings.rounds + 1) * (frames + 3) + round(_MARGIN_S * RATE_HZ)
        video = make_video(folder / "drive.mp4", needed, RATE_HZ)
        config = write_config(folder / "daemon", {"url": str(video)}, sized.path, settings.threads)
        reel = Reel(video)
        opened.callback(reel.close)
        bare = loop_turns(bare_step(sized, settings.threads, reel), period_s=1 / RATE_HZ)
        daemon = opened.enter_context(BenchDaemon(config))
        client, second = (opened.enter_context(Client(daemon.address)) for _ in range(2))
        client.wait_for(1, 30.0)
        second.wait_for(1, 30.0)
        contenders = {DAEMON: daemon_turns(daemon, client), BARE: bare}
        turns = in_turns(contenders, settings.rounds, frames, progress=progress)
    cpu = {name: [turn.cpu_ms for turn in taken] for name, taken in turns.items()}
    ratio = ratios(cpu[DAEMON], cpu[BARE])
    spreads = {name: Spread.of(values) for name, values in cpu.items()}
    label = f"processor time a frame at {sized.title} and {RATE_HZ:g} frames/s, daemon over bare loop"
    figures: dict[str, Any] = {
        "rate_hz": RATE_HZ,
        "input_hw": list(sized.input_hw),
        "threads": settings.threads,
        "rounds": settings.rounds,
        "frames_per_turn": frames,
        "contenders": {
            name: {**spread.to_json("cpu_ms"), "turns_cpu_ms": [round(value, 3) for value in cpu[name]]}
            for name, spread in spreads.items()
        },
        "ratio": round(ratio.median, 4),
        "ratio_95": [round(ratio.low, 4), round(ratio.high, 4)],
        "machine_state": watched.to_json(),
    }
    rows = [(name, spread.min, spread.p50, spread.p99) for name, spread in spreads.items()]
    title = f"{settings.rounds} rounds of {frames} frames, {settings.threads} threads"
    return Report(
        "edge-cpu",
        figures,
        [Target(label, round(ratio.median, 4), TARGET)],
        [Table(title, ("cpu ms a frame", "min", "p50", "p99"), rows)],
        [watched.to_text(), *verdict_note("processor time", ratio, TARGET)],
    )
