"""Airflow on this machine: its home, its settings, and its parts as children of one command.

In place of `airflow standalone`, which has two more servers for logs that listen on every address, and a
process for deferred tasks, of which there are none.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from cloud.children import ChildError, run_children, run_to_end
from cloud.config import CloudConfig
from cloud.fleet.private_files import write_private_file

DAGS = Path(__file__).parent / "dags"
# Tasks at a time: one retrain does one thing at a time, and its end is told of by another task.
PARALLELISM = 2
# What the environment of the command may say otherwise. A task whose process is gone is tried again after a
# minute or two, not five: after a kill it is what a retrain waits for.
HABITS = {
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "60",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "120",
    "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
}
# Who uses the pages, and the least that the cloud needs to begin a run and to ask after it.
ADMIN, ADMIN_ROLE, CLOUD_ROLE = "admin", "admin", "user"


@dataclass(frozen=True, slots=True)
class AirflowChoices:
    """How Airflow is brought up.

    Attributes:
        airflow: its command, in an environment of its own.
        host, port: where its pages and its API are.
        command: `traffic-vision`, as its tasks call it; None: the one beside this interpreter.
        alert_url: is posted a JSON document for each task that fails; empty: it is only logged.
    """

    airflow: Path
    host: str
    port: int
    command: Path | None = None
    alert_url: str = ""


def serve_airflow(config_path: Path, config: CloudConfig, choices: AirflowChoices) -> None:
    """Bring Airflow up, and keep it up until SIGTERM or SIGINT.

    Raises:
        ChildError: it is not installed, or a part of it ended by itself.
        OSError: its home cannot be written.
    """
    airflow = str(choices.airflow.absolute())
    if not choices.airflow.is_file():
        raise ChildError(
            f"{airflow}: there is no Airflow; `make setup-airflow` installs it into .venv-airflow"
        )
    home = home_of(config)
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)  # its logs hold what stages say, its settings the keys of its tokens
    ensure_passwords(config)
    environment = {**HABITS, **os.environ, **airflow_environment(config_path, config, choices)}
    run_to_end("airflow db migrate", [airflow, "db", "migrate"], environment, home)
    parts = {
        "airflow scheduler": [airflow, "scheduler", "--skip-serve-logs"],
        "airflow dag-processor": [airflow, "dag-processor"],
        "airflow api-server": [airflow, "api-server"],
    }
    run_children(parts, environment, home)


def home_of(config: CloudConfig) -> Path:
    """Give Airflow's home: its database, its logs, its passwords."""
    return config.orchestration.password_file.parent


def ensure_passwords(config: CloudConfig) -> dict[str, str]:
    """Give the users' passwords, in a file that only this user reads; a user who has none gets one."""
    path = config.orchestration.password_file
    try:
        known = json.loads(path.read_text())
    except FileNotFoundError:
        known = {}
    except ValueError:
        raise ChildError(f"{path}: not JSON, as Airflow's passwords are: mend or remove it") from None
    passwords: dict[str, str] = dict(known)
    for user in (ADMIN, config.orchestration.user):
        passwords.setdefault(user, secrets.token_urlsafe(18))
    if passwords != known:
        write_private_file(path, json.dumps(passwords).encode())
    return passwords


def airflow_environment(config_path: Path, config: CloudConfig, choices: AirflowChoices) -> dict[str, str]:
    """Give Airflow's settings: https://airflow.apache.org/docs/apache-airflow/stable/configurations-ref.html."""
    home, orchestration = home_of(config), config.orchestration
    host = f"[{choices.host}]" if ":" in choices.host else choices.host
    command = choices.command or Path(sys.executable).with_name("traffic-vision")
    if choices.host in ("0.0.0.0", "::"):  # noqa: S104 (what was asked for is recognized, nothing bound)
        host = "127.0.0.1"
    users = {orchestration.user: CLOUD_ROLE, ADMIN: ADMIN_ROLE}
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(PARALLELISM),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(
            f"{user}:{role}" for user, role in users.items()
        ),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(orchestration.password_file),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{host}:{choices.port}/execution/",
        "AIRFLOW__API__HOST": choices.host,
        "AIRFLOW__API__PORT": str(choices.port),
        "AIRFLOW__API__BASE_URL": orchestration.pages_url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "SCARF_ANALYTICS": "false",
        "PATH": f"{choices.airflow.absolute().parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "TRAFFIC_VISION_COMMAND": str(command.absolute()),
        "TRAFFIC_VISION_CONFIG": str(config_path.absolute()),
        "TRAFFIC_VISION_DAG": orchestration.dag,
        "TRAFFIC_VISION_ALERT_URL": choices.alert_url,
        "TRAFFIC_VISION_MAX_WAIT_HOURS": str(config.labels.max_wait_hours),
    }
