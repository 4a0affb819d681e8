"""The data repository: a version is a tag, written once, whole, and read back at any time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cloud.datasets import read_dataset
from cloud.pipeline.commands import run_command
from cloud.pipeline.data_repository import DataRepository, next_tag
from cloud.pipeline.dataset_versions import difference, difference_to_text
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.manifest import Entry, Manifest
from tests.clouds import ROOT
from tests.retrains import VEHICLE, make_version, retrain_cloud
from tools.cli.cloud import command

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
    assert "analytics = false" in (tmp_path / "data" / ".dvc" / "config").read_text()
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


@pytest.mark.services
def test_a_version_is_in_the_remote_too_and_comes_back_from_there(tmp_path: Path) -> None:
    data = DataRepository(tmp_path / "data", str(tmp_path / "remote"))
    version = data.add("v1", a_dataset(tmp_path / "new", "a.jpg"), MANIFEST, "the first")
    assert data.publish("v1") and data.publish("v1")
    assert not DataRepository(tmp_path / "data").publish("v1")
    (path,) = data.files(version.dvc_md5).values()
    assert (tmp_path / "remote" / "files" / "md5" / path[:2] / path[2:]).is_file()
    shutil.rmtree(tmp_path / "data" / ".dvc" / "cache")
    data.export("v1", tmp_path / "out")
    assert (tmp_path / "out" / "images" / "a.jpg").read_bytes() == b"a.jpg" * 100
    shutil.rmtree(tmp_path / "remote")
    shutil.rmtree(tmp_path / "data" / ".dvc" / "cache", ignore_errors=True)
    with pytest.raises(PipelineError, match=r"data: dvc get: "):
        data.export("v1", tmp_path / "out")
    with pytest.raises(PipelineError, match="is not in the cache; `dvc fetch --all-tags`"):
        data.files(version.dvc_md5)


def test_bytes_that_have_changed_are_not_handed_out(tmp_path: Path) -> None:
    data = DataRepository(tmp_path / "data")
    version = data.add("v1", a_dataset(tmp_path / "new", "a.jpg"), MANIFEST, "the first")
    cached = data.cached(data.files(version.dvc_md5)["images/a.jpg"])
    cached.chmod(0o644)
    cached.write_bytes(b"rotten")
    with pytest.raises(PipelineError, match="no longer the bytes that were added"):
        data.export("v1", tmp_path / "out")
    with pytest.raises(PipelineError, match="is no MD5 as DVC writes it"):
        data.cached("../../../etc/passwd")


def test_a_failure_is_told_in_the_programs_own_words_without_passwords(tmp_path: Path) -> None:
    program = "import sys; sys.exit('warn\\nERROR: no way to s3://me:secret@host/x\\n')"
    with pytest.raises(PipelineError) as failed:
        run_command("dvc push", [sys.executable, "-c", program], tmp_path, 60)
    assert str(failed.value) == f"{tmp_path}: dvc push: no way to s3://***@host/x"
    with pytest.raises(PipelineError, match="this needs no-such-program"):
        run_command("x", ["no-such-program"], tmp_path, 60)


def test_a_remote_that_cannot_be_reached_for_forgetting_is_named(tmp_path: Path) -> None:
    data = DataRepository(tmp_path / "data")
    md5s = data.files(data.add("v1", a_dataset(tmp_path / "new", "a.jpg"), MANIFEST, "the first").dvc_md5)
    config = data.folder / ".dvc" / "config"
    config.write_text(f"{config.read_text()}['remote \"far\"']\n    url = oss://bucket/data\n")
    with pytest.raises(PipelineError, match="the remote far: oss is supported, but requires 'dvc-oss'"):
        data.remove(md5s.values())
    config.write_text(f"[core\n{config.read_text()}")
    with pytest.raises(PipelineError, match="DVC's configuration: config file error"):
        data.remove(md5s.values())


def entry(name: str, *, side: str = "train", used: bool = True, light: str = "day") -> Entry:
    return Entry(name, "d", side, used, light, "0" * 16, "v1")


def test_a_difference_of_versions_tells_pictures_lists_and_labels() -> None:
    before = Manifest(
        (entry("a.jpg"), entry("b.jpg", used=False), entry("c.jpg"), entry("x/d.jpg", side="val"))
    )
    after = Manifest(
        (
            entry("a.jpg", used=False),
            entry("b.jpg"),
            entry("x/d.jpg", side="val"),
            entry("e.jpg", light="night"),
        )
    )
    labels = {"labels/a.txt": "1", "labels/b.txt": "2", "labels/x/d.txt": "3"}
    found = difference("v1", "v2", before, after, labels, {**labels, "labels/x/d.txt": "4"})
    assert (found.added, found.removed) == (["e.jpg"], ["c.jpg"])
    assert (found.used, found.unused, found.relabeled) == (["b.jpg"], ["a.jpg"], ["x/d.jpg"])
    assert found.counts == {"train day": (3, 2), "train night": (0, 1), "val day": (1, 1)}
    text = difference_to_text(found, names=True).splitlines()
    assert text[:3] == ["v1 -> v2", "  added            1", "    e.jpg"]
    assert "not known here" in difference_to_text(difference("v1", "v2", before, after, None, labels), False)


def test_people_list_compare_and_check_out_versions(tmp_path: Path) -> None:
    config = str(tmp_path / "cloud" / "cloud.toml")
    runner = CliRunner()

    def say(*arguments: str) -> str:
        done = runner.invoke(command, ["dataset", *arguments, "--config", config])
        assert done.exit_code == 0, done.output
        return done.output

    with retrain_cloud(tmp_path) as pipeline:
        make_version(pipeline)
        first, second = say("list").splitlines()
        assert first.startswith("v1 ") and "6 pictures; in the lists: train 4 daytime; val 2 daytime" in first
        assert "10 pictures on top of v1, 4 new; in the lists: train 4 daytime, 4 night" in second
        assert [line["version"] for line in json.loads(say("list", "--json"))] == ["v1", "v2"]
        found = json.loads(say("diff", "v1", "v2", "--json"))
        assert found["added"] == [f"{VEHICLE}/new1-{number}.jpg" for number in range(4)]
        assert found["removed"] == found["relabeled"] == []
        assert f"    {VEHICLE}/new1-3.jpg" in say("diff", "v1", "v2", "--names").splitlines()
        folder = tmp_path / "out"
        assert say("checkout", "v2", str(folder)) == f"{folder}: v2, 10 pictures\n"
        assert len(read_dataset(folder).images) == 10
        again = runner.invoke(command, ["dataset", "checkout", "v1", str(folder), "--config", config])
        assert isinstance(again.exception, PipelineError) and "not an empty folder" in str(again.exception)
        other = runner.invoke(command, ["dataset", "checkout", "v9", str(tmp_path / "x"), "--config", config])
        assert "no data version 'v9'; there are v1, v2" in str(other.exception)


def test_tags_are_numbered() -> None:
    assert next_tag([]) == "v1"
    assert next_tag(["v1", "v9", "v10"]) == "v11"
