"""A retrain on Apache Airflow 3 and Kubernetes: each task is a command of `traffic-vision` in its own pod.

As `traffic_vision_retrain`, with the image of `docker/cloud.Dockerfile`; training has a GPU of NVIDIA's. This
file imports nothing of Traffic Vision's. What it goes by is in the environment of Airflow's processes:

    TRAFFIC_VISION_IMAGE          the image (traffic-vision-cloud:latest)
    TRAFFIC_VISION_NAMESPACE      of the pods (traffic-vision)
    TRAFFIC_VISION_VOLUME_CLAIM   with the cloud's folder, for all pods (traffic-vision-cloud)
    TRAFFIC_VISION_KEYS_SECRET    with the keys that sign, for the releasing pod alone (traffic-vision-keys)
    TRAFFIC_VISION_GPU_NODES      label=value of the nodes for training (nvidia.com/gpu.present=true)
    TRAFFIC_VISION_PODS_DAG       this DAG's name (traffic_vision_retrain_pods)
    TRAFFIC_VISION_ALERT_URL      is posted a JSON document for each task that fails

`store.database` in cloud.toml must be PostgreSQL's there: SQLite's locks do not hold on every network's disk.
"""

from __future__ import annotations

import json
import logging
import os
import urllib.request
from datetime import timedelta
from itertools import pairwise
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
from kubernetes.client import models as k8s

IMAGE = os.environ.get("TRAFFIC_VISION_IMAGE", "traffic-vision-cloud:latest")
NAMESPACE = os.environ.get("TRAFFIC_VISION_NAMESPACE", "traffic-vision")
CLAIM = os.environ.get("TRAFFIC_VISION_VOLUME_CLAIM", "traffic-vision-cloud")
KEYS = os.environ.get("TRAFFIC_VISION_KEYS_SECRET", "traffic-vision-keys")
GPU_NODES = os.environ.get("TRAFFIC_VISION_GPU_NODES", "nvidia.com/gpu.present=true")

FOLDER = "/srv/traffic-vision"
CONFIG, KEYS_FOLDER = f"{FOLDER}/cloud.toml", f"{FOLDER}/keys"
USER = 10001
RETRIES = 2
RETRY_DELAY, LONGEST_RETRY_DELAY = timedelta(seconds=30), timedelta(minutes=10)
SHORT, LONG, TRAINING = timedelta(minutes=20), timedelta(hours=3), timedelta(hours=24)
LABELS_LIMIT, RUN_LIMIT = timedelta(days=7), timedelta(days=9)
STARTUP = timedelta(minutes=15)
ALERT_TIMEOUT_S = 10.0

PLACE = "{{ dag.dag_id }}/{{ run_id }}"
RUN = "{{ ti.xcom_pull(task_ids='ingest')['run'] }}"
# The JSON line is what the pod's sidecar takes for the task's XCom. Arguments are words, never the shell's.
SCRIPT = 'set -uo pipefail; mkdir -p /airflow/xcom; traffic-vision "$@" | tee /airflow/xcom/return.json'
CLOSE = 'traffic-vision "$@"; echo "a task before this one failed, and so does the run" >&2; exit 1'

SMALL = k8s.V1ResourceRequirements(
    requests={"cpu": "500m", "memory": "1Gi"}, limits={"cpu": "2", "memory": "4Gi"}
)
LARGE = k8s.V1ResourceRequirements(
    requests={"cpu": "2", "memory": "4Gi"}, limits={"cpu": "4", "memory": "8Gi"}
)
GPU = k8s.V1ResourceRequirements(
    requests={"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"},
    limits={"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "1"},
)
CONFINED = k8s.V1SecurityContext(
    allow_privilege_escalation=False,
    read_only_root_filesystem=False,  # Ultralytics and MLflow write caches into their home
    run_as_non_root=True,
    capabilities=k8s.V1Capabilities(drop=["ALL"]),
)
POD = k8s.V1PodSecurityContext(
    run_as_user=USER,
    run_as_group=USER,
    fs_group=USER,
    run_as_non_root=True,
    seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
)
DATA = (
    k8s.V1Volume(
        name="cloud", persistent_volume_claim=k8s.V1PersistentVolumeClaimVolumeSource(claim_name=CLAIM)
    ),
    k8s.V1VolumeMount(name="cloud", mount_path=FOLDER),
)
SIGNING_KEYS = (
    k8s.V1Volume(name="keys", secret=k8s.V1SecretVolumeSource(secret_name=KEYS, default_mode=0o440)),
    k8s.V1VolumeMount(name="keys", mount_path=KEYS_FOLDER, read_only=True),
)
# PyTorch's workers hand pictures over by shared memory, of which a container has 64 MB.
SHARED_MEMORY = (
    k8s.V1Volume(name="shm", empty_dir=k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit="4Gi")),
    k8s.V1VolumeMount(name="shm", mount_path="/dev/shm"),  # noqa: S108
)


