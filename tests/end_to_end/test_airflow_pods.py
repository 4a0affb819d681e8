"""What the DAG files are to Airflow, in its own environment: they parse, and ask for the right pods."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cloud.airflow.serving import DAGS
from cloud.config import LabelsConfig
from cloud.pipeline.running import STAGES
from tests.airflow_process import AIRFLOW

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

SPECS = Path(__file__).resolve().parents[1] / "airflow_specs.py"
IMAGE, GPU_LABEL = "registry.example.com/traffic-vision-cloud:7", "pool=training"
KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: none, user: {}}]
contexts: [{name: none, context: {cluster: none, user: none}}]
current-context: none
"""
PODS = ("ingest", *STAGES[:5], "verdict", "deploy")


def specs(home: Path, **environment: str) -> dict[str, Any]:
    if not AIRFLOW.is_file():
        pytest.skip("needs Airflow's environment: make setup-airflow")
    kubeconfig = home / "kubeconfig"  # of no cluster: nothing asks it
    kubeconfig.write_text(KUBECONFIG)
    done = subprocess.run(
        [AIRFLOW.parent / "python", SPECS, DAGS],
        env={
            **os.environ,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "KUBECONFIG": str(kubeconfig),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["errors"] == {}
    return found["dags"]


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("airflow")
    dags = specs(home, TRAFFIC_VISION_IMAGE=IMAGE, TRAFFIC_VISION_GPU_NODES=GPU_LABEL)
    assert list(dags) == ["traffic_vision_retrain_pods"]
    found: dict[str, Any] = dags["traffic_vision_retrain_pods"]
    return found


def of(pods: dict[str, Any], task: str) -> dict[str, Any]:
    spec: dict[str, Any] = pods["tasks"][task]["pod"]["spec"]
    return spec


def container(pods: dict[str, Any], task: str) -> dict[str, Any]:
    found: dict[str, Any] = next(part for part in of(pods, task)["containers"] if part["name"] == "base")
    return found


def check_order(tasks: dict[str, Any], *, labels: bool) -> None:
    order = ["ingest", *(["labels"] if labels else []), *STAGES[:5], "verdict", "deploy"]
    for before, after in pairwise(order):
        assert tasks[after]["after"] == [before], after
    assert tasks["close"]["after"] == sorted(order) and tasks["close"]["rule"] == "one_failed"
    assert tasks.keys() == {*order, "close"}
    assert tasks["verdict"]["retries"] == 0 and all(tasks[stage]["retries"] >= 1 for stage in STAGES)
    assert all(0 < task["limit_s"] < 9 * 86400 for task in tasks.values())
    assert all(task["skips_on"] == [] for task in tasks.values()), "an exit code that is no failure"
    assert all(task["alerts"] for name, task in tasks.items() if name != "close")


def test_the_dag_of_this_machine_parses(tmp_path: Path) -> None:
    dags = specs(tmp_path, TRAFFIC_VISION_CONFIG="/srv/cloud.toml", TRAFFIC_VISION_MAX_WAIT_HOURS="400")
    assert list(dags) == ["traffic_vision_retrain"]
    dag = dags["traffic_vision_retrain"]
    assert dag["max_active_runs"] == 1
    # The stage says when people's time is up; Airflow may not before that.
    assert dag["tasks"]["labels"]["timeout_s"] > 400 * 3600
    assert dag["limit_s"] > dag["tasks"]["labels"]["timeout_s"] + dag["tasks"]["train"]["limit_s"]
    check_order(dag["tasks"], labels=True)


def test_without_its_settings_there_is_no_dag(tmp_path: Path) -> None:
    assert specs(tmp_path) == {}


def test_the_dag_of_pods_has_the_same_order(pods: dict[str, Any]) -> None:
    check_order(pods["tasks"], labels=False)
    assert pods["limit_s"] > pods["tasks"]["label"]["limit_s"] + pods["tasks"]["train"]["limit_s"]


@pytest.mark.parametrize("task", [*PODS, "close"])
def test_every_pod_is_confined_and_has_its_share(pods: dict[str, Any], task: str) -> None:
    spec, base = of(pods, task), container(pods, task)
    assert base["image"] == IMAGE and base["command"][:2] == ["bash", "-c"]
    assert base["args"][0] == "cloud" and base["args"][-2:] == ["--config", "/srv/traffic-vision/cloud.toml"]
    assert spec["automountServiceAccountToken"] is False and not spec.get("hostNetwork")
    assert spec["securityContext"]["runAsUser"] == 10001 and spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    confined = base["securityContext"]
    assert confined["capabilities"] == {"drop": ["ALL"]} and confined["allowPrivilegeEscalation"] is False
    assert {"cpu", "memory"} <= base["resources"]["requests"].keys() & base["resources"]["limits"].keys()
    # The stage says when people's time for labels is up, and not the pod; what computes has a day at most.
    people_s = LabelsConfig().max_wait_hours * 3600
    low, high = (people_s, people_s + 86400) if task == "label" else (0, 86400)
    assert low < spec["activeDeadlineSeconds"] <= high
    claims = [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in spec["volumes"]
        if "persistentVolumeClaim" in volume
    ]
    assert claims == ["traffic-vision-cloud"]
    assert spec["restartPolicy"] == "Never"


def test_training_alone_has_a_gpu_and_runs_where_one_is(pods: dict[str, Any]) -> None:
    for task in PODS:
        base, spec = container(pods, task), of(pods, task)
        asks = base["resources"]["limits"].get("nvidia.com/gpu")
        assert (asks == "1") is (task == "train"), task
        assert (spec.get("nodeSelector") == {"pool": "training"}) is (task == "train"), task
        tolerated = [toleration["key"] for toleration in spec.get("tolerations") or ()]
        assert ("nvidia.com/gpu" in tolerated) is (task == "train"), task
    mounts = {mount["mountPath"]: mount["name"] for mount in container(pods, "train")["volumeMounts"]}
    memory = {volume["name"]: volume.get("emptyDir") for volume in of(pods, "train")["volumes"]}
    assert memory[mounts["/dev/shm"]] == {"medium": "Memory", "sizeLimit": "4Gi"}


def test_the_releasing_pod_alone_has_the_keys(pods: dict[str, Any]) -> None:
    for task in (*PODS, "close"):
        secrets = [volume["secret"] for volume in of(pods, task)["volumes"] if "secret" in volume]
        assert [secret["secretName"] for secret in secrets] == (
            ["traffic-vision-keys"] if task == "deploy" else []
        ), task
    (mount,) = (mount for mount in container(pods, "deploy")["volumeMounts"] if mount["name"] == "keys")
    assert mount["readOnly"] and mount["mountPath"] == "/srv/traffic-vision/keys"


def test_each_stage_runs_its_command_for_the_run_that_ingest_gave(pods: dict[str, Any]) -> None:
    for stage in STAGES:
        words = container(pods, stage)["args"]
        assert words[1:4] == ["stage", stage, "--run"] and "xcom_pull(task_ids='ingest')" in words[4]
        assert "--reopen" in words
    assert "--wait" in container(pods, "label")["args"]
    limit_s = of(pods, "label")["activeDeadlineSeconds"]
    assert container(pods, "label")["args"][-3] == str(limit_s)
    # The sidecar that fetches the JSON line is there where there is one.
    with_line = [task for task in (*PODS, "close") if len(of(pods, task)["containers"]) == 2]
    assert with_line == list(PODS)


@pytest.mark.parametrize(
    ("printed", "code", "xcom"),
    [
        ('a library says\n{"run": "r"}\n', 0, '{"run": "r"}'),
        ('{"run": "r"}\n', 0, '{"run": "r"}'),
        ("", 75, ""),
    ],
)
def test_what_a_command_printed_last_is_its_tasks_xcom(
    pods: dict[str, Any], tmp_path: Path, printed: str, code: int, xcom: str
) -> None:
    base = container(pods, "ingest")
    script = base["command"][2].replace("/airflow/xcom", str(tmp_path / "xcom"))
    stub = tmp_path / "traffic-vision"
    stub.write_text(f"#!/bin/sh\ncat <<'END'\n{printed}END\nexit {code}\n")
    stub.chmod(0o755)
    done = subprocess.run(
        [*base["command"][:2], script, *base["command"][3:], "cloud", "begin"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == code and done.stdout.strip() == printed.strip()
    # An empty file is none to the sidecar; anything else must be JSON.
    assert (tmp_path / "xcom" / "return.json").read_text() == xcom
