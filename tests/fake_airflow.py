"""Airflow's REST API, as far as the cloud uses it, in this process: a transport for `httpx`, or served."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import httpx

USER, PASSWORD = "cloud", "a secret"


@dataclass
class FakeAirflow(httpx.BaseTransport):
    """What it is asked is in `asked`; what it knows can be set."""

    dags: set[str] = field(default_factory=lambda: {"traffic_vision_retrain"})
    paused: bool = False
    runs: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    tasks: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    logs: dict[tuple[str, str], Any] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    down: bool = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            raise httpx.ConnectError("Connection refused", request=request)
        path = request.url.path
        self.asked.append(f"{request.method} {path}")
        body = json.loads(request.read() or b"null")
        if path == "/auth/token":
            return self._token(body)
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return httpx.Response(401, json={"detail": "Not authenticated"})
        parts = [unquote(part) for part in request.url.raw_path.decode().partition("?")[0].split("/")[3:]]
        return self._api(request.method, parts, body)

    def _token(self, body: dict[str, str]) -> httpx.Response:
        if body != {"username": USER, "password": PASSWORD}:
            return httpx.Response(401, json={"detail": "Invalid credentials"})
        token = f"token-{len(self.tokens)}"
        self.tokens.add(token)
        return httpx.Response(201, json={"access_token": token})

    def _api(self, method: str, parts: list[str], body: Any) -> httpx.Response:
        match method, parts:
            case "GET", ["dags", dag]:
                return self._found({"dag_id": dag, "is_paused": self.paused} if dag in self.dags else None)
            case "POST", ["dags", dag, "dagRuns"]:
                return self._trigger(dag, body)
            case "GET", ["dags", dag, "dagRuns", run]:
                return self._found(self.runs.get((dag, run)))
            case "PATCH", ["dags", dag, "dagRuns", run]:
                if (dag, run) in self.runs:
                    self.runs[dag, run]["note"] = body["note"]
                return self._found(self.runs.get((dag, run)))
            case "GET", ["dags", dag, "dagRuns", run, "taskInstances"]:
                return self._found({"task_instances": self.tasks.get((dag, run), [])})
            case "GET", ["dags", _, "dagRuns", _, "taskInstances", task, "logs", attempt]:
                return self._found(
                    {"content": self.logs[task, attempt]} if (task, attempt) in self.logs else None
                )
            case "POST", ["dags", dag, "dagRuns", run, "clear"]:
                assert body == {"dry_run": False, "only_failed": True}
                self.runs[dag, run]["state"] = "queued"
                return self._found(self.runs[dag, run])
        return httpx.Response(404, json={"detail": "no such path"})

    def _trigger(self, dag: str, body: dict[str, Any]) -> httpx.Response:
        assert "logical_date" in body and body["logical_date"] is None
        if dag not in self.dags:
            return httpx.Response(404, json={"detail": f"DAG with dag_id: '{dag}' not found"})
        name = body["dag_run_id"]
        if (dag, name) in self.runs:
            return httpx.Response(409, json={"detail": {"reason": "Unique constraint violation"}})
        self.runs[dag, name] = {
            "dag_id": dag,
            "dag_run_id": name,
            "state": "queued",
            "conf": body["conf"],
            "note": body["note"],
        }
        return httpx.Response(200, json=self.runs[dag, name])

    @staticmethod
    def _found(document: dict[str, Any] | None) -> httpx.Response:
        if document is None:
            return httpx.Response(404, json={"detail": "was not found"})
        return httpx.Response(200, json=document)


@contextmanager
def served(fake: FakeAirflow) -> Iterator[str]:
    """Serve it on loopback, at any free port; give the address. While it is down, nothing is answered."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = f"http://{self.headers['Host']}{self.path}"
            request = httpx.Request(self.command, url, headers=dict(self.headers), content=body)
            try:
                response = fake.handle_request(request)
            except httpx.ConnectError:
                return
            self.send_response(response.status_code)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(response.read())

        do_GET = do_POST = do_PATCH = _serve

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
