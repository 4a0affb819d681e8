"""Airflow's home and settings on this machine, and the DAG files as text; what runs is another test's."""

from __future__ import annotations

import ast
import json
import logging
import runpy
import stat
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from cloud.airflow.serving import (
    DAGS,
    AirflowChoices,
    airflow_environment,
    ensure_passwords,
    home_of,
    serve_airflow,
)
from cloud.children import ChildError
from cloud.config import CloudConfig, load_config
from cloud.pipeline.running import STAGES
from tools.cli.cloud_pipeline import NOT_YET

DAG_FILES = sorted(DAGS.glob("*.py"))


@pytest.fixture
def config(tmp_path: Path) -> CloudConfig:
    (tmp_path / "cloud.toml").write_text("")
    return load_config(tmp_path / "cloud.toml")


def test_passwords_are_made_once_and_are_its_users_alone(config: CloudConfig) -> None:
    home_of(config).mkdir()
    passwords = ensure_passwords(config)
    path = config.orchestration.password_file
    assert set(passwords) == {"admin", "cloud"} and len(set(passwords.values())) == 2
    assert all(len(password) >= 24 for password in passwords.values())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and json.loads(path.read_text()) == passwords
    assert ensure_passwords(config) == passwords
    path.write_text("{")
    with pytest.raises(ChildError, match="not JSON"):
        ensure_passwords(config)


@pytest.mark.parametrize(
    ("host", "own"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]")]
)
def test_it_listens_where_it_is_told_and_its_parts_find_it(config: CloudConfig, host: str, own: str) -> None:
    choices = AirflowChoices(Path("venv/bin/airflow"), host, 8099, Path("bin/traffic-vision"), "http://me/x")
    settings = airflow_environment(Path("fleet/cloud.toml"), config, choices)
    assert settings["AIRFLOW__API__HOST"] == host and settings["AIRFLOW__API__PORT"] == "8099"
    assert settings["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == f"http://{own}:8099/execution/"
    assert settings["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == "cloud:user,admin:admin"
    assert settings["AIRFLOW__CORE__PARALLELISM"] == "2"
    assert settings["TRAFFIC_VISION_CONFIG"] == str(Path("fleet/cloud.toml").absolute())
    assert settings["TRAFFIC_VISION_COMMAND"] == str(Path("bin/traffic-vision").absolute())
    hours = float(settings["TRAFFIC_VISION_MAX_WAIT_HOURS"])
    assert hours == config.labels.max_wait_hours
    assert settings["PATH"].split(":")[0] == str(Path("venv/bin").absolute())
    assert not [value for value in settings.values() if value in ensure_no_passwords(config)]


def ensure_no_passwords(config: CloudConfig) -> set[str]:
    home_of(config).mkdir(exist_ok=True)
    return set(ensure_passwords(config).values())


def test_an_airflow_that_is_not_there_is_said(config: CloudConfig, tmp_path: Path) -> None:
    with pytest.raises(ChildError, match="no Airflow; `make setup-airflow`"):
        serve_airflow(tmp_path / "cloud.toml", config, AirflowChoices(tmp_path / "none", "127.0.0.1", 1))


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_a_dag_imports_nothing_of_ours(path: Path) -> None:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add((node.module or "").split(".")[0])
    assert names and not names & {"protos", "edge", "cloud", "tools", "tests"}


@pytest.mark.parametrize("name", ["traffic_vision_retrain", "traffic_vision_retrain_pods"])
def test_a_dag_has_every_stage(name: str) -> None:
    text = (DAGS / f"{name}.py").read_text()
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    named = [
        node.args[0].value
        for node in calls
        if isinstance(node.func, ast.Name)
        and node.func.id == "stage"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    ]
    assert [name for name in named if name in STAGES] == list(STAGES)


def test_only_the_dags_files_are_read_for_dags() -> None:
    """Airflow would take those for DAG files that say its name; the pods' needs Kubernetes' client."""
    ignored = (DAGS / ".airflowignore").read_text().splitlines()
    assert {path.name for path in DAG_FILES} - set(ignored) == {
        "traffic_vision_retrain.py",
        "traffic_vision_retrain_pods.py",
    }


@pytest.mark.parametrize(
    ("status", "says"), [(204, ""), (302, "was refused: 302"), (500, "was refused: 500")]
)
def test_an_alert_is_posted_and_its_address_is_never_logged(
    status: int, says: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    posted: list[dict[str, str]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    caplog.set_level(logging.INFO)
    tell = runpy.run_path(str(DAGS / "traffic_vision_run.py"))["alert_of_run"]
    context = {"reason": "timed_out", "dag": SimpleNamespace(dag_id="d"), "run_id": "r"}
    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/hooks/a-secret"
        monkeypatch.setenv("TRAFFIC_VISION_ALERT_URL", url)  # as Airflow's processes have it
        tell(context)
        thread.join()
    tell(context)  # nobody is there any more
    assert posted == [{"event": "run failed", "dag": "d", "dag_run": "r", "why": "timed_out"}]
    assert says in caplog.text and "could not be delivered: ConnectError" in caplog.text
    assert "a-secret" not in caplog.text


def test_both_sides_mean_the_same_by_not_yet() -> None:
    text = (DAGS / "traffic_vision_retrain.py").read_text()
    constants = {
        node.targets[0].id: node.value.value
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    assert constants["NOT_YET"] == NOT_YET
