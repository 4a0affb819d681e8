"""Airflow's API: what is asked, once and again, and what is said of what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from cloud.airflow.client import Airflow, AirflowError, TaskInstance
from cloud.config import ConfigError, OrchestrationConfig, load_config
from tests.fake_airflow import PASSWORD, USER, FakeAirflow

DAG, RUN = "traffic_vision_retrain", "retrain-0001"
URL = "http://127.0.0.1:8081"
BY_HAND = "manual__2026-01-02T03:04:05+00:00"


@pytest.fixture
def fake() -> FakeAirflow:
    return FakeAirflow()


@pytest.fixture
def config(tmp_path: Path) -> OrchestrationConfig:
    (tmp_path / "airflow").mkdir()
    (tmp_path / "airflow" / "passwords.json").write_text(json.dumps({USER: PASSWORD, "admin": "another"}))
    (tmp_path / "cloud.toml").write_text("[orchestration]\norchestrator = 'airflow'\n")
    return load_config(tmp_path / "cloud.toml").orchestration


@pytest.fixture
def airflow(config: OrchestrationConfig, fake: FakeAirflow) -> Airflow:
    return Airflow(config, fake)


def test_a_run_is_begun_once_and_says_where_it_is(airflow: Airflow, fake: FakeAirflow) -> None:
    assert airflow.dag_run(DAG, RUN) is None
    begun = airflow.trigger(DAG, RUN, {"run": RUN}, "for people")
    again = airflow.trigger(DAG, RUN, {"run": "another"}, "for others")
    assert begun == again and (begun.state, begun.conf) == ("queued", {"run": RUN})
    assert begun.url == f"{URL}/dags/{DAG}/runs/{RUN}"
    assert fake.runs[DAG, RUN]["note"] == "for people" and len(fake.runs) == 1
    assert fake.asked.count("POST /auth/token") == 1


def test_names_with_signs_find_their_way(airflow: Airflow, fake: FakeAirflow) -> None:
    begun = airflow.trigger(DAG, BY_HAND, {}, "")
    assert airflow.dag_run(DAG, BY_HAND) == begun
    airflow.set_note(DAG, BY_HAND, "a note")
    assert fake.runs[DAG, BY_HAND]["note"] == "a note"
    assert begun.url.endswith("/runs/manual__2026-01-02T03%3A04%3A05%2B00%3A00")


def test_a_token_that_is_over_is_got_anew(airflow: Airflow, fake: FakeAirflow) -> None:
    airflow.trigger(DAG, RUN, {}, "")
    fake.tokens.clear()
    assert airflow.dag_run(DAG, RUN) is not None
    assert fake.asked.count("POST /auth/token") == 2


def test_a_token_of_someone_elses_is_used_as_it_is(
    config: OrchestrationConfig, fake: FakeAirflow, tmp_path: Path
) -> None:
    fake.tokens.add("given")
    token = tmp_path / "token"
    token.write_text("given\n")
    given = config.model_copy(update={"token_file": token})
    assert Airflow(given, fake).is_paused(DAG) is False
    assert "POST /auth/token" not in fake.asked
    token.write_text("over")
    with pytest.raises(AirflowError, match=r"refuses .*token \(401"):
        Airflow(given, fake).is_paused(DAG)


def test_tasks_come_in_the_order_of_their_beginnings(airflow: Airflow, fake: FakeAirflow) -> None:
    fake.tasks[DAG, RUN] = [
        {"task_id": "close", "state": None, "start_date": None, "try_number": 0},
        {"task_id": "label", "state": "failed", "start_date": "2026-01-02T00:00:01Z", "try_number": 3},
        {"task_id": "ingest", "state": "success", "start_date": "2026-01-02T00:00:00Z", "try_number": 1},
    ]
    tasks = airflow.tasks(DAG, RUN)
    assert [(task.id, task.state, task.tries) for task in tasks] == [
        ("ingest", "success", 1),
        ("label", "failed", 3),
        ("close", None, 0),
    ]
    assert tasks[1] == TaskInstance("label", "failed", 3, f"{URL}/dags/{DAG}/runs/{RUN}/tasks/label")


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (
            [{"timestamp": "2026-01-02", "level": "info", "event": "a"}, {"event": "b"}, "c"],
            ["2026-01-02 info a", "b", "c"],
        ),
        ("a\nb", ["a", "b"]),
        (None, []),
    ],
)
def test_a_log_is_lines(airflow: Airflow, fake: FakeAirflow, content: object, lines: list[str]) -> None:
    fake.logs["label", "2"] = content
    assert airflow.log(DAG, RUN, "label", 2) == lines
    assert airflow.log(DAG, RUN, "label", 3) == []


def test_what_it_refuses_is_said_without_the_password(
    airflow: Airflow, config: OrchestrationConfig, fake: FakeAirflow
) -> None:
    with pytest.raises(AirflowError, match="has no DAG 'mine': its folder of DAGs"):
        airflow.trigger("mine", RUN, {}, "")
    config.password_file.write_text(json.dumps({USER: "wrong"}))
    with pytest.raises(AirflowError, match="refuses the user 'cloud'") as refused:
        Airflow(config, fake).is_paused(DAG)
    assert "wrong" not in str(refused.value)
    config.password_file.write_text(json.dumps({"admin": "secret"}))
    with pytest.raises(AirflowError, match="no password of 'cloud'") as refused:
        Airflow(config, fake).is_paused(DAG)
    assert "secret" not in str(refused.value)
    config.password_file.unlink()
    with pytest.raises(AirflowError, match="No such file or directory"):
        Airflow(config, fake).is_paused(DAG)


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (httpx.Response(200, text="<html>"), "no JSON object: is this Airflow 3?"),
        (httpx.Response(200, json=[1]), "no JSON object"),
        (httpx.Response(500, text="a long\n story"), "500 to POST /auth/token: a long story"),
        (httpx.Response(422, json={"detail": [{"msg": "bad"}]}), 'detail|"msg": "bad"'),
        (httpx.Response(200, json={}), "gave no token"),
    ],
)
def test_what_is_no_airflow_is_said(config: OrchestrationConfig, response: httpx.Response, says: str) -> None:
    with pytest.raises(AirflowError, match=says):
        Airflow(config, httpx.MockTransport(lambda _: response)).is_paused(DAG)


def test_who_does_not_answer_is_named(airflow: Airflow, fake: FakeAirflow) -> None:
    fake.down = True
    with pytest.raises(AirflowError, match=f"Airflow at {URL} does not answer: Connection refused"):
        airflow.is_paused(DAG)


@pytest.mark.parametrize("url", ["ftp://host", "http://me:secret@host", "http://host:70000", "host:8080"])
def test_an_address_that_cannot_be_one_is_refused_unseen(tmp_path: Path, url: str) -> None:
    (tmp_path / "cloud.toml").write_text(f"[orchestration]\nurl = '{url}'\n")
    with pytest.raises(ConfigError, match=r"orchestration.url = \*\*\*: expected \"http") as refused:
        load_config(tmp_path / "cloud.toml")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://127.0.0.1:8081", "127.0.0.1", 8081),
        ("https://flow.example.com/airflow/", "flow.example.com", 443),
        ("http://[::1]:80", "::1", 80),
    ],
)
def test_an_address_has_a_host_and_a_port(tmp_path: Path, url: str, host: str, port: int) -> None:
    (tmp_path / "cloud.toml").write_text(f"[orchestration]\nurl = '{url}'\n")
    config = load_config(tmp_path / "cloud.toml").orchestration
    assert config.host_and_port == (host, port) and not config.url.endswith("/")
