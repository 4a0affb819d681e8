"""The data repository: a version is a tag, written once, whole, and read back at any time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloud.pipeline.data_repository import DataRepository, next_tag
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.manifest import Entry, Manifest
from tests.clouds import ROOT

MANIFEST = Manifest((Entry("a.jpg", "d", "train", True, "day", "0" * 16, "v1"),))


def a_dataset(folder: Path, *names: str) -> Path:
    (folder / "images").mkdir(parents=True)
    for name in names:
        (folder / "images" / name).write_bytes(name.encode() * 100)
    return folder


def test_versions_are_tags_that_can_be_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    data = DataRepository(tmp_path / "data")
    assert data.tags() == [] and data.newest_manifest() == Manifest()
    first = data.add("v1", a_dataset(tmp_path / "new", "a.jpg"), MANIFEST, "the first")
    second = data.add("v2", a_dataset(tmp_path / "new", "a.jpg", "b.jpg"), MANIFEST, "the second")
    assert data.tags() == ["v1", "v2"]
    assert first.files == 1 and second.files == 2
    assert first.dvc_md5.endswith(".dir") and first.dvc_md5 != second.dvc_md5
    assert first.git_commit != second.git_commit
    data.export("v1", tmp_path / "old")
    assert [path.name for path in (tmp_path / "old" / "images").iterdir()] == ["a.jpg"]
    assert data.manifest("v1") == MANIFEST == data.newest_manifest()
    # Everything that git must know is committed, and nothing is sent home.
    status = subprocess.run(
        ["git", "-C", tmp_path / "data", "status", "--porcelain"], capture_output=True, check=True
    )
    assert status.stdout == b""
    assert "analytics = False" in (tmp_path / "data" / ".dvc" / "config").read_text()
    with pytest.raises(PipelineError, match=r"no data version 'v9'; there are v1, v2"):
        data.version("v9")
    # Again: a tag that is there stays.
    again = data.add("v2", a_dataset(tmp_path / "new", "other.jpg"), MANIFEST, "again")
    assert again == second


KILLED = """
import os, signal, sys
from pathlib import Path
from cloud.pipeline import data_repository
from tests.cloud.test_pipeline_data_repository import MANIFEST, a_dataset
folder, word = Path(sys.argv[1]), sys.argv[2]
data = data_repository.DataRepository(folder / "data")
git = data._git
def dying(*arguments):
    if arguments[0] == word:
        os.kill(os.getpid(), signal.SIGKILL)
    return git(*arguments)
data_repository.DataRepository._git = lambda self, *arguments: dying(*arguments)
data.add("v1", a_dataset(folder / "new", "a.jpg"), MANIFEST, "the first")
"""


@pytest.mark.parametrize("word", ["add", "commit", "tag"])
def test_a_version_that_a_kill_cut_short_is_finished(tmp_path: Path, word: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # `tag --list` comes first of all: only the tag that is made is meant.
    script = KILLED.replace("== word", "== word and '--list' not in arguments")
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path, word], env=environment, timeout=280, check=False
    )
    assert done.returncode == -9
    data = DataRepository(tmp_path / "data")
    assert data.tags() == []
    version = data.add("v1", a_dataset(tmp_path / "again", "a.jpg"), MANIFEST, "the first")
    assert data.tags() == ["v1"] and version.files == 1
    data.export("v1", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "images").iterdir()] == ["a.jpg"]


def test_tags_are_numbered() -> None:
    assert next_tag([]) == "v1"
    assert next_tag(["v1", "v9", "v10"]) == "v11"
