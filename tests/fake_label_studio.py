"""A Label Studio of the requests that we send, over real HTTP, in this process.

What it answers is what a real one does as far as `tests/label_studio_contract.py` asks, which runs on both.
"""

from __future__ import annotations

import html
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

LEGACY = "0123456789abcdef0123456789abcdef01234567"
PERSONAL = "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCJ9.c2lnbmF0dXJl"
_TAG = re.compile(r"<(\w+)((?:\s+\w+=\"[^\"]*\")*)\s*/?>")
_ATTRIBUTE = re.compile(r"(\w+)=\"([^\"]*)\"")


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


@dataclass
class FakeLabelStudio:
    """What it holds. Tests look into it, and change it.

    Attributes:
        access: tokens that personal ones were exchanged for, and that have not run out.
        asked: METHOD PATH of each request.
        status: answered to every request instead, once it is set.
        odd: METHOD PATH to what is answered in place of what it should be.
        between_pages: is called before each further page of tasks: what others do meanwhile.
    """

    url: str = ""
    projects: dict[int, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[int, dict[str, Any]] = field(default_factory=dict)
    uploads: dict[int, dict[str, Any]] = field(default_factory=dict)
    access: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    status: int = 0
    odd: dict[str, Any] = field(default_factory=dict)
    between_pages: Callable[[], None] = lambda: None
    allowed: set[str] = field(default_factory=lambda: {LEGACY, PERSONAL})
    legacy_token: str = LEGACY
    personal_token: str = PERSONAL
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 10**6)))

    def annotate(self, task_id: int, result: list[dict[str, Any]], **fields: Any) -> None:
        """Hand a task in, as a person does."""
        number = next(self._numbers)
        self.tasks[task_id]["annotations"].append(
            {
                "id": number,
                "result": result,
                "was_cancelled": False,
                "ground_truth": False,
                "updated_at": f"2026-01-01T00:00:{number % 60:02d}.{number:06d}Z",
                **fields,
            }
        )

    def open_task(self, task_id: int) -> dict[str, Any]:
        """What the labelling page loads."""
        return self.tasks[task_id]

    def tasks_of(self, project: int) -> list[dict[str, Any]]:
        return [task for task in self.tasks.values() if task["project"] == project]

    def delete_project(self, project: int) -> None:
        del self.projects[project]

    def expire(self) -> None:
        """What minutes do to tokens that personal ones were exchanged for."""
        self.access.clear()

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> tuple[int, Any]:
        parts = urlsplit(target)
        query = parse_qs(parts.query)
        self.asked.append(f"{method} {parts.path}")
        if self.status:
            raise Refusal(self.status, "as the test wants it")
        if parts.path == "/api/version":
            return 200, {"release": "1.23.0"}
        if parts.path == "/api/token/refresh":
            return self._refresh(json.loads(body))
        self._authorize(headers.get("Authorization", ""))
        for path, wanted, handler in self._routes():
            found = re.fullmatch(path, parts.path)
            if found and wanted == method:
                if f"{method} {parts.path}" in self.odd:
                    return 200, self.odd[f"{method} {parts.path}"]
                numbers = [int(number) for number in found.groups()]
                return handler(numbers, query, headers, body)
        raise Refusal(404, "Not found.")

    def _routes(self) -> list[tuple[str, str, Callable[..., tuple[int, Any]]]]:
        return [
            (r"/api/projects/", "GET", self._list_projects),
            (r"/api/projects/", "POST", self._make_project),
            (r"/api/projects/(\d+)/", "GET", self._get_project),
            (r"/api/projects/(\d+)/", "PATCH", self._change_project),
            (r"/api/projects/(\d+)/model-versions/", "GET", self._model_versions),
            (r"/api/projects/(\d+)/import", "POST", self._import),
            (r"/api/projects/(\d+)/file-uploads", "GET", self._list_uploads),
            (r"/api/projects/(\d+)/export", "GET", self._export),
            (r"/api/tasks/", "GET", self._list_tasks),
            (r"/api/tasks/(\d+)/", "DELETE", self._delete_task),
        ]

    def _refresh(self, body: dict[str, str]) -> tuple[int, Any]:
        if body["refresh"] not in self.allowed:
            raise Refusal(401, "Token is invalid or expired")
        access = f"access.of.{next(self._numbers)}"
        self.access.add(access)
        return 200, {"access": access}

    def _authorize(self, said: str) -> None:
        kind, _, token = said.partition(" ")
        if (kind == "Token" and token in self.allowed) or (kind == "Bearer" and token in self.access):
            return
        raise Refusal(401, "Invalid token.")

    def _project(self, number: int) -> dict[str, Any]:
        if number not in self.projects:
            raise Refusal(404, "No Project matches the given query.")
        return self.projects[number]

    def _list_projects(self, numbers: list[int], query: Any, headers: Any, body: bytes) -> tuple[int, Any]:
        size, page = int(query["page_size"][0]), int(query["page"][0])
        every = [{"id": each["id"], "title": each["title"]} for each in self.projects.values()]
        after = "more" if len(every) > size * page else None
        return 200, {"count": len(every), "next": after, "results": every[size * (page - 1) : size * page]}

    def _make_project(self, numbers: list[int], query: Any, headers: Any, body: bytes) -> tuple[int, Any]:
        number = next(self._numbers)
        self.projects[number] = {"model_version": "", **json.loads(body), "id": number}
        return 201, self._shown(self.projects[number])

    def _get_project(self, numbers: list[int], query: Any, headers: Any, body: bytes) -> tuple[int, Any]:
        return 200, self._shown(self._project(numbers[0]))

    def _change_project(self, numbers: list[int], query: Any, headers: Any, body: bytes) -> tuple[int, Any]:
        project, changes = self._project(numbers[0]), json.loads(body)
        if changes.get("model_version") and changes["model_version"] not in self._versions(project["id"]):
            raise Refusal(400, "Model version doesn't exist")
        project.update(changes)
        return 200, self._shown(project)

    def _model_versions(self, numbers: list[int], query: Any, headers: Any, body: bytes) -> tuple[int, Any]:
        return 200, self._versions(self._project(numbers[0])["id"])

    def _versions(self, project: int) -> Counter[str]:
        made = (prediction for task in self.tasks_of(project) for prediction in task["predictions"])
        return Counter(prediction["model_version"] for prediction in made)

    def _shown(self, project: dict[str, Any]) -> dict[str, Any]:
        return {**project, "parsed_label_config": parsed(project["label_config"])}

    def _import(self, numbers: list[int], query: Any, headers: Any, body: bytes) -> tuple[int, Any]:
        project = self._project(numbers[0])["id"]
        if headers["Content-Type"].startswith("multipart/"):
            ids = []
            for part in _parts(headers["Content-Type"], body):
                number = next(self._numbers)
                file = f"upload/{project}/{number:08x}-{part.get_filename()}"
                content = part.get_payload(decode=True)
                self.uploads[number] = {"id": number, "file": file, "content": content}
                ids.append(number)
            return 201, {"task_count": len(ids), "file_upload_ids": ids}
        made = json.loads(body)
        for task in made:
            number = next(self._numbers)
            predictions = task.get("predictions", [])
            self.tasks[number] = {
                "id": number,
                "project": project,
                "data": task["data"],
                "predictions": predictions,
                "annotations": [],
            }
        return 201, {"task_count": len(made)}

    def _list_uploads(self, numbers: list[int], query: Any, headers: Any, body: bytes) -> tuple[int, Any]:
        self._project(numbers[0])
        wanted = json.loads(query["ids"][0])
        return 200, [
            {"id": each["id"], "file": each["file"]} for each in self.uploads.values() if each["id"] in wanted
        ]

    def _export(self, numbers: list[int], query: Any, headers: Any, body: bytes) -> tuple[int, Any]:
        self._project(numbers[0])
        ids = [int(each) for each in query["ids[]"]]
        return 200, [self.tasks[each] for each in ids if each in self.tasks]

    def _list_tasks(self, numbers: list[int], query: Any, headers: Any, body: bytes) -> tuple[int, Any]:
        project = self._project(int(query["project"][0]))["id"]
        size, page = int(query["page_size"][0]), int(query["page"][0])
        if page > 1:
            self.between_pages()
        every = sorted(self.tasks_of(project), key=lambda task: -task["id"])
        shown = every[size * (page - 1) : size * page]
        if page > 1 and not shown:
            raise Refusal(404, "Invalid page.")
        counted = [
            {
                "id": task["id"],
                "data": task["data"],
                "total_annotations": sum(not each["was_cancelled"] for each in task["annotations"]),
                "cancelled_annotations": sum(each["was_cancelled"] for each in task["annotations"]),
            }
            for task in shown
        ]
        return 200, {"tasks": counted, "total": len(every)}

    def _delete_task(self, numbers: list[int], query: Any, headers: Any, body: bytes) -> tuple[int, Any]:
        if self.tasks.pop(numbers[0], None) is None:
            raise Refusal(404, "Not found.")
        return 204, None


