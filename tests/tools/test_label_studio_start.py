"""What `make label-studio` starts the server with, without the server."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edge.errors import TrafficVisionError
from tools.label_studio.serving import Place, prepare


def test_secrets_are_made_once_are_private_and_the_password_is_shown_once(tmp_path: Path) -> None:
    place = Place(tmp_path / "data", 8080)
    environment, told = prepare(place)
    password, token = place.password.read_text().strip(), place.token.read_text().strip()
    assert len(token) == 40 and len(password) >= 16
    assert password in told and token not in told and str(place.token) in told
    assert stat.S_IMODE(place.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (place.password, place.token)} == {0o600}
    assert not any(secret in word for secret in (password, token) for word in place.arguments())
    again, told_again = prepare(place)
    assert again == environment and password not in told_again
    assert environment["LABEL_STUDIO_COLLECT_ANALYTICS"] == "false"


def test_a_start_that_was_killed_before_the_token_was_there_keeps_its_password(tmp_path: Path) -> None:
    place = Place(tmp_path, 8080)
    prepare(place)
    before = place.password.read_text()
    place.token.unlink()
    _, told = prepare(place)
    assert place.password.read_text() == before and before.strip() in told


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(TrafficVisionError, match="cannot be used"):
        prepare(Place(tmp_path / "taken", 8080))


def test_a_port_that_is_taken_and_a_missing_installation_are_told_in_one_line(tmp_path: Path) -> None:
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    python = bin_folder / "python"
    python.symlink_to(sys.executable)
    paths = os.pathsep.join([str(Path(__file__).resolve().parents[2]), *filter(None, sys.path)])

    def start(port: int) -> str:
        command = [
            str(python),
            "-m",
            "tools.label_studio",
            "--folder",
            str(tmp_path / "data"),
            "--port",
            str(port),
        ]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1 and done.stdout == ""
        return done.stderr

    assert "make setup-label-studio" in start(8080)
    (bin_folder / "label-studio").write_text("#!/bin/sh\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} on 127.0.0.1 cannot be used" in start(port)
