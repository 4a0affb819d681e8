"""Run by test_airflow_pods.py in Airflow's environment: what its DAG files are to Airflow, as JSON.

Argument: a folder of DAGs. Of each DAG: its tasks, each with what must be done before it, and its pod.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import DagSerialization
from kubernetes.client import ApiClient


def main(folder: str) -> None:
    bag = BundleDagBag(folder, bundle_path=Path(folder))
    found = {"errors": dict(bag.import_errors), "dags": {}}
    for name, dag in bag.dags.items():
        DagSerialization.to_dict(dag)
        found["dags"][name] = {
            "limit_s": dag.dagrun_timeout.total_seconds(),
            "max_active_runs": dag.max_active_runs,
            "tasks": {task.task_id: told(task) for task in dag.topological_sort()},
        }
    print(json.dumps(found))


def told(task: Any) -> dict[str, Any]:
    pod = None
    if hasattr(task, "build_pod_request_obj"):
        pod = ApiClient().sanitize_for_serialization(task.build_pod_request_obj(None))
    return {
        "after": sorted(task.upstream_task_ids),
        "rule": getattr(task.trigger_rule, "value", task.trigger_rule),
        "retries": task.retries,
        "limit_s": task.execution_timeout.total_seconds(),
        "timeout_s": getattr(task, "timeout", None),
        "skips_on": sorted(getattr(task, "skip_on_exit_code", None) or []),
        "alerts": bool(task.on_failure_callback),
        "pod": pod,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