@contextmanager
def fake_label_studio() -> Iterator[FakeLabelStudio]:
    """Serve on loopback, at any free port."""
    fake = FakeLabelStudio()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake))
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def parsed(interface: str) -> dict[str, Any]:
    """Label Studio's `parsed_label_config` of an interface of boxes and choices on one picture."""
    controls: dict[str, Any] = {}
    inputs: dict[str, Any] = {}
    last: dict[str, Any] = {}
    for tag, rest in _TAG.findall(interface):
        attributes = {name: html.unescape(value) for name, value in _ATTRIBUTE.findall(rest)}
        if tag == "Image":
            inputs[attributes["name"]] = {"type": "Image", "value": attributes["value"].lstrip("$")}
        elif "toName" in attributes:
            to = attributes["toName"]
            last = {"type": tag, "to_name": [to], "inputs": [inputs[to]], "labels": []}
            controls[attributes["name"]] = last
        elif tag in ("Label", "Choice"):
            last["labels"].append(attributes["value"])
    return controls


def _parts(kind: str, body: bytes) -> list[Any]:
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    return list(message.iter_parts())


def _handler(fake: FakeLabelStudio) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                status, answer = fake.answer(self.command, self.path, self.headers, body)
            except Refusal as refusal:
                status, answer = refusal.status, {"detail": refusal.detail}
            content = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve

        def log_message(self, *arguments: Any) -> None:
            pass

    return Handler
