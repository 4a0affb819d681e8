"""`bench edge throughput`: frames a second with everything running, beside the barest loop there is.

The daemon captures, decodes, infers, watches drift and serves two clients, in lock-step. The bare loop
decodes the same video with the same decoder and calls `session.run` with the same threads on the same model,
with an input that is ready: it does not even resize.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tools.bench.contenders import session
from tools.bench.edge.clients import Client
from tools.bench.edge.daemon import BenchDaemon, write_config
from tools.bench.edge.machine import Watched
from tools.bench.edge.subject import SIZES, Reel, Sized, load_sized, make_video
from tools.bench.edge.turns import Progress, Turn, daemon_turns, in_turns, loop_turns, ratios, verdict_note
from tools.bench.report import Report, Table, Target
from tools.bench.rounds import Spread

TARGET = 0.95
DAEMON, BARE = "daemon, everything running", "bare loop: decode + session.run"
_MARGIN = 1.3  # frames of the video over those that are needed: machines speed up


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is measured.

    Attributes:
        rounds: turns of each contender.
        seconds: of a turn, about.
        threads: of one inference.
        weights: a checkpoint or model file; the shipped baseline unless given.
        video: in place of the one made here.
        sizes: input sizes, of a checkpoint.
    """

    rounds: int = 10
    seconds: float = 2.0
    threads: int = 2
    weights: Path | None = None
    video: Path | None = None
    sizes: tuple[tuple[int, int], ...] = SIZES


def bench_throughput(settings: Settings, progress: Progress = lambda done, of: None) -> Report:
    """Measure the daemon and the bare loop in turns, at each size.

    Raises:
        TrafficVisionError: the weights or the video cannot be used, or the daemon failed.
    """
    watched = Watched()
    with tempfile.TemporaryDirectory(prefix="traffic-vision-bench-") as name:
        folder = Path(name)
        loaded = load_sized(settings.weights, settings.sizes, folder)
        frames = {each.title: frames_of_a_turn(each, settings) for each in loaded}
        needed = round(_MARGIN * (settings.rounds + 1) * (max(frames.values()) + 4))
        video = settings.video or make_video(folder / "drive.mp4", needed)
        turns = {
            each.title: _measure(each, video, settings, frames[each.title], folder / each.title, progress)
            for each in loaded
        }
    return _report(settings, loaded, turns, watched)


def frames_of_a_turn(sized: Sized, settings: Settings) -> int:
    """How many frames fill a turn, by a few runs of the model."""
    run = bare_step(sized, settings.threads)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return max(3, round(settings.seconds / min(times)))


def bare_step(sized: Sized, threads: int, reel: Reel | None = None) -> Any:
    """One step of the bare loop; without a video, of the model alone."""
    running = session(sized.model.data, threads)
    name = running.get_inputs()[0].name
    ready = np.full((1, *sized.input_hw, 3), 114, np.uint8)

    def step() -> object:
        if reel is not None:
            reel.read()
        return running.run(None, {name: ready})

    return step


def _measure(
    sized: Sized, video: Path, settings: Settings, frames: int, folder: Path, progress: Progress
) -> dict[str, list[Turn]]:
    camera = {"url": str(video.absolute()), "pace": "lockstep"}
    config = write_config(folder, camera, sized.path, settings.threads)
    with ExitStack() as opened:
        reel = Reel(video)
        opened.callback(reel.close)
        bare = loop_turns(bare_step(sized, settings.threads, reel))
        daemon = opened.enter_context(BenchDaemon(config))
        client, second = (opened.enter_context(Client(daemon.address)) for _ in range(2))
        client.wait_for(1, 30.0)
        second.wait_for(1, 30.0)
        contenders = {DAEMON: daemon_turns(daemon, client), BARE: bare}
        return in_turns(contenders, settings.rounds, frames, progress=progress)


def _report(
    settings: Settings, loaded: Sequence[Sized], turns: dict[str, dict[str, list[Turn]]], watched: Watched
) -> Report:
    sizes: dict[str, Any] = {}
    tables, targets, notes = [], [], [watched.to_text()]
    for title, by_name in turns.items():
        rows: list[tuple[str | float | None, ...]] = []
        contenders = {}
        for name, taken in by_name.items():
            spread = Spread.of([time_ms for turn in taken for time_ms in turn.frame_ms])
            rates = Spread.of([1e3 / turn.mean_ms for turn in taken])
            cpu = float(np.median([turn.cpu_ms for turn in taken]))
            rows.append((name, rates.p50, spread.min, spread.p50, spread.p99, cpu))
            contenders[name] = {
                "frames_per_s_p50": round(rates.p50, 3),
                **spread.to_json("ms"),
                "cpu_ms_per_frame": round(cpu, 2),
                "turn_mean_ms": [round(turn.mean_ms, 3) for turn in taken],
            }
        bare, daemon = ([turn.mean_ms for turn in by_name[name]] for name in (BARE, DAEMON))
        ratio = ratios(bare, daemon)  # of times upside down: of frames a second
        frames = len(by_name[DAEMON][0].frame_ms)
        sizes[title] = {
            "contenders": contenders,
            "ratio": round(ratio.median, 4),
            "ratio_95": [round(ratio.low, 4), round(ratio.high, 4)],
        }
        label = f"frames/s at {title}, daemon over bare loop"
        targets.append(Target(label, round(ratio.median, 4), TARGET, at_least=True))
        notes += verdict_note(label, ratio, TARGET)
        columns = ("ms a frame", "frames/s", "min", "p50", "p99", "cpu")
        heading = f"{title}, {len(bare)} rounds of {frames} frames, {settings.threads} threads"
        tables.append(Table(heading, columns, rows))
    figures = {
        "model": f"{loaded[0].model.metadata.name} {loaded[0].model.metadata.version}",
        "threads": settings.threads,
        "rounds": settings.rounds,
        "clients": 2,
        "sizes": sizes,
        "machine_state": watched.to_json(),
    }
    return Report("edge-throughput", figures, targets, tables, notes)
