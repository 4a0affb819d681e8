"""Run by test_release_repository.py in a process of its own: kills each step of a release everywhere."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from cloud.release import releasing, repository
from cloud.release.keys import create_keys
from tests.killing import killed_at_each_point
from tests.update_world import TERMS, model


class FolderFetcher(FetcherInterface):
    """Reads the repository's metadata as it lies on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _fetch(self, url: str):
        path = self.folder / "metadata" / url.rpartition("/")[2]
        if not path.exists():
            raise DownloadHTTPError(url, 404)
        return iter([path.read_bytes()])


def seen(folder: Path, cache: Path) -> list[str]:
    """The releases' paths as a client with this cache sees them, everything verified."""
    cache.mkdir(parents=True, exist_ok=True)
    root = (folder / "metadata" / "1.root.json").read_bytes()
    updater = Updater(str(cache), "x/", fetcher=FolderFetcher(folder), bootstrap=root)
    updater.refresh()
    updater.get_targetinfo("models/-")
    return sorted(json.loads((cache / "models.json").read_bytes())["signed"]["targets"])


def kill_everywhere(ready: Path, work: Callable[[Path], None], allowed: tuple[list[str], ...]) -> int:
    """Kill `work` on a copy of `ready` at each point, look, do it again, look again; return the points.

    Args:
        ready: the repository before the step.
        work: the step.
        allowed: what clients may see in between; the last one is what they see at the end.
    """
    points = 0
    folder, known = ready.parent / "trial", ready.parent / "known"
    shutil.copytree(ready, folder)
    for _ in killed_at_each_point(lambda: work(folder)):
        points += 1
        if (folder / "metadata" / "timestamp.json").exists():
            assert seen(folder, known) in allowed
        work(folder)
        # One client saw what the kill left; to another one all of it is new.
        assert seen(folder, known) == seen(folder, ready.parent / "fresh") == allowed[-1]
        for place in (folder, known, ready.parent / "fresh"):
            shutil.rmtree(place)
        shutil.copytree(ready, folder)
    shutil.rmtree(folder)
    work(ready)
    return points


def main(place: Path) -> None:
    """Print how many points each step had."""
    now = datetime.now(timezone.utc)  # python-tuf's client compares with it
    keys = create_keys(place / "keys")
    ready = place / "repository"
    ready.mkdir()
    old = ["models/rectangles-1.onnx"]
    new = [*old, "models/rectangles-2.onnx"]

    def create(folder: Path) -> None:
        repository.create_repository(folder, keys, now)

    def propose(folder: Path, version: str = "2") -> None:
        releasing.propose_release(folder, model(version), TERMS, keys.signer("trainer"), now)

    def complete(folder: Path, version: str = "2") -> None:
        signers = [keys.signer(name) for name in ("gate", "snapshot", "timestamp")]
        releasing.complete_release(folder, sha256(model(version)).hexdigest(), *signers, now)
        for release in repository.list_releases(folder):
            assert release.file.stat().st_size == release.length

    def refresh(folder: Path) -> None:
        online = keys.signer("snapshot"), keys.signer("timestamp")
        repository.refresh_timestamp(folder, *online, now + timedelta(hours=20))

    points = {"create": kill_everywhere(ready, create, ([],))}
    propose(ready, "1")
    complete(ready, "1")
    points["propose"] = kill_everywhere(ready, propose, (old,))
    points["complete"] = kill_everywhere(ready, complete, (old, new))
    assert releasing.pending_release(ready) is None
    points["refresh"] = kill_everywhere(ready, refresh, (new,))
    print(json.dumps(points))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
