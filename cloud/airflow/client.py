"""Airflow, asked by its REST API, version 2.

https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from cloud.config import OrchestrationConfig
from cloud.pipeline.errors import OrchestratorError

API = "/api/v2"
QUEUED, SUCCESS, FAILED = "queued", "success", "failed"

_MAX_NOTE = 1000
_MAX_TASKS = 100


class AirflowError(OrchestratorError):
    """Airflow cannot be reached, or refuses what it is asked."""


@dataclass(frozen=True, slots=True)
class DagRun:
    """A run of a DAG.

    Attributes:
        dag, id: which.
        state: queued, running, success or failed.
        conf: what it was begun with.
        url: its page.
    """

    dag: str
    id: str
    state: str
    conf: Mapping[str, Any]
    url: str


@dataclass(frozen=True, slots=True)
class TaskInstance:
    """A task of a run.

    Attributes:
        state: as Airflow names it; None: nothing has happened yet.
        tries: how often it was begun.
        url: its page, with its log.
    """

    id: str
    state: str | None
    tries: int
    url: str


class Airflow:
    """An Airflow, for one thread. A token is got when the first one is needed, and again when it is over."""

    def __init__(self, config: OrchestrationConfig, transport: httpx.BaseTransport | None = None) -> None:
        """Take where it is and who asks; nothing is sent yet.

        Args:
            config: the cloud's.
            transport: in place of the network.
        """
        self._config = config
        self._token = ""
        self._http = httpx.Client(base_url=config.url, timeout=config.timeout_s, transport=transport)

    def __enter__(self) -> Airflow:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def dag_run(self, dag: str, run: str) -> DagRun | None:
        """Look a run up; None: there is no such run.

        Raises:
            AirflowError: as all methods: it does not answer, or refuses.
        """
        answer = self._ask("GET", _run_path(dag, run), allowed=(404,))
        return None if answer is None else self._dag_run(answer)

    def trigger(self, dag: str, run: str, conf: Mapping[str, Any], note: str) -> DagRun:
        """Begin a run, once: where there is one of this name, it is given as it is.

        Args:
            dag: which.
            run: the run's name; unique within the DAG.
            conf: what its tasks can read.
            note: for people, on its page.
        """
        body = {"dag_run_id": run, "logical_date": None, "conf": dict(conf), "note": note[:_MAX_NOTE]}
        answer = self._ask("POST", f"/dags/{_quoted(dag)}/dagRuns", body, allowed=(404, 409))
        if answer is not None:
            return self._dag_run(answer)
        found = self.dag_run(dag, run)
        if found is None:
            raise AirflowError(
                f"{self._config.url} has no DAG {dag!r}: its folder of DAGs must be cloud/airflow/dags, where"
                " it looks now and then (try again in a minute), and its environment must have what the DAG's"
                " file asks for: TRAFFIC_VISION_CONFIG, or TRAFFIC_VISION_IMAGE for pods"
            )
        return found

    def has_dag(self, dag: str) -> bool:
        """Tell whether it has read a DAG."""
        return self._ask("GET", f"/dags/{_quoted(dag)}", allowed=(404,)) is not None

    def is_paused(self, dag: str) -> bool:
        """Tell whether runs of a DAG wait until somebody unpauses it."""
        answer = self._ask("GET", f"/dags/{_quoted(dag)}", allowed=(404,))
        return answer is not None and bool(answer.get("is_paused"))

    def tasks(self, dag: str, run: str) -> list[TaskInstance]:
        """Give the tasks of a run, those that began first first."""
        answer = self._ask("GET", f"{_run_path(dag, run)}/taskInstances?limit={_MAX_TASKS}", allowed=(404,))
        found = [] if answer is None else _listed(answer, "task_instances")
        return [
            TaskInstance(
                id=str(task["task_id"]),
                state=task.get("state"),
                tries=int(task.get("try_number") or 0),
                url=f"{self._page(dag, run)}/tasks/{_quoted(str(task['task_id']))}",
            )
            for task in sorted(found, key=_beginning)
        ]

    def log(self, dag: str, run: str, task: str, attempt: int) -> list[str]:
        """Give the lines that one try of a task logged; none: there was no such try, or it has no log yet."""
        path = f"{_run_path(dag, run)}/taskInstances/{_quoted(task)}/logs/{attempt}?full_content=true"
        answer = self._ask("GET", path, allowed=(404,))
        content = [] if answer is None else answer.get("content")
        if isinstance(content, str):
            return content.splitlines()
        return [_log_line(entry) for entry in content] if isinstance(content, list) else []

    def clear_failed(self, dag: str, run: str) -> None:
        """Let the tasks that failed, and those that wait for them, be done again."""
        self._ask("POST", f"{_run_path(dag, run)}/clear", {"dry_run": False, "only_failed": True})

    def set_note(self, dag: str, run: str, note: str) -> None:
        """Write a note for people onto a run's page."""
        path = f"{_run_path(dag, run)}?update_mask=note"
        self._ask("PATCH", path, {"note": note[:_MAX_NOTE]})

    def _ask(
        self, method: str, path: str, body: object = None, allowed: tuple[int, ...] = ()
    ) -> dict[str, Any] | None:
        """Ask, with a token; None: it answered with one of the allowed codes of refusal."""
        fresh = not self._token
        if fresh:
            self._token = self._new_token()
        response = self._send(method, API + path, body, {"Authorization": f"Bearer {self._token}"})
        if response.status_code == 401 and not fresh:  # it was good for a day
            self._token = self._new_token()
            response = self._send(method, API + path, body, {"Authorization": f"Bearer {self._token}"})
        if response.status_code in allowed:
            return None
        if response.status_code == 401:
            self._token = ""
        return self._document(response, f"{method} {API}{path}")

    def _new_token(self) -> str:
        config = self._config
        if config.token_file is not None:
            return _read(config.token_file, "orchestration.token_file").strip()
        text = _read(config.password_file, "orchestration.password_file")
        try:
            password = json.loads(text)[config.user]
        except (ValueError, KeyError, TypeError):
            raise AirflowError(
                f"{config.password_file}: no password of {config.user!r} in it; expected JSON,"
                ' {"USER": "PASSWORD"} (orchestration.password_file)'
            ) from None
        answer = self._send("POST", "/auth/token", {"username": config.user, "password": password}, {})
        token = self._document(answer, "POST /auth/token").get("access_token")
        if not isinstance(token, str):
            raise AirflowError(f"{config.url}/auth/token gave no token: is this Airflow 3?")
        return token

    def _send(self, method: str, path: str, body: object, headers: Mapping[str, str]) -> httpx.Response:
        try:
            return self._http.request(method, path, json=body, headers=dict(headers))
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise AirflowError(f"Airflow at {self._config.url} does not answer: {reason}") from None

    def _document(self, response: httpx.Response, what: str) -> dict[str, Any]:
        where = f"Airflow at {self._config.url}"
        if response.status_code in (401, 403):
            who = self._config.token_file or f"the user {self._config.user!r}"
            raise AirflowError(f"{where} refuses {who} ({response.status_code} to {what})")
        if not response.is_success:
            raise AirflowError(f"{where}: {response.status_code} to {what}: {_detail(response)}")
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise AirflowError(f"{where}: the answer to {what} is no JSON object: is this Airflow 3?")
        return document

    def _dag_run(self, answer: Mapping[str, Any]) -> DagRun:
        try:
            dag, run, state = str(answer["dag_id"]), str(answer["dag_run_id"]), str(answer["state"])
        except KeyError as error:
            raise AirflowError(f"Airflow at {self._config.url}: a run without {error}") from None
        return DagRun(dag, run, state, answer.get("conf") or {}, self._page(dag, run))

    def _page(self, dag: str, run: str) -> str:
        return page(self._config.pages_url, dag, run)


def page(url: str, dag: str, run: str) -> str:
    """Give the address of a run's page, below that of all pages."""
    return f"{url}/dags/{_quoted(dag)}/runs/{_quoted(run)}"


def _run_path(dag: str, run: str) -> str:
    return f"/dags/{_quoted(dag)}/dagRuns/{_quoted(run)}"


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _listed(answer: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = answer.get(name)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _log_line(entry: object) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    return " ".join(str(entry[part]) for part in ("timestamp", "level", "event") if entry.get(part))


def _beginning(task: Mapping[str, Any]) -> tuple[bool, str]:
    began = task.get("start_date")
    return began is None, str(began)


def _read(path: Path, key: str) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise AirflowError(f"{path}: {error.strerror} ({key})") from None
    except UnicodeDecodeError:
        raise AirflowError(f"{path}: not text ({key})") from None


def _detail(response: httpx.Response) -> str:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = response.text
    text = detail if isinstance(detail, str) else json.dumps(detail)
    return " ".join(text.split())[:300]
