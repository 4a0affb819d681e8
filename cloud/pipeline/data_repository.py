"""The training data under DVC: a git repository of its own, a tag for each version.

FOLDER/dataset/          the newest version's pictures and labels (`cloud.datasets.writing`), under DVC
FOLDER/dataset.dvc       its MD5, under git
FOLDER/manifest.jsonl    each picture's drive and side, under git

DVC and git are called by their command lines, DVC's library only where no command will do. A version is read
from DVC's cache, whose layout is documented.
Sources: https://dvc.org/doc/command-reference,
https://dvc.org/doc/user-guide/project-structure/internal-files#structure-of-the-cache-directory
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cloud.datasets.files import write_file
from cloud.pipeline.commands import plain_environment, run_command, without_credentials
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.manifest import Manifest

DATASET = "dataset"
MANIFEST = "manifest.jsonl"
REMOTE = "storage"  # DVC's name for the configured remote
GIT_TIMEOUT_S = 120
DVC_TIMEOUT_S = 6 * 3600  # a remote may be slow, and pictures many

_DVC = Path(__file__).with_name("dvc_process.py")
_TAG = re.compile(r"v(\d+)")
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_CONFIG = "[core]\n    analytics = false\n    check_update = false\n    autostage = false\n"
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

    def __init__(self, folder: Path, remote: str | None = None) -> None:
        """Use `folder`; it is made a repository by the first `add`. `remote`: see `publish`."""
        self.folder = folder
        self.remote = remote

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
        self._dvc("add", DATASET)
        write_file(self.folder / MANIFEST, manifest.to_text())
        # By git itself: DVC's own staging resolves paths against the process's folder and skips in silence.
        self._git("add", "--", f"{DATASET}.dvc", MANIFEST, ".gitignore", ".dvcignore", ".dvc")
        if self._git("status", "--porcelain", "--untracked-files=no"):
            self._git("commit", "--quiet", "--message", message)
        self._git("tag", tag)
        return self.version(tag)

    def publish(self, tag: str) -> bool:
        """Copy the newest version to the remote, once; False where there is no remote.

        Raises:
            PipelineError: the remote cannot be written to.
        """
        if self.remote is None or self.tags()[-1:] != [tag]:
            return False
        self._set_remote(self.remote)
        done = f"refs/published/{tag}"
        if not self._git("for-each-ref", done):
            self._dvc("push", "--remote", REMOTE)
            self._git("update-ref", done, tag)
        return True

    def files(self, dvc_md5: str) -> dict[str, str]:
        """Give the MD5 of each file of a version, by its path in the folder.

        Args:
            dvc_md5: of the version's folder.

        Raises:
            PipelineError: DVC's list of its files is not here.
        """
        listing = self.cached(dvc_md5)
        try:
            return {str(entry["relpath"]): str(entry["md5"]) for entry in json.loads(listing.read_text())}
        except FileNotFoundError:
            raise PipelineError(
                f"{self.folder}: the list of files {dvc_md5} is not in the cache; "
                "`dvc fetch --all-tags` there takes it from the remote"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PipelineError(f"{listing}: no list of files as DVC writes it: {error}") from None

    def cached(self, md5: str) -> Path:
        """Give the file of DVC's cache that holds these bytes, if any does."""
        if not _MD5.fullmatch(md5):
            raise PipelineError(f"{self.folder}: {md5!r} is no MD5 as DVC writes it")
        return self.folder / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]

    def export(self, tag: str, folder: Path) -> None:
        """Write a version's dataset to a folder; the repository's own files are not touched.

        What the cache here has not is taken from the remote.

        Raises:
            PipelineError: there is no such version, or it is nowhere whole.
        """
        version = self.version(tag)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if self._is_cached(version):
            for path, md5 in self.files(version.dvc_md5).items():
                self._copy(md5, folder / path)
            return
        place = str(self.folder.absolute())
        remote = () if self.remote is None else ("--remote", REMOTE, "--remote-config", f"url={self.remote}")
        self._dvc("get", place, DATASET, "--rev", tag, "--out", str(folder.absolute()), *remote)

    def drop_newest(self, tag: str) -> None:
        """Take the newest version back, of which nobody else knows; one that is not there is no error."""
        if tag in self.tags():
            self._git("tag", "--delete", tag)
        self.restore()

    def restore(self) -> None:
        """Bring what is under git back to the newest version, whatever a killed attempt has left there."""
        (self.folder / ".git" / "index.lock").unlink(missing_ok=True)
        self._git("reset", "--quiet", "--hard", self.tags()[-1])

    def remove(self, md5s: Collection[str]) -> int:
        """Delete files from DVC's cache and from its remotes, whatever versions have them; give how many.

        No command of DVC's does this: its `gc` goes by whole versions.

        Raises:
            PipelineError: a remote cannot be written to.
        """
        cached = [self.cached(md5) for md5 in md5s]
        here = [path for path in cached if path.exists()]
        for path in here:
            path.unlink(missing_ok=True)
        if md5s and "[remote" in (self.folder / ".dvc" / "config").read_text().replace("'", ""):
            self._remove_from_remotes(md5s)
        return len(here)

    def _remove_from_remotes(self, md5s: Collection[str]) -> None:
        os.environ["DVC_NO_ANALYTICS"] = "true"
        from dvc.exceptions import DvcException
        from dvc.repo import Repo
        from dvc_data.hashfile.db import get_index

        doing = "DVC's configuration"
        try:
            with closing(Repo(str(self.folder), config={"core": {"site_cache_dir": self._site()}})) as repo:
                for name in repo.config["remote"]:
                    doing = f"the remote {name}"
                    files = repo.cloud.get_remote(name).odb
                    for md5 in md5s:
                        if files.exists(md5):
                            files.delete(md5)
                    get_index(files).clear()  # what DVC believes to be there
        except (DvcException, ImportError, OSError) as error:  # a remote's driver is a package of its own
            said = without_credentials(" ".join(str(error).split()))
            raise PipelineError(f"{self.folder}: {doing}: {said}") from None

    def _is_cached(self, version: Version) -> bool:
        if not self.cached(version.dvc_md5).is_file():
            return False
        return all(self.cached(md5).is_file() for md5 in self.files(version.dvc_md5).values())

    def _copy(self, md5: str, target: Path) -> None:
        data = self.cached(md5).read_bytes()
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != md5:
            raise PipelineError(
                f"{self.cached(md5)}: no longer the bytes that were added: remove it, and take it from a copy"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def _prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / ".git").exists():
            self._git("init", "--quiet", "--initial-branch=main")
        # A process that was killed in the middle of `git add` leaves its lock; no other process is here.
        (self.folder / ".git" / "index.lock").unlink(missing_ok=True)
        config = self.folder / ".dvc" / "config"
        if not config.exists() or not config.read_text().strip():
            if not (self.folder / ".dvc" / "cache").exists():  # which would go
                self._dvc("init", "--force")
            write_file(config, _CONFIG)
        if self.remote is not None:
            self._set_remote(self.remote)

    def _set_remote(self, url: str) -> None:
        lines = (self.folder / ".dvc" / "config").read_text().splitlines()
        if f"url = {url}" not in [line.strip() for line in lines]:
            self._dvc("remote", "add", "--force", "--default", REMOTE, url)

    def _dvc(self, *arguments: str) -> str:
        environment = plain_environment(DVC_NO_ANALYTICS="true", DVC_SITE_CACHE_DIR=self._site())
        command = [sys.executable, str(_DVC), str(os.getpid()), *arguments]
        return run_command(f"dvc {arguments[0]}", command, self.folder, DVC_TIMEOUT_S, environment)

    def _site(self) -> str:
        """DVC's notes on files' hashes stay in the repository, not in the machine's /var/tmp."""
        return str(self.folder.absolute() / ".dvc" / "tmp" / "site")

    def _git(self, *arguments: str) -> str:
        command = ["git", *_GIT_OPTIONS, *arguments]
        return run_command(f"git {arguments[0]}", command, self.folder, GIT_TIMEOUT_S, plain_environment())


def next_tag(tags: list[str]) -> str:
    """Name the version after these."""
    return f"v{int(tags[-1][1:]) + 1 if tags else 1}"
