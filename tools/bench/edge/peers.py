"""`bench edge peers`: from a video's packets to boxes, the daemon beside loops around other runtimes.

All take the same video, weights, input shape and precision (float32; OpenVINO is told so), in turns.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tools.bench import contenders
from tools.bench.contenders import Finder, Task, UnavailableError
from tools.bench.edge.clients import Client
from tools.bench.edge.daemon import BenchDaemon, write_config
from tools.bench.edge.machine import Watched
from tools.bench.edge.subject import Reel, Sized, load_sized, make_video
from tools.bench.edge.throughput import DAEMON, Settings, frames_of_a_turn
from tools.bench.edge.turns import Contender, Progress, Turn, daemon_turns, in_turns, loop_turns, ratios
from tools.bench.report import Report, Table
from tools.bench.rounds import Spread

_MARGIN = 1.5
NEEDS_RAW = "needs the raw export: give a .pt as --weights"


def bench_peers(settings: Settings, progress: Progress = lambda done, of: None) -> Report:
    """Measure them in turns, at each size.

    Raises:
        TrafficVisionError: the weights or the video cannot be used, or the daemon failed.
    """
    watched = Watched()
    sizes: dict[str, Any] = {}
    tables, notes = [], []
    with tempfile.TemporaryDirectory(prefix="traffic-vision-bench-") as name:
        folder = Path(name)
        loaded = load_sized(settings.weights, settings.sizes, folder)
        frames = {each.title: frames_of_a_turn(each, settings) for each in loaded}
        needed = round(_MARGIN * (settings.rounds + 1) * (max(frames.values()) + 4))
        video = settings.video or make_video(folder / "drive.mp4", needed)
        for each in loaded:
            turns, missing = _measure(
                each, video, settings, frames[each.title], folder / each.title, progress
            )
            table, entries = _compared(each, turns, settings, frames[each.title])
            entries += [{"name": peer, "not_measured": reason} for peer, reason in missing.items()]
            sizes[each.title] = {"contenders": entries}
            tables.append(table)
            notes += [f"not measured at {each.title}: {peer}: {reason}" for peer, reason in missing.items()]
    notes.append(watched.to_text())
    figures = {
        "model": f"{loaded[0].model.metadata.name} {loaded[0].model.metadata.version}",
        "threads": settings.threads,
        "rounds": settings.rounds,
        "sizes": sizes,
        "machine_state": watched.to_json(),
    }
    return Report("edge-peers", figures, [], tables, notes)


def _measure(
    sized: Sized, video: Path, settings: Settings, frames: int, folder: Path, progress: Progress
) -> tuple[dict[str, list[Turn]], dict[str, str]]:
    camera = {"url": str(video.absolute()), "pace": "lockstep"}
    config = write_config(folder, camera, sized.path, settings.threads)
    with ExitStack() as opened:
        peers, missing = _peers(sized, video, settings.threads, opened)
        daemon = opened.enter_context(BenchDaemon(config))
        client = opened.enter_context(Client(daemon.address))
        client.wait_for(1, 30.0)
        taking_part = {DAEMON: daemon_turns(daemon, client), **peers}
        return in_turns(taking_part, settings.rounds, frames, progress=progress), missing


def _peers(
    sized: Sized, video: Path, threads: int, opened: ExitStack
) -> tuple[dict[str, Contender], dict[str, str]]:
    metadata = sized.model.metadata
    task = Task(sized.input_hw, metadata.layout, metadata.score_threshold, metadata.iou_threshold, threads)
    peers: dict[str, Contender] = {
        "plain loop, OpenCV + ONNX Runtime": _loop(contenders.plain_loop(sized.model, task), video, opened)
    }
    missing: dict[str, str] = {}
    makers: dict[str, Callable[[Path], Contender]] = {
        "OpenCV dnn": lambda raw: _loop(contenders.opencv_dnn(raw, task), video, opened),
        "OpenVINO f32": lambda raw: _loop(contenders.openvino_f32(raw, task), video, opened),
        "ultralytics, its own predict loop": lambda raw: _ultralytics(raw, task, video, opened),
    }
    for name, maker in makers.items():
        try:
            if sized.raw is None:
                raise UnavailableError(NEEDS_RAW)
            peers[name] = maker(sized.raw)
        except UnavailableError as error:
            missing[name] = str(error)
    return peers, missing


def _loop(find: Finder, video: Path, opened: ExitStack) -> Contender:
    reel = Reel(video)
    opened.callback(reel.close)
    return loop_turns(lambda: find(reel.read()))


def _ultralytics(raw: Path, task: Task, video: Path, opened: ExitStack) -> Contender:
    """Its `predict` over the video itself, as a stream: it opens, decodes and letterboxes by itself."""
    from cloud.pipeline.ultralytics_boundary import MissingCloudExtraError, import_ultralytics

    try:
        package = import_ultralytics()
    except MissingCloudExtraError:
        raise UnavailableError("not installed (pip install 'traffic-vision[cloud]')") from None
    model = package.YOLO(str(raw), task="detect")

    def results() -> Iterator[Any]:
        while True:
            yield from model.predict(
                str(video),
                stream=True,
                imgsz=list(task.input_hw),
                conf=task.score_threshold,
                iou=task.iou_threshold,
                device="cpu",
                verbose=False,
            )

    stream = results()
    opened.callback(stream.close)  # type: ignore[attr-defined]  # a generator
    return loop_turns(lambda: len(next(stream).boxes))


def _compared(
    sized: Sized, turns: dict[str, list[Turn]], settings: Settings, frames: int
) -> tuple[Table, list[dict[str, Any]]]:
    means = {name: [turn.mean_ms for turn in taken] for name, taken in turns.items()}
    rows: list[Sequence[str | float | None]] = []
    entries: list[dict[str, Any]] = []
    for name, taken in turns.items():
        spread = Spread.of([time_ms for turn in taken for time_ms in turn.frame_ms])
        rate = 1e3 / Spread.of(means[name]).p50
        ratio = ratios(means[DAEMON], means[name])  # of times upside down: of frames a second
        interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
        rows.append((name, rate, spread.min, spread.p50, spread.p99, f"{ratio.median:.3f}", interval))
        entries.append(
            {
                "name": name,
                "frames_per_s_p50": round(rate, 3),
                **spread.to_json("ms"),
                "rate_over_daemon": round(ratio.median, 4),
                "rate_over_daemon_95": [round(ratio.low, 4), round(ratio.high, 4)],
            }
        )
    title = (
        f"{sized.title}, decode + inference + boxes, {settings.rounds} rounds of {frames} frames,"
        f" {settings.threads} threads"
    )
    columns = ("ms a frame", "frames/s", "min", "p50", "p99", "over daemon", "95 %")
    return Table(title, columns, rows), entries
