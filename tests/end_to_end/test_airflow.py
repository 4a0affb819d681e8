"""Retrains through real Airflow and real training: released after a stage that died; rejected by the gate.

Airflow's environment is that of `make setup-airflow`. Then MLflow's pages of what came of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from cloud.config import CloudConfig
from cloud.pipeline.opening import opened
from cloud.pipeline.tracking import REGISTERED_MODEL
from cloud.release.repository import list_releases
from tests.airflow_process import AIRFLOW, DAG, AirflowProcess, free_port
from tests.cloud.test_pipeline_cli import LABELER
from tests.cloud.test_pipeline_train import CAREFUL, give_checkpoint
from tests.clouds import ROOT, command_line, environment
from tests.extras import needs_ultralytics
from tests.processes import is_alive
from tests.retrains import (
    add_baseline,
    add_samples,
    install_plugin,
    make_retrain_cloud,
    red_picture,
)

pytestmark = [pytest.mark.services, pytest.mark.timeout(900), needs_ultralytics]

TASKS = ("ingest", "labels", "label", "purity", "dataset", "train", "validate", "verdict", "deploy")
# Calls what it is told to, but for the stage dataset's first time: that dies by SIGKILL in the middle.
COMMAND = """#!{python}
import os, sys
from pathlib import Path
died, words = Path({died!r}), sys.argv[1:]
if words[:3] == ["cloud", "stage", "dataset"] and not died.exists():
    died.touch()
    run = words[words.index("--run") + 1]
    deadly = ["-m", "tests.cloud.retrain_kills", {config!r}, "dataset", run, "pictures=0"]
    os.execv(sys.executable, [sys.executable, *deadly])
