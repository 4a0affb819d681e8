"""A real Label Studio, as `make label-studio` starts it, and a person's browser at it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.clouds import ROOT
from tests.waiting import eventually

# A minute on two idle cores; beside other work, many.
START_S = 900.0


@dataclass
class RealLabelStudio:
    """See `tests.label_studio_contract.World`; a person is logged in.

    Attributes:
        browser: has the person's session, and no token.
        told: what `make label-studio` printed.
        folder: where it keeps everything.
    """

    url: str
    legacy_token: str
    personal_token: str
    browser: httpx.Client
    told: str
    folder: Path
    process: int

    def annotate(self, task_id: int, result: list[dict[str, Any]], **fields: Any) -> None:
        """Press Submit, or Skip, as the page does; the star is pressed afterwards."""
        star = fields.pop("ground_truth", False)
        body = {"result": result, "lead_time": 4.2, "was_cancelled": False, **fields}
        made = self.ask("POST", f"/api/tasks/{task_id}/annotations/", json=body)
        if star:
            self.ask("PATCH", f"/api/annotations/{made['id']}/", json={"ground_truth": True})

    def open_task(self, task_id: int) -> dict[str, Any]:
        task: dict[str, Any] = self.ask("GET", f"/api/tasks/{task_id}/")
        return task

    def tasks_of(self, project: int) -> list[dict[str, Any]]:
        listed = self.ask("GET", "/api/tasks/", params={"project": project, "page_size": 1000})
        tasks: list[dict[str, Any]] = listed["tasks"]
        return tasks

    def delete_project(self, project: int) -> None:
        self.ask("DELETE", f"/api/projects/{project}/")

    def ask(self, method: str, path: str, **options: Any) -> Any:
        headers = {"X-CSRFToken": self.browser.cookies.get("csrftoken", ""), "Referer": self.url}
        answer = self.browser.request(method, f"{self.url}{path}", headers=headers, **options)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None


@contextmanager
def real_label_studio(folder: Path) -> Iterator[RealLabelStudio]:
    """Install it where it is not, start it in `folder`, and log in."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "log"
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        "make",
        "--silent",
        "label-studio",
        f"LABEL_STUDIO_FOLDER={folder}",
        f"LABEL_STUDIO_PORT={port}",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"

        def is_up() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return httpx.get(f"{url}/health", timeout=5).is_success
            except httpx.HTTPError:
                return False

        eventually(is_up, "Label Studio answers", within_s=START_S)
        told = log.read_text()
        password = re.search(r"password  (\S+)", told)
        user = re.search(r"user +(\S+)", told)
        assert password and user, told
        with httpx.Client(timeout=60) as browser:
            log_in(browser, url, user[1], (folder / "password").read_text().strip())
            real = RealLabelStudio(
                url, (folder / "token").read_text().strip(), "", browser, told, folder, process.pid
            )
            real.personal_token = real.ask("POST", "/api/token/")["token"]
            yield real
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


def log_in(browser: httpx.Client, url: str, user: str, password: str) -> None:
    """Fill in the form of the login page."""
    page = browser.get(f"{url}/user/login/")
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    assert token, page.text[:500]
    form = {"email": user, "password": password, "csrfmiddlewaretoken": token[1]}
    answer = browser.post(f"{url}/user/login/", data=form, headers={"Referer": url})
    assert answer.status_code == 302, answer.text[:500]
