"""The pod of a task: its image, what it may do, what it is given. What is set, the DAG's file says."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from kubernetes.client import models as k8s
from traffic_vision_run import RETRAIN

IMAGE = os.environ["TRAFFIC_VISION_IMAGE"]
NAMESPACE = os.environ.get("TRAFFIC_VISION_NAMESPACE", "traffic-vision")
CLAIM = os.environ.get("TRAFFIC_VISION_VOLUME_CLAIM", "traffic-vision-cloud")
KEYS = os.environ.get("TRAFFIC_VISION_KEYS_SECRET", "traffic-vision-keys")
GPU_NODES = os.environ.get("TRAFFIC_VISION_GPU_NODES", "nvidia.com/gpu.present=true")

FOLDER = "/srv/traffic-vision"
CONFIG, KEYS_FOLDER = f"{FOLDER}/cloud.toml", f"{FOLDER}/keys"
USER = 10001
STARTUP = timedelta(minutes=15)

# Arguments are words, never the shell's. The last line is JSON, which the pod's sidecar takes for the task's
# XCom: where the command failed without one, the file is empty, which it takes for none.
SCRIPT = """line=$(traffic-vision "$@"); code=$?; printf '%s\\n' "$line"
mkdir -p /airflow/xcom; printf '%s\\n' "$line" | tail -n 1 | tr -d '\\n' > /airflow/xcom/return.json
exit $code"""
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
    k8s.V1VolumeMount(name="shm", mount_path="/dev/shm"),  # noqa: S108 (its own, of the pod alone)
)
# What training is given beside its command.
_GPU_LABEL, _, _GPU_VALUE = GPU_NODES.partition("=")
ON_A_GPU: dict[str, Any] = {
    "resources": GPU,
    "further": (SHARED_MEMORY,),
    "node_selector": {_GPU_LABEL: _GPU_VALUE},
    "tolerations": [k8s.V1Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule")],
}


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
        env_vars={"HOME": "/tmp", "PYTHONUNBUFFERED": "1"},  # noqa: S108 (the pod's own)
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
    return pod(name, limit, ["stage", name, "--run", RETRAIN, "--reopen", *words], **options)
