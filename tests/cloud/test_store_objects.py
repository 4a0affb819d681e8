"""The folder of objects: content-addressed, whole or not there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.store import FolderObjects, MissingObjectError
from edge.errors import TrafficVisionError


@pytest.fixture
def objects(tmp_path: Path) -> Iterator[FolderObjects]:
    store = FolderObjects(tmp_path)
    yield store
    store.close()


def opened(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def test_what_was_put_is_there_under_its_digest(objects: FolderObjects) -> None:
    key = objects.put(b"picture")
    assert key == hashlib.sha256(b"picture").hexdigest()
    assert objects.exists(key)
    assert objects.get(key) == b"picture"
    assert objects.path(key).read_bytes() == b"picture"


def test_many_at_once_in_their_order_with_repeats(objects: FolderObjects, tmp_path: Path) -> None:
    contents = [bytes([number % 5]) * 1000 for number in range(40)]
    keys = objects.put_all(contents)
    assert [objects.get(key) for key in keys] == contents
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 5


def test_everything_is_synced_before_the_put_returns(
    objects: FolderObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(opened(descriptor))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    keys = objects.put_all([b"one", b"two"])
    for key in keys:
        assert any(Path(path).name.startswith(f".{key}") for path in synced)
        assert str(tmp_path / key[:2]) in synced


def test_a_new_folder_of_objects_is_itself_synced(
    objects: FolderObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(opened(descriptor)))
    objects.put(b"one")
    assert str(tmp_path) in synced


def test_a_disk_that_refuses_is_an_error_and_leaves_no_half_object(
    objects: FolderObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        objects.put(b"one")
    assert not objects.exists(hashlib.sha256(b"one").hexdigest())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_is_not_there_or_has_changed_is_said(objects: FolderObjects) -> None:
    key = objects.put(b"one")
    objects.path(key).write_bytes(b"two")
    with pytest.raises(MissingObjectError, match="no longer"):
        objects.get(key)
    objects.delete(key)
    objects.delete(key)
    assert not objects.exists(key)
    with pytest.raises(MissingObjectError, match=key):
        objects.get(key)


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "A" * 64, "a" * 63])
def test_a_key_cannot_leave_the_folder(objects: FolderObjects, key: str) -> None:
    with pytest.raises(MissingObjectError, match="not the key"):
        objects.get(key)


def test_a_missing_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TrafficVisionError, match="no such folder"):
        FolderObjects(tmp_path / "missing")
