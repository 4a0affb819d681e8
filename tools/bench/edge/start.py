"""`bench edge start`: from the start of the process to the first detection at a client, in fresh processes.

Warm: the files of the installation are in the page cache. Cold: they were dropped from it first, one by one
(posix_fadvise(2), which needs no rights); what other processes have mapped stays, so the megabytes that were
really read from disk are told beside it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tools.bench.edge.clients import Client
from tools.bench.edge.daemon import COMMAND, BenchDaemon, write_config
from tools.bench.edge.machine import Watched, read_bytes
from tools.bench.edge.subject import load_sized, make_video
from tools.bench.edge.turns import Progress
from tools.bench.report import Report, Table, Target
from tools.bench.rounds import BenchError, Spread

TARGET_S = 3.0
SIZE = (640, 640)
_FRAMES = 150
_POLL_S = 0.002
_HERE = Path(__file__).resolve().parents[3]
PHASES = (
    "python",
    "command line",
    "imports",
    "configuration",
    "model file",
    "session, first run",
    "first frame",
)

# The daemon's own steps, in a process that tells the time after each; the daemon logs one line at the end.
_SCRIPT = """
import json, sys, time
from pathlib import Path
times = [time.monotonic_ns()]
from tools.cli import root
root.get_command(None, "edge")
times.append(time.monotonic_ns())
import edge.config, edge.daemon, edge.logs, edge.vehicle, edge.drift.part, edge.frames.video_file
times.append(time.monotonic_ns())
config = edge.config.load_config(Path(sys.argv[1]))
times.append(time.monotonic_ns())
from edge.perception.model_file import read_model_file
model = read_model_file(config.model.factory)
times.append(time.monotonic_ns())
from edge.perception.detector import Detector, DetectorOptions
detector = Detector(model, DetectorOptions(threads=config.model.threads))
times.append(time.monotonic_ns())
from edge.frames.sources import open_source
with open_source(config.cameras[0].url) as source:
    detector.detect(next(iter(source)).image)
times.append(time.monotonic_ns())
print(json.dumps(times))
"""


@dataclass(frozen=True, slots=True)
class Start:
    """One start.

    Attributes:
        served_s: until the daemon said that it runs.
        detection_s: until the first detection was at the client.
        read_mb: from disk, until then.
    """

    served_s: float
    detection_s: float
    read_mb: float


def bench_start(
    rounds: int, threads: int, weights: Path | None, progress: Progress = lambda done, of: None
) -> Report:
    """Start the daemon over and over, warm and cold in turns.

    Args:
        rounds: starts of each kind.
        threads: of one inference.
        weights: a checkpoint or model file; the shipped baseline unless given.
        progress: told how many rounds are done.

    Raises:
        TrafficVisionError: the weights cannot be used, or the daemon failed.
    """
    if rounds < 1:
        raise BenchError(f"rounds must be 1 or more, not {rounds}")
    watched = Watched()
    starts: dict[str, list[Start]] = {"warm page cache": [], "cold page cache": []}
    phases: list[list[float]] = []
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="traffic-vision-bench-"))
        folder = Path(name)
        (sized,) = load_sized(weights, (SIZE,), folder)
        video = make_video(folder / "drive.mp4", _FRAMES)
        # A socket's path is short, and the folder for temporary files may be deep.
        short = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp")))
        socket = short / "daemon.sock"
        serve = {"address": f"unix:{socket}"}
        config = write_config(folder / "daemon", {"url": str(video)}, sized.path, threads, serve=serve)
        _start(config, socket)  # what is compiled once, once
        for number in range(rounds):
            progress(number, rounds)
            starts["warm page cache"].append(_start(config, socket))
            phases.append(_phases(config))
            drop_from_cache([*_installed(), sized.path, video])
            starts["cold page cache"].append(_start(config, socket))
        progress(rounds, rounds)
    return _report(starts, phases, threads, sized.title, watched)


def _start(config: Path, socket: Path) -> Start:
    socket.unlink(missing_ok=True)
    began_ns = time.monotonic_ns()
    daemon = BenchDaemon(config)
    try:
        # A client that came before the socket would wait for gRPC's own back-off, not for the daemon.
        while not socket.exists():
            if not daemon.runs or time.monotonic_ns() - began_ns > 60e9:
                raise BenchError(f"the daemon opened no socket: {daemon.last_words()}")
            threading.Event().wait(_POLL_S)
        with Client(f"unix:{socket}") as client:
            client.wait_for(1, 60.0)
            read_mb = read_bytes(daemon.pid) / 1e6
            served = daemon.started()["read_ns"]
            detection = client.receipts[0].received_ns
    finally:
        daemon.stop()
    return Start((served - began_ns) / 1e9, (detection - began_ns) / 1e9, read_mb)


def _phases(config: Path) -> list[float]:
    """Milliseconds of each of `PHASES`."""
    began_ns = time.monotonic_ns()
    command = [COMMAND[0], "-c", _SCRIPT, str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise BenchError(f"the steps of a start failed: {done.stderr.strip()[-300:]}")
    moments = [began_ns, *json.loads(done.stdout)]
    return [(after - before) / 1e6 for before, after in pairwise(moments)]


def _installed() -> Iterator[Path]:
    """Files that a start reads: the interpreter's, the installed packages' and ours."""
    places = {Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")}
    for place in [*places, *(_HERE / name for name in ("protos", "edge", "tools"))]:
        for suffix in ("*.py", "*.pyc", "*.so", "*.so.*"):
            yield from (path for path in place.rglob(suffix) if path.is_file())
    yield Path(sys.executable).resolve()


def drop_from_cache(paths: list[Path]) -> None:
    """Ask the kernel to forget these files' pages; those in use by a process stay."""
    for path in dict.fromkeys(path.resolve() for path in paths):
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            os.fsync(descriptor)  # a page that is not on disk yet cannot be dropped
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            pass
        finally:
            os.close(descriptor)


def _report(
    starts: dict[str, list[Start]], phases: list[list[float]], threads: int, size: str, watched: Watched
) -> Report:
    rows: list[tuple[str | float | None, ...]] = []
    figures = {}
    for kind, runs in starts.items():
        detection = Spread.of([run.detection_s for run in runs])
        served = Spread.of([run.served_s for run in runs])
        read_mb = Spread.of([run.read_mb for run in runs]).p50
        rows.append((kind, detection.min, detection.p50, detection.p99, served.p50, read_mb))
        figures[kind] = {
            **detection.to_json("s"),
            "served_p50_s": round(served.p50, 3),
            "read_from_disk_p50_mb": round(read_mb, 1),
        }
    by_phase = {name: Spread.of([each[i] for each in phases]) for i, name in enumerate(PHASES)}
    phase_rows = [(name, spread.min, spread.p50, spread.p99) for name, spread in by_phase.items()]
    targets = [
        Target(f"start to the first detection at a client, {kind}, p50 s", figures[kind]["p50_s"], TARGET_S)
        for kind in starts
    ]
    columns = ("s", "min", "p50", "p99", "served p50", "MB from disk")
    rounds = len(phases)
    return Report(
        "edge-start",
        {
            "input": size,
            "threads": threads,
            "rounds": rounds,
            "starts": figures,
            "phases": {name: spread.to_json("ms") for name, spread in by_phase.items()},
            "machine_state": watched.to_json(),
        },
        targets,
        [
            Table(f"{size}, {rounds} fresh processes each, {threads} threads", columns, rows),
            Table("the steps of a warm start, in a process apart", ("ms", "min", "p50", "p99"), phase_rows),
        ],
        [watched.to_text()],
    )
