"""Rounds of one retrain each way, from the command that begins it to its end, in clouds that are alike."""

from __future__ import annotations

import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloud.airflow.client import Airflow, AirflowError
from cloud.config import CloudConfig
from tools.bench.edge.machine import Watched
from tools.bench.edge.turns import Progress
from tools.bench.orchestration.memory import peak_of, pss_bytes
from tools.bench.orchestration.setting import Work, draw, make_cloud
from tools.bench.report import Report, Table
from tools.bench.retrain_cloud import COMMAND, newest_run, retrain_command, stages_s
from tools.bench.rounds import BenchError

START_S, RETRAIN_S, STOP_S = 180.0, 1800.0, 60.0
LOOK_EVERY_S = 0.25
RUN = "retrain-0001"


@dataclass(frozen=True, slots=True)
class Measured:
    """One retrain.

    Attributes:
        wall_s: from its command to its end.
        stages_s: of its stages together, as they say.
        peak_mb: of all processes, the most seen at a time.
        idle_mb: of the orchestrator before it; 0 where there is none.
        state: how it ended.
    """

    wall_s: float
    stages_s: float
    peak_mb: float
    idle_mb: float
    state: str


def bench_orchestration(
    airflow: Path, rounds: int, work: Work, progress: Progress = lambda done, of: None
) -> Report:
    """Retrain `rounds` times each way, in turns.

    Args:
        airflow: its command, in an environment of its own.
        rounds: how often.
        work: how much is to be done.
        progress: is told how many of how many retrains are over.

    Raises:
        BenchError: one did not end, or the two ways came to different ends.
        TrafficVisionError: a cloud cannot be made.
    """
    watched = Watched()
    ways: dict[str, list[Measured]] = {"embedded": [], "airflow": []}
    with tempfile.TemporaryDirectory(prefix="traffic-vision-bench-") as name:
        folder = Path(name)
        draw(folder, work)
        for number in range(rounds):
            place = folder / f"round-{number}"
            url = f"http://127.0.0.1:{_free_port()}"
            ways["embedded"].append(_embedded(make_cloud(place / "embedded", folder, work, "embedded", url)))
            progress(2 * number + 1, 2 * rounds)
            config = make_cloud(place / "airflow", folder, work, "airflow", url)
            ways["airflow"].append(_on_airflow(config, place / "airflow", airflow))
            progress(2 * number + 2, 2 * rounds)
    ends = {measured.state for found in ways.values() for measured in found}
    if len(ends) != 1:
        raise BenchError(f"the same retrain ended differently: {', '.join(sorted(ends))}")
    return _report(ways, ends.pop(), watched)


def _embedded(config: CloudConfig) -> Measured:
    folder = config.folders.work.parent
    with (folder / "run.log").open("wb") as log:
        began = time.monotonic()
        process = subprocess.Popen(retrain_command(config), stdout=log, stderr=log)
        with peak_of(process.pid) as peak:
            try:
                code = process.wait(RETRAIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise BenchError(f"the embedded retrain did not end within {RETRAIN_S:.0f} s") from None
        wall_s = time.monotonic() - began
    if code:
        raise BenchError(f"the embedded retrain failed: {(folder / 'run.log').read_text()[-1000:]}")
    return _measured(config, wall_s, peak.bytes, 0)


def _on_airflow(config: CloudConfig, folder: Path, airflow: Path) -> Measured:
    with _airflow(config, folder, airflow) as (process, asked):
        idle = pss_bytes(process.pid)
        began = time.monotonic()
        with peak_of(process.pid) as peak:
            subprocess.run(retrain_command(config), check=True, capture_output=True, timeout=START_S)
            dag = config.orchestration.dag

            def over() -> bool:
                dag_run = asked.dag_run(dag, RUN)
                return dag_run is not None and dag_run.state in ("success", "failed")

            _wait(over, process, RETRAIN_S, "the retrain on Airflow did not end")
        wall_s = time.monotonic() - began
    return _measured(config, wall_s, peak.bytes, idle)


@contextmanager
def _airflow(
    config: CloudConfig, folder: Path, airflow: Path
) -> Iterator[tuple[subprocess.Popen[bytes], Airflow]]:
    words = ("cloud", "airflow", "--airflow", str(airflow.absolute()), "--command", str(_own_command(folder)))
    command = [*COMMAND, *words, "--config", str(folder / "cloud.toml")]
    with (folder / "airflow.log").open("wb") as log, Airflow(config.orchestration) as asked:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            dag = config.orchestration.dag
            _wait(lambda: asked.has_dag(dag), process, START_S, f"Airflow does not start: {log.name}")
            yield process, asked
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _own_command(folder: Path) -> Path:
    """This very code as one word."""
    command = folder / "traffic-vision"
    command.write_text(f"#!{sys.executable}\n{COMMAND[2]}\n")
    command.chmod(0o755)
    return command


def _wait(
    holds: Callable[[], bool], process: subprocess.Popen[bytes], within_s: float, otherwise: str
) -> None:
    pause, end = threading.Event(), time.monotonic() + within_s
    while True:
        try:
            if holds():
                return
        except AirflowError as error:
            trouble = str(error)
        else:
            trouble = "not yet"
        if process.poll() is not None or time.monotonic() > end:
            raise BenchError(f"{otherwise} ({trouble})")
        pause.wait(LOOK_EVERY_S)


def _measured(config: CloudConfig, wall_s: float, peak: int, idle: int) -> Measured:
    report = newest_run(config)
    spent = sum(stages_s(report).values())
    return Measured(wall_s, spent, peak / 1e6, idle / 1e6, report.state)


def _report(ways: dict[str, list[Measured]], end: str, watched: Watched) -> Report:
    figures = {
        way: {
            name: [round(getattr(measured, name), 1) for measured in found]
            for name in ("wall_s", "stages_s", "peak_mb", "idle_mb")
        }
        for way, found in ways.items()
    }
    middle = {
        way: {name: statistics.median(values) for name, values in named.items()}
        for way, named in figures.items()
    }
    ratio = middle["airflow"]["wall_s"] / middle["embedded"]["wall_s"]
    rows = [
        (
            way,
            named["wall_s"],
            named["stages_s"],
            named["wall_s"] - named["stages_s"],
            named["idle_mb"],
            named["peak_mb"],
        )
        for way, named in middle.items()
    ]
    columns = ("", "wall s", "its stages s", "beside them s", "before it MB", "most MB")
    return Report(
        bench="orchestration",
        figures={**figures, "wall_ratio": round(ratio, 3), "ended": end, "machine_state": watched.to_json()},
        targets=(),
        tables=(Table(f"one retrain, {end}; medians of {len(ways['airflow'])}", columns, rows),),
        notes=(f"Airflow took {ratio:.2f} times as long", watched.to_text()),
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
