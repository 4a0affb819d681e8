"""What a retrain's run keeps to, wherever its tasks are done: limits, retries, alerts.

Both DAG files import this; Airflow has their folder among Python's paths.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import timedelta
from typing import Any

import httpx  # which Airflow itself needs

RETRIES = 2
RETRY_DELAY = timedelta(seconds=float(os.environ.get("TRAFFIC_VISION_RETRY_DELAY_S", "30")))
LONGEST_RETRY_DELAY = timedelta(minutes=10)
LONG, TRAINING = timedelta(hours=3), timedelta(hours=24)
# People take days over labels. When their time is up the stage says, and goes on with those that there are:
# it must not be ended before that.
LABELS_WAIT = timedelta(hours=float(os.environ.get("TRAFFIC_VISION_MAX_WAIT_HOURS", "168")))
LABELS_LIMIT = LABELS_WAIT + timedelta(days=1)
RUN_LIMIT = LABELS_LIMIT + timedelta(days=3)
ALERT_TIMEOUT_S = 10.0

# In a template: the retrain of this run, which its first task tells.
RETRAIN = "{{ ti.xcom_pull(task_ids='ingest')['run'] }}"
# The retrain that the cloud began this run for; empty: none.
WANTED = "{{ (dag_run.conf or {}).get('run', '') }}"


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


def _tell(document: dict[str, Any]) -> None:
    log = logging.getLogger("traffic_vision.alerts")
    log.error("alert: %s", json.dumps(document))
    url = os.environ.get("TRAFFIC_VISION_ALERT_URL", "")
    if not url:
        return
    logging.getLogger("httpx").setLevel(logging.WARNING)  # which logs addresses, and they may hold a secret
    try:
        httpx.post(url, json=document, timeout=ALERT_TIMEOUT_S).raise_for_status()
    except httpx.HTTPStatusError as error:
        log.error("the alert was refused: %d", error.response.status_code)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        log.error("the alert could not be delivered: %s", type(error).__name__)


# Of each DAG.
HABITS: dict[str, Any] = {
    "schedule": None,
    "catchup": False,
    "max_active_runs": 1,
    "is_paused_upon_creation": False,
    "dagrun_timeout": RUN_LIMIT,
    "on_failure_callback": alert_of_run,
    "tags": ["traffic-vision"],
    "default_args": {
        "owner": "traffic-vision",
        "retries": RETRIES,
        "retry_delay": RETRY_DELAY,
        "retry_exponential_backoff": True,
        "max_retry_delay": LONGEST_RETRY_DELAY,
        "on_failure_callback": alert,
    },
}