from tools.cli import main
main()
"""


@dataclass
class Alerts:
    """Who is told of tasks that fail."""

    told: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        alerts = self.told

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                alerts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/"


@dataclass
class Works:
    """A cloud with Airflow."""

    folder: Path
    config: CloudConfig
    airflow: AirflowProcess
    alerts: Alerts

    def call(self, *words: str) -> str:
        done = subprocess.run(
            command_line("cloud", *words, "--config", self.folder / "cloud.toml"),
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def runs(self, run: str) -> dict[str, Any]:
        (report,) = json.loads(self.call("runs", run, "--json"))
        found: dict[str, Any] = report
        return found

    def feed(self, drive: str, first: int) -> None:
        with opened(self.config) as pipeline:
            pictures = {f"{number}.jpg": red_picture(first + number) for number in range(4)}
            add_samples(pipeline, pictures, drive=drive)


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    if not AIRFLOW.is_file():
        pytest.skip("needs Airflow's environment: make setup-airflow")
    base = tmp_path_factory.mktemp("airflow")
    url = f"http://127.0.0.1:{free_port()}"
    settings = f"{CAREFUL}\n[orchestration]\norchestrator = 'airflow'\nurl = '{url}'\n"
    config = make_retrain_cloud(base, settings)
    folder = base / "cloud"
    with opened(config) as pipeline:
        add_baseline(pipeline, base)
        give_checkpoint(pipeline, base)
    plugin = install_plugin(base / "plugin", "traffic_vision.labelers", "test", "a_labeler:label")
    (plugin / "a_labeler.py").write_text(LABELER)
    command = base / "traffic-vision"
    words = {"python": sys.executable, "died": str(base / "died"), "config": str(folder / "cloud.toml")}
    command.write_text(COMMAND.format(**words))
    command.chmod(0o755)
    alerts = Alerts()
    airflow = AirflowProcess(folder, config, command, alerts.url, f"{ROOT}:{plugin}")
    try:
        airflow.until_ready()
        yield Works(folder, config, airflow, alerts)
    finally:
        started = airflow.processes() if airflow.process.poll() is None else []
        airflow.close()
        alerts.server.shutdown()
        alerts.server.server_close()
        assert not [process for process in started if is_alive(process)], "a part of Airflow was left behind"


@pytest.fixture(scope="module")
def released(works: Works) -> dict[str, Any]:
    """The report of a retrain that the cloud began at Airflow, and that is over; `wall_s` is what it took."""
    works.feed("new1", 100)
    begun = json.loads(works.call("run"))
    assert (begun["state"], begun["airflow"]["run"]) == ("running", "retrain-0001")
    began = time.monotonic()
    works.airflow.until_over("retrain-0001")
    wall_s = time.monotonic() - began
    return {**works.runs("retrain-0001"), "wall_s": wall_s, "memory_mb": works.airflow.memory_mb()}


def test_a_stage_that_dies_is_tried_again_and_one_release_comes_of_it(
    works: Works, released: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = {task["id"]: task for task in released["airflow"]["tasks"]}
    assert released["airflow"]["state"] == "success", released
    assert {task: tasks[task]["state"] for task in TASKS} == dict.fromkeys(TASKS, "success")
    assert tasks["close"]["state"] == "skipped"
    assert {task: tasks[task]["tries"] for task in TASKS} == {**dict.fromkeys(TASKS, 1), "dataset": 2}
    assert (released["state"], released["detail"]) == ("released", "release 1")
    (release,) = list_releases(works.config.folders.repository)
    assert release.facts.model_sha256 == released["candidate"]
    stages = {stage["name"]: stage["attempts"] for stage in released["stages"]}
    assert stages["dataset"] == 2 and stages["train"] == 1
    with capsys.disabled():
        print(f"\nAirflow: {released['wall_s']:.0f} s for the DAG, {released['memory_mb']:.0f} MB (PSS)")


def test_each_side_leads_to_the_other(works: Works, released: dict[str, Any]) -> None:
    dag_run = works.airflow.airflow._ask("GET", f"/dags/{DAG}/dagRuns/retrain-0001")
    assert dag_run is not None and dag_run["conf"]["run"] == "retrain-0001"
    assert dag_run["note"].startswith("Traffic Vision retrain-0001")
    assert released["airflow"]["url"] == f"{works.config.orchestration.url}/dags/{DAG}/runs/retrain-0001"
    # The stage's own log, and its JSON line as the task's XCom.
    assert "retrain-0001: dataset done" in works.call("runs", "retrain-0001", "--log", "dataset")
    path = f"/dags/{DAG}/dagRuns/retrain-0001/taskInstances/deploy/xcomEntries/return_value"
    entry = works.airflow.airflow._ask("GET", path)
    assert entry is not None
    value = entry["value"]
    line = json.loads(value) if isinstance(value, str) else value
    assert line["release_counter"] == 1 and line["run"] == "retrain-0001"


def test_nothing_of_it_listens_beyond_this_machine(works: Works) -> None:
    addresses = set()
    for process in works.airflow.processes():
        try:
            connections = process.net_connections("inet")
        except psutil.Error:
            continue
        addresses |= {found.laddr.ip for found in connections if found.status == psutil.CONN_LISTEN}
    assert addresses == {"127.0.0.1"}


def test_a_rejected_gate_fails_the_run_and_releases_nothing(works: Works, released: dict[str, Any]) -> None:
    toml = works.folder / "cloud.toml"
    toml.write_text(toml.read_text().replace("min_drives = 2", "min_drives = 50"))  # too few to say
    works.feed("new2", 300)
    works.airflow.airflow.trigger(DAG, "by-hand", {}, "")
    assert works.airflow.until_over("by-hand").state == "failed"
    report = works.runs("retrain-0002")
    assert report["airflow"]["run"] == "by-hand" and report["airflow"]["state"] == "failed"
    tasks = {task["id"]: (task["state"], task["tries"]) for task in report["airflow"]["tasks"]}
    assert tasks["verdict"] == ("failed", 1) and tasks["deploy"][0] == "upstream_failed"
    assert tasks["close"][0] == "failed"
    assert (report["state"], report["verdict"]) == ("rejected", "inconclusive")
    assert len(list_releases(works.config.folders.repository)) == 1
    assert [alert["task"] for alert in works.alerts.told] == ["verdict"]
    assert works.alerts.told[0]["dag_run"] == "by-hand"
    assert "releases nothing: the gate says inconclusive" in works.call(
        "runs", "retrain-0002", "--log", "verdict"
    )
    dag_run = works.airflow.airflow._ask("GET", f"/dags/{DAG}/dagRuns/by-hand")
    assert dag_run is not None and "retrain-0002" in dag_run["note"]


def test_mlflows_pages_show_runs_artifacts_and_who_is_champion(
    works: Works, released: dict[str, Any]
) -> None:
    port = free_port()
    command = command_line(
        *("cloud", "mlflow", "--listen", f"127.0.0.1:{port}", "--config", works.folder / "cloud.toml")
    )
    log = works.folder / "mlflow.log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment())
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as http:
            _until_serving(http, process)
            assert "<title>MLflow" in http.get("/").text
            api = "/api/2.0/mlflow"
            run = http.get(f"{api}/runs/get", params={"run_id": released["mlflow_run"]}).json()["run"]
            assert (run["info"]["run_name"], run["info"]["status"]) == ("retrain-0001", "FINISHED")
            wanted = {"path": "verdict.json", "run_uuid": released["mlflow_run"]}
            assert http.get("/get-artifact", params=wanted).json()["verdict"] == "pass"
            alias = {"name": REGISTERED_MODEL, "alias": "champion"}
            version = http.get(f"{api}/registered-models/alias", params=alias).json()["model_version"]
            tags = {tag["key"]: tag["value"] for tag in version["tags"]}
            assert tags["traffic_vision.model_sha256"] == released["candidate"]
    finally:
        started = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        assert process.wait(60) == 0, log.read_text()[-3000:]
        assert not [child for child in started if is_alive(child)]


def _until_serving(http: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    pause, end = threading.Event(), time.monotonic() + 120
    while True:
        try:
            if http.get("/health").is_success:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None and time.monotonic() < end, "MLflow does not come up"
        pause.wait(0.3)
