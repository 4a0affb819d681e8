"""The training data under DVC: a git repository of its own, a tag for each version.

FOLDER/dataset/          the newest version's pictures and labels (`cloud.datasets.writing`), under DVC
FOLDER/dataset.dvc       its MD5, under git
FOLDER/manifest.jsonl    each picture's drive and side, under git

Source of the commands: https://dvc.org/doc/api-reference and https://dvc.org/doc/use-cases/versioning-data-and-models
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.datasets.files import write_file
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.manifest import Manifest

DATASET = "dataset"
MANIFEST = "manifest.jsonl"
GIT_TIMEOUT_S = 120

_TAG = re.compile(r"v(\d+)")
# Nobody's name and no hooks of the machine's: what is committed here is the pipeline's own.
_GIT_OPTIONS = (
    "-c",
    "user.name=traffic-vision",
    "-c",
    "user.email=traffic-vision@localhost",
    "-c",
    "commit.gpgsign=false",
    "-c",
    "tag.gpgsign=false",
    "-c",
    "core.hooksPath=/dev/null",
)


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the data.

    Attributes:
        tag: its name, v1, v2...
        dvc_md5: of the folder, as DVC names it: 32 hex digits and `.dir`.
        git_commit: of the data repository.
        files: how many files the folder has.
    """

    tag: str
    dvc_md5: str
    git_commit: str
    files: int


class DataRepository:
    """The repository in one folder. One process at a time may write; the stages' lock sees to that."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`; it is made a repository by the first `add`."""
        self.folder = folder

    def tags(self) -> list[str]:
        """List the versions, the oldest first."""
        if not (self.folder / ".git").exists():
            return []
        tags = [tag for tag in self._git("tag", "--list").split() if _TAG.fullmatch(tag)]
        return sorted(tags, key=lambda tag: int(tag[1:]))

    def version(self, tag: str) -> Version:
        """Describe a version.

        Raises:
            PipelineError: there is none of this name, or it cannot be read.
        """
        import yaml

        if tag not in self.tags():
            known = ", ".join(self.tags()) or "none"
            raise PipelineError(f"{self.folder}: there is no data version {tag!r}; there are {known}")
        commit = self._git("rev-list", "-n", "1", tag)
        out = yaml.safe_load(self._git("show", f"{tag}:{DATASET}.dvc"))["outs"][0]
        return Version(tag, out["md5"], commit, out["nfiles"])

    def manifest(self, tag: str) -> Manifest:
        """Read a version's manifest."""
        return Manifest.from_text(self._git("show", f"{tag}:{MANIFEST}"))

    def newest_manifest(self) -> Manifest:
        """Read the newest version's manifest; an empty one where there is no version."""
        tags = self.tags()
        return self.manifest(tags[-1]) if tags else Manifest()

    def add(self, tag: str, dataset: Path, manifest: Manifest, message: str) -> Version:
        """Make a folder the next version; a tag that is there already stays as it is.

        Whatever an earlier attempt left half done is done again. `dataset` is moved into the repository.

        Args:
            tag: of the version.
            dataset: a folder on the same file system.
            manifest: what its pictures are.
            message: of the commit.

        Raises:
            PipelineError: git or DVC refuse.
        """
        if tag in self.tags():
            return self.version(tag)
        self._prepare()
        target = self.folder / DATASET
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(dataset, target)
        with self._dvc() as repo:
            repo.add(str(target))
        write_file(self.folder / MANIFEST, manifest.to_text())
        # By git itself: DVC's own staging resolves paths against the process's folder and skips in silence.
        self._git("add", "--", f"{DATASET}.dvc", MANIFEST, ".gitignore", ".dvcignore", ".dvc")
        if self._git("status", "--porcelain", "--untracked-files=no"):
            self._git("commit", "--quiet", "--message", message)
        self._git("tag", tag)
        return self.version(tag)

    def export(self, tag: str, folder: Path) -> None:
        """Write a version's dataset to a folder; the repository's own files are not touched.

        Raises:
            PipelineError: there is no such version, or DVC cannot read it.
        """
        self.version(tag)
        _quiet_dvc()
        from dvc.api import DVCFileSystem
        from dvc.exceptions import DvcException

        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            files = DVCFileSystem(str(self.folder), rev=tag, config=self._dvc_config())
            files.get(DATASET, str(folder), recursive=True)
        except (DvcException, OSError) as error:
            raise PipelineError(f"{self.folder}: version {tag} cannot be read: {error}") from error

    def _prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / ".git").exists():
            self._git("init", "--quiet", "--initial-branch=main")
        # A process that was killed in the middle of `git add` leaves its lock; no other process is here.
        (self.folder / ".git" / "index.lock").unlink(missing_ok=True)
        if (self.folder / ".dvc" / "config").exists():
            return
        _quiet_dvc()
        from dvc.repo import Repo

        repo = Repo.init(str(self.folder), force=True)
        try:
            with repo.config.edit("repo") as options:
                options["core"].update({"analytics": False, "check_update": False, "autostage": False})
        finally:
            repo.close()

    @contextmanager
    def _dvc(self) -> Iterator[Any]:
        _quiet_dvc()
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        repo = Repo(str(self.folder), config=self._dvc_config())
        try:
            yield repo
        except DvcException as error:
            raise PipelineError(f"{self.folder}: DVC: {error}") from error
        finally:
            repo.close()

    def _dvc_config(self) -> dict[str, Any]:
        """DVC's notes on files' hashes stay in the repository, not in the machine's /var/tmp."""
        return {"core": {"site_cache_dir": str(self.folder.absolute() / ".dvc" / "tmp" / "site")}}

    def _git(self, *arguments: str) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        try:
            done = subprocess.run(
                ["git", "-C", str(self.folder), *_GIT_OPTIONS, *arguments],
                capture_output=True,
                text=True,
                check=True,
                timeout=GIT_TIMEOUT_S,
                env=environment,
            )
        except FileNotFoundError:
            raise PipelineError("the data repository needs git, and there is none here: install it") from None
        except subprocess.TimeoutExpired:
            raise PipelineError(f"{self.folder}: git {arguments[0]} took over {GIT_TIMEOUT_S} s") from None
        except subprocess.CalledProcessError as error:
            raise PipelineError(f"{self.folder}: git {arguments[0]}: {error.stderr.strip()}") from None
        return done.stdout.strip()


def next_tag(tags: list[str]) -> str:
    """Name the version after these."""
    return f"v{int(tags[-1][1:]) + 1 if tags else 1}"


def _quiet_dvc() -> None:
    """Import DVC without its analytics, and without the advice to people that it logs."""
    os.environ["DVC_NO_ANALYTICS"] = "true"
    import dvc.logger  # noqa: F401 - its import sets the level
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # else each progress bar that DVC does not show leaves a thread behind
    logging.getLogger("dvc").setLevel(logging.WARNING)
