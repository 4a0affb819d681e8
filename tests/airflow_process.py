"""Apache Airflow as `make airflow` brings it up, for a cloud of a test's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from cloud.airflow.client import Airflow, AirflowError, DagRun
from cloud.config import CloudConfig
from tests.clouds import ROOT, command_line, environment
from tools.bench.orchestration.memory import pss_bytes

AIRFLOW = ROOT / ".venv-airflow" / "bin" / "airflow"
DAG = "traffic_vision_retrain"
START_S, RUN_S, STOP_S = 240.0, 420.0, 60.0
_LOOK_EVERY_S = 0.5


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class AirflowProcess:
    """It runs from here on; `close` stops it and all that it started."""

    def __init__(self, folder: Path, config: CloudConfig, command: Path, alert_url: str, path: str) -> None:
        """Start it.

        Args:
            folder: the cloud's.
            config: the cloud's.
            command: is called by its tasks in place of `traffic-vision`.
            alert_url: where alerts go.
            path: where its tasks find Python's packages.
        """
        self.config = config
        self._log_path = folder / "airflow.log"
        self._log = self._log_path.open("ab")
        arguments = ("--airflow", AIRFLOW, "--command", command, "--alert-url", alert_url)
        self.process = subprocess.Popen(
            command_line("cloud", "airflow", *arguments, "--config", folder / "cloud.toml"),
            stdout=self._log,
            stderr=self._log,
            env={**environment(), "PYTHONPATH": path, "TRAFFIC_VISION_RETRY_DELAY_S": "1"},
        )
        self.airflow = Airflow(config.orchestration)

    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    def wait_for(self, what: str, look: Callable[[], bool], within_s: float) -> None:
        """Look now and then, until it holds; while Airflow does not answer, it does not."""
        pause, end = threading.Event(), time.monotonic() + within_s
        while True:
            assert self.process.poll() is None, f"Airflow ended: {self.log()[-4000:]}"
            try:
                if look():
                    return
            except AirflowError as error:
                trouble = str(error)
            else:
                trouble = "not yet"
            assert time.monotonic() < end, (
                f"not within {within_s:.0f} s: {what} ({trouble}): {self.log()[-4000:]}"
            )
            pause.wait(_LOOK_EVERY_S)

    def until_ready(self) -> None:
        """Wait until it has read the DAG."""
        self.wait_for("a DAG that can be run", lambda: self.airflow.has_dag(DAG), START_S)

    def until_over(self, run: str) -> DagRun:
        """Wait for the end of a run."""
        found: list[DagRun] = []

        def over() -> bool:
            dag_run = self.airflow.dag_run(DAG, run)
            if dag_run is not None and dag_run.state in ("success", "failed"):
                found.append(dag_run)
            return bool(found)

        self.wait_for(f"the end of {run}", over, RUN_S)
        return found[-1]

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def memory_mb(self) -> float:
        """What its processes have for themselves, and their parts of what they share."""
        return pss_bytes(self.process.pid) / 1e6

    def close(self) -> None:
        self.airflow.__exit__(None, None, None)
        if self.process.poll() is None:
            started = self.processes()
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                for process in (*started, psutil.Process(self.process.pid)):
                    if process.is_running():
                        os.kill(process.pid, signal.SIGKILL)
                self.process.wait()
        self._log.close()
