"""A retrain on Apache Airflow 3: each task is a command of `traffic-vision`, on this machine.

This file imports nothing of Traffic Vision's, which has another environment. What it goes by is in the
environment of Airflow's processes:

    TRAFFIC_VISION_CONFIG          the cloud's cloud.toml; without it, there is no such DAG
    TRAFFIC_VISION_COMMAND         traffic-vision (by default as their PATH has it)
    TRAFFIC_VISION_ALERT_URL       is posted a JSON document for each task that fails
    TRAFFIC_VISION_DAG             this DAG's name (traffic_vision_retrain)
    TRAFFIC_VISION_RETRY_DELAY_S   before the first retry (30)
    TRAFFIC_VISION_LABEL_POLL_S    how often labels that people give are asked after (60)
    TRAFFIC_VISION_MAX_WAIT_HOURS  labels.max_wait_hours of cloud.toml, or more (168)

A stage prints one JSON line, which becomes the task's XCom, and can be killed and run again at any time. The
configuration of a run, `{"run": "retrain-0007"}`, names the retrain that the cloud began it for; without one,
the first task begins a retrain.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from itertools import pairwise
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.sensors.bash import BashSensor
from airflow.sdk import DAG
from traffic_vision_run import HABITS, LABELS_LIMIT, LONG, RETRAIN, TRAINING, WANTED

SHORT = timedelta(minutes=10)
# Labels are asked after now and then, and hold no slot meanwhile.
LABEL_POLL = timedelta(seconds=float(os.environ.get("TRAFFIC_VISION_LABEL_POLL_S", "60")))
# As the command line's, for: waits for someone else, nothing is lost.
NOT_YET = 75

# What libraries print as they end comes before the JSON line, which is last.
COMMAND = (
    'line=$("${{TRAFFIC_VISION_COMMAND:-traffic-vision}}" cloud {}'
    ' --config "${{TRAFFIC_VISION_CONFIG:?is not set where Airflow runs: the path of cloud.toml}}"); code=$?'
)
REPORT = "; printf '%s\\n' \"$line\"; exit $code"
PLACE = '--airflow "$AIRFLOW_CTX_DAG_ID/$AIRFLOW_CTX_DAG_RUN_ID"'


def stage(name: str, limit: timedelta, words: str = "", **options: Any) -> BashOperator:
    """Give the task of a command: `stage NAME` unless told otherwise."""
    return BashOperator(
        task_id=name,
        bash_command=COMMAND.format(words or f'stage {name} --run "$RUN" --reopen') + REPORT,
        env={"RUN": RETRAIN, **options.pop("env", {})},
        append_env=True,
        output_processor=json.loads,
        skip_on_exit_code=None,  # 99 would be no failure otherwise
        execution_timeout=limit,
        **options,
    )


def retrain() -> DAG:
    """Give the DAG."""
    with DAG(
        dag_id=os.environ.get("TRAFFIC_VISION_DAG") or "traffic_vision_retrain",
        description="Labels, purity check, dataset, training, gate, release: a better detector, or none",
        doc_md=__doc__,
        **HABITS,
    ) as dag:
        # Which samples the retrain is made of stands from here on.
        begin = f'begin {PLACE} --run "$WANTED"'
        ingest = stage("ingest", SHORT, begin, env={"RUN": "", "WANTED": WANTED})
        # A stage that waits ends with a code of its own; any other is the next task's to tell.
        labels = BashSensor(
            task_id="labels",
            bash_command=COMMAND.format(f"stage label --run '{RETRAIN}' --reopen")
            + f"; test $code -ne {NOT_YET} || exit {NOT_YET}",
            retry_exit_code=NOT_YET,
            mode="reschedule",
            poke_interval=LABEL_POLL.total_seconds(),
            timeout=LABELS_LIMIT.total_seconds(),
            execution_timeout=LONG,
        )
        stages = [
            ingest,
            labels,
            stage("label", LONG),
            stage("purity", LONG),
            stage("dataset", LONG),
            stage("train", TRAINING),
            stage("validate", LONG),
            # Fails where the gate did not say pass, and with it the run: to try again would change nothing.
            stage("verdict", SHORT, 'verdict --run "$RUN"', retries=0),
            stage("deploy", SHORT),
        ]
        for before, after in pairwise(stages):
            before >> after
        # A run is what its last tasks are: without this one's own failure, the retrain's would be a success.
        close = BashOperator(
            task_id="close",
            bash_command=COMMAND.format(f'end {PLACE} --why "a task of Airflow\'s failed"')
            + "; printf '%s\\n' \"$line\" 'a task before this one failed, and so does the run'; exit 1",
            trigger_rule="one_failed",
            skip_on_exit_code=None,
            retries=0,
            execution_timeout=SHORT,
            on_failure_callback=None,
        )
        stages >> close
    return dag


if os.environ.get("TRAFFIC_VISION_CONFIG"):
    dag = retrain()