def alert(context: Any) -> None:
    """Tell of a task that failed for good: in the log, and to whoever asked for it."""
    task = context["ti"]
    _tell(
        {
            "event": "task failed",
            "dag": task.dag_id,
            "dag_run": task.run_id,
            "task": task.task_id,
            "tries": task.try_number,
            "why": str(context.get("exception") or ""),
            "log": getattr(task, "log_url", "") or "",
        }
    )


def alert_of_run(context: Any) -> None:
    """Tell of a run that failed otherwise than by a task: its time is over."""
    if context.get("reason") != "task_failure":
        _tell(
            {
                "event": "run failed",
                "dag": context["dag"].dag_id,
                "dag_run": context["run_id"],
                "why": str(context.get("reason") or ""),
            }
        )


def _tell(alert: dict[str, Any]) -> None:
    log = logging.getLogger("traffic_vision.alerts")
    log.error("alert: %s", json.dumps(alert))
    url = os.environ.get("TRAFFIC_VISION_ALERT_URL", "")
    if not url.startswith(("http://", "https://")):
        return
    request = urllib.request.Request(  # noqa: S310
        url, json.dumps(alert).encode(), {"Content-Type": "application/json"}
    )
    try:
        urllib.request.urlopen(request, timeout=ALERT_TIMEOUT_S).close()  # noqa: S310
    except OSError as error:
        log.error("the alert could not be delivered: %s", error)


def pod(name: str, limit: timedelta, words: list[str], **options: Any) -> KubernetesPodOperator:
    """Give the task of a command, in a pod."""
    volumes = [DATA, *options.pop("further", ())]
    script = options.pop("script", SCRIPT)
    return KubernetesPodOperator(
        task_id=name,
        name=f"traffic-vision-{name}",
        namespace=NAMESPACE,
        image=IMAGE,
        cmds=["bash", "-c", script, "traffic-vision"],
        arguments=["cloud", *words, "--config", CONFIG],
        env_vars={"HOME": "/tmp", "PYTHONUNBUFFERED": "1"},  # noqa: S108
        volumes=[volume for volume, _ in volumes],
        volume_mounts=[mount for _, mount in volumes],
        container_resources=options.pop("resources", LARGE),
        security_context=POD,
        container_security_context=CONFINED,
        automount_service_account_token=False,
        labels={"app.kubernetes.io/name": "traffic-vision", "app.kubernetes.io/component": name},
        do_xcom_push=options.pop("do_xcom_push", True),
        get_logs=True,
        on_finish_action="delete_pod",
        termination_grace_period=30,
        startup_timeout_seconds=int(STARTUP.total_seconds()),
        active_deadline_seconds=int(limit.total_seconds()),
        execution_timeout=limit + STARTUP,
        **options,
    )


def stage(name: str, limit: timedelta, *words: str, **options: Any) -> KubernetesPodOperator:
    """Give the task of a stage."""
    return pod(name, limit, ["stage", name, "--run", RUN, "--reopen", *words], **options)


with DAG(
    dag_id=os.environ.get("TRAFFIC_VISION_PODS_DAG") or "traffic_vision_retrain_pods",
    description="Labels, purity check, dataset, training on a GPU, gate, release: each in a pod",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    dagrun_timeout=RUN_LIMIT,
    on_failure_callback=alert_of_run,
    tags=["traffic-vision"],
    default_args={
        "owner": "traffic-vision",
        "retries": RETRIES,
        "retry_delay": RETRY_DELAY,
        "retry_exponential_backoff": True,
        "max_retry_delay": LONGEST_RETRY_DELAY,
        "on_failure_callback": alert,
    },
):
    gpu_label, _, gpu_value = GPU_NODES.partition("=")
    stages = [
        pod(
            "ingest",
            SHORT,
            ["begin", "--airflow", PLACE, "--run", "{{ (dag_run.conf or {}).get('run', '') }}"],
            resources=SMALL,
        ),
        # Waits in its pod, a small one, for people's labels too.
        stage("label", LABELS_LIMIT, "--wait", str(int(LABELS_LIMIT.total_seconds())), resources=SMALL),
        stage("purity", LONG),
        stage("dataset", LONG),
        stage(
            "train",
            TRAINING,
            resources=GPU,
            further=(SHARED_MEMORY,),
            node_selector={gpu_label: gpu_value},
            tolerations=[k8s.V1Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule")],
        ),
        stage("validate", LONG),
        # Fails where the gate did not say pass, and with it the run: to try again would change nothing.
        pod("verdict", SHORT, ["verdict", "--run", RUN], resources=SMALL, retries=0),
        stage("deploy", SHORT, resources=SMALL, further=(SIGNING_KEYS,)),
    ]
    for before, after in pairwise(stages):
        before >> after
    # A run is what its last tasks are: without this one's own failure, the retrain's would be a success.
    close = pod(
        "close",
        SHORT,
        ["end", "--airflow", PLACE, "--why", "a task of Airflow's failed"],
        resources=SMALL,
        script=CLOSE,
        do_xcom_push=False,
        trigger_rule="one_failed",
        retries=0,
        on_failure_callback=None,
    )
    stages >> close
