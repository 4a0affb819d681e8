"""A retrain on Apache Airflow 3 and Kubernetes: each task is a command of `traffic-vision` in its own pod.

As `traffic_vision_retrain`, with the image of `docker/cloud.Dockerfile`; training has a GPU of NVIDIA's. This
file imports nothing of Traffic Vision's. What it goes by is in the environment of Airflow's processes:

    TRAFFIC_VISION_IMAGE           the image, such as traffic-vision-cloud:latest; without it, no such DAG
    TRAFFIC_VISION_NAMESPACE       of the pods (traffic-vision)
    TRAFFIC_VISION_VOLUME_CLAIM    with the cloud's folder, for all pods (traffic-vision-cloud)
    TRAFFIC_VISION_KEYS_SECRET     with the keys that sign, for the releasing pod alone (traffic-vision-keys)
    TRAFFIC_VISION_GPU_NODES       label=value of the nodes for training (nvidia.com/gpu.present=true)
    TRAFFIC_VISION_PODS_DAG        this DAG's name (traffic_vision_retrain_pods)
    TRAFFIC_VISION_ALERT_URL       is posted a JSON document for each task that fails
    TRAFFIC_VISION_MAX_WAIT_HOURS  labels.max_wait_hours of cloud.toml, or more (168)

`store.database` in cloud.toml must be PostgreSQL's there: SQLite's locks do not hold on every network's disk.
"""

from __future__ import annotations

import os
from datetime import timedelta
from itertools import pairwise

from airflow.sdk import DAG
from traffic_vision_run import HABITS, LABELS_LIMIT, LONG, RETRAIN, TRAINING, WANTED

SHORT = timedelta(minutes=20)

PLACE = "{{ dag.dag_id }}/{{ run_id }}"


def retrain() -> DAG:
    """Give the DAG."""
    # Kubernetes' client takes 80 MB, and seconds at each look at this file: not where there are no pods.
    from traffic_vision_pods import CLOSE, ON_A_GPU, SIGNING_KEYS, SMALL, pod, stage

    with DAG(
        dag_id=os.environ.get("TRAFFIC_VISION_PODS_DAG") or "traffic_vision_retrain_pods",
        description="Labels, purity check, dataset, training on a GPU, gate, release: each in a pod",
        doc_md=__doc__,
        **HABITS,
    ) as dag:
        stages = [
            pod("ingest", SHORT, ["begin", "--airflow", PLACE, "--run", WANTED], resources=SMALL),
            # Waits in its pod, a small one, for people's labels too.
            stage("label", LABELS_LIMIT, "--wait", str(int(LABELS_LIMIT.total_seconds())), resources=SMALL),
            stage("purity", LONG),
            stage("dataset", LONG),
            stage("train", TRAINING, **ON_A_GPU),
            stage("validate", LONG),
            # Fails where the gate did not say pass, and with it the run: to try again would change nothing.
            pod("verdict", SHORT, ["verdict", "--run", RETRAIN], resources=SMALL, retries=0),
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
    return dag


if os.environ.get("TRAFFIC_VISION_IMAGE"):
    dag = retrain()
