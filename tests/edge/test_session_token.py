"""The session token on the vehicle: private, durable, shown at the next connection, said nowhere."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge import files
from edge.fleet import session_token
from edge.fleet.session_token import LIMIT_BYTES, SessionToken
from edge.machine.disk_budget import DiskBudget
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from tests.control_stream import ControlCloud, Vehicle, control, welcome
from tests.edge.file_operations import Intercepted, Operation
from tests.edge.power_cuts import DATA_ONLY, NAMES_ONLY, NOTHING, Disk, by_chance, write_image
from tests.waiting import eventually

TOKENS = [bytes([number]) * 32 for number in range(1, 5)]


def opened(folder: Path) -> SessionToken:
    return SessionToken(folder / "client.pem", DiskBudget().lane("identity"))


class Remembers(Vehicle):
    """A vehicle that keeps its token in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def handlers(self) -> Any:
        return dataclasses.replace(super().handlers(), session=opened(self.folder))


def gives(tokens: list[bytes]) -> Any:
    """Welcomes with one token after the other, then none; each stream ends with what comes after Hello."""

    def behaviour(number: int, requests: Iterator[Any]) -> Iterator[fleet.ControlResponse]:
        next(requests)
        yield welcome(session_token=tokens[number] if number < len(tokens) else b"")
        next(requests, None)

    return behaviour


def test_it_is_private_and_there_after_a_restart(tmp_path: Path) -> None:
    token = opened(tmp_path)
    assert token.shown() == b""
    for value in TOKENS:
        assert token.keep(value) == hashlib.sha256(value).digest()
        assert token.shown() == opened(tmp_path).shown() == value
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_each_connection_shows_what_the_one_before_gave_and_confirms_it(tmp_path: Path) -> None:
    cloud = ControlCloud(gives(TOKENS[:3]))
    with control(tmp_path, cloud, Remembers(tmp_path)):
        cloud.wait_for(lambda: len(cloud.of("session_token_kept")) >= 3, "each is kept")
        cloud.wait_for(lambda: len(cloud.of("hello")) >= 4, "the next connection")
    assert [hello.session_token for hello in cloud.of("hello")[:4]] == [b"", *TOKENS[:3]]
    kept = [said.token_sha256 for said in cloud.of("session_token_kept")]
    assert kept == [hashlib.sha256(token).digest() for token in TOKENS[:3]]


@pytest.mark.parametrize("given", [b"", b"x" * (LIMIT_BYTES + 1)])
def test_a_cloud_that_gives_none_or_nonsense_is_answered_nothing(tmp_path: Path, given: bytes) -> None:
    cloud = ControlCloud(gives([given, given]))
    with control(tmp_path, cloud, Remembers(tmp_path)) as client:
        client.report(fleet.DriftEvent(id="one"))
        cloud.wait_for(lambda: len(cloud.of("hello")) >= 2, "the next connection")
    assert cloud.of("session_token_kept") == []
    assert {hello.session_token for hello in cloud.of("hello")} == {b""}
    assert all(hello.HasField("session_token") for hello in cloud.of("hello"))
    assert not (tmp_path / "client.session").exists()


def test_a_daemon_without_a_place_for_it_says_nothing_of_it(tmp_path: Path) -> None:
    cloud = ControlCloud(gives(TOKENS))
    with control(tmp_path, cloud) as client:
        eventually(lambda: client.status().stream.connected, "the welcome")
        assert client.report(fleet.DriftEvent(id="one"))
        cloud.wait_for(lambda: len(cloud.of("hello")) >= 2, "the next connection")
    assert not any(hello.HasField("session_token") for hello in cloud.of("hello"))
    assert cloud.of("session_token_kept") == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_one_that_cannot_be_kept_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, caplog: pytest.LogCaptureFixture
) -> None:
    token = opened(tmp_path)
    assert token.keep(TOKENS[0])

    def full(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(*((files.os, step) if step == "fsync" else (Path, step)), full)
        assert token.keep(TOKENS[1]) == b""
        assert token.shown() == TOKENS[0]
    assert token.shown() == opened(tmp_path).shown() == TOKENS[0]
    assert "No space left" in caplog.text and "client.session" in caplog.text


def test_one_that_is_in_place_though_the_folder_could_not_be_synced_is_shown_once_that_is_sure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = opened(tmp_path)
    assert token.keep(TOKENS[0])

    def broken(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(files, "sync_folder", broken)
        patched.setattr(session_token, "sync_folder", broken)
        assert token.keep(TOKENS[1]) == b""
        assert token.shown() == TOKENS[0], "a power cut may bring it back"
    assert token.shown() == TOKENS[1]


def test_a_power_cut_leaves_the_one_before_or_the_new_one(tmp_path: Path) -> None:
    folder, told = tmp_path / "state", list[Operation]()
    folder.mkdir()
    token, disk = opened(folder), Disk()
    with Intercepted(folder, told.append):
        token.keep(TOKENS[0])
        first = len(told)
        token.keep(TOKENS[1])
    found = set()
    for number, operation in enumerate(told, 1):
        disk.apply(operation)
        for choice in (NOTHING, NAMES_ONLY, DATA_ONLY, by_chance(number)) if number >= first else ():
            write_image(disk.image(choice), tmp_path / "trial")
            found.add(opened(tmp_path / "trial").shown())
            shutil.rmtree(tmp_path / "trial")
    assert found == set(TOKENS[:2])
    assert token_after_a_cut(disk, tmp_path) == TOKENS[1], "it was kept"


def test_what_is_shown_stays_though_a_kill_came_before_it_was_safe(tmp_path: Path) -> None:
    folder, told = tmp_path / "state", list[Operation]()
    folder.mkdir()
    disk = Disk()
    with Intercepted(folder, told.append):
        opened(folder).keep(TOKENS[0])
    assert told[-1].kind == "sync_folder"
    for operation in told[:-1]:
        disk.apply(operation)
    assert token_after_a_cut(disk, tmp_path) == b""
    told.clear()
    with Intercepted(folder, told.append):
        assert opened(folder).shown() == TOKENS[0]
    for operation in told:
        disk.apply(operation)
    assert token_after_a_cut(disk, tmp_path) == TOKENS[0]


def token_after_a_cut(disk: Disk, place: Path) -> bytes:
    """What is there where nothing stays that was not synced."""
    write_image(disk.image(NOTHING), place / "after")
    shown = opened(place / "after").shown()
    shutil.rmtree(place / "after")
    return shown


def test_a_damaged_file_counts_as_none_and_what_a_kill_left_goes(tmp_path: Path) -> None:
    (tmp_path / "client.session").write_bytes(b"x" * (LIMIT_BYTES + 1))
    left = tmp_path / ".client.session.0123abcd.tmp"
    left.write_bytes(TOKENS[0])
    token = opened(tmp_path)
    assert token.shown() == b"" and not left.exists()
    assert token.keep(TOKENS[1]) and opened(tmp_path).shown() == TOKENS[1]


def test_it_is_in_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    cloud = ControlCloud(gives(TOKENS[:2]))
    with control(tmp_path, cloud, Remembers(tmp_path)) as client:
        cloud.wait_for(lambda: len(cloud.of("session_token_kept")) >= 2, "each is kept")
        status = repr(client.status())
    for token in TOKENS[:2]:
        for form in (repr(token)[2:-1], token.hex(), token.decode("latin-1")):
            assert form not in caplog.text and form not in status
