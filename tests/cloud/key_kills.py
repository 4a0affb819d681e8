"""Run by test_release_key_kills.py in a process of its own: kills each change of keys everywhere."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from tuf.api.exceptions import RepositoryError

from cloud.release import key_publishing, repository
from cloud.release.ceremony import Wish, begin_delegation, begin_rotation, pending_change
from cloud.release.change_file import KeyChange
from cloud.release.keys import create_keys, load_keys
from cloud.release.role_files import newest_root
from tests.cloud.release_kills import seen
from tests.killing import killed_at_each_point

Begin = Callable[[Path, Path], KeyChange]


def change(place: Path, begin: Begin) -> None:
    """What the command line does, less the audit trail."""
    folder, keys = place / "repository", place / "keys"
    if pending_change(folder, keys) is None:
        begin(folder, keys)
    key_publishing.publish(folder, keys)
    key_publishing.finish(folder)


def kill_everywhere(ready: Path, begin: Begin, always_whole: bool = True) -> int:
    """Kill the change on a copy of `ready` at each point, let the server resume, do it again.

    Returns how many points it had.

    Args:
        ready: a folder with repository and keys.
        begin: the change's first step.
        always_whole: no kill may leave vehicles with metadata that does not check.
    """
    points = 0
    trial, cache = ready.parent / "trial", ready.parent / "cache"
    target = newest_root(ready / "repository").signed.version

    def start() -> None:
        for place in (trial, cache):
            shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(ready, trial)
        seen(trial / "repository", cache / "known")

    start()
    for _ in killed_at_each_point(lambda: change(trial, begin)):
        points += 1
        folder = trial / "repository"
        try:
            assert seen(folder, cache / "known") == []
        except RepositoryError:
            assert not always_whole
            assert newest_root(folder).signed.version > target
        key_publishing.resume(folder, trial / "keys")  # as the server does
        assert seen(folder, cache / "known") == []
        change(trial, begin)
        assert seen(folder, cache / "known") == seen(folder, cache / "fresh") == []
        ring = load_keys(trial / "keys")
        for name in ring.keys:
            ring.signer(name)
        assert len(list((trial / "keys").glob("*.pem"))) == len(ring.keys), "no key is left behind"
        start()
    return points


def main(place: Path) -> None:
    """Print how many points each change had."""
    ready = place / "ready"
    repository.create_repository(
        ready / "repository", create_keys(ready / "keys"), datetime.now(timezone.utc)
    )
    wish = Wish("owner", "stolen")

    def rotate(subject: str, revoke: bool = False) -> Begin:
        return lambda folder, keys: begin_rotation(folder, keys, subject, wish, revoke=revoke)

    points = {
        "timestamp": kill_everywhere(ready, rotate("timestamp", revoke=True)),
        "targets": kill_everywhere(ready, rotate("targets")),
        "models": kill_everywhere(ready, rotate("models")),
        "fleet": kill_everywhere(
            ready, lambda folder, keys: begin_delegation(folder, keys, "trucks", wish, own_keys=True)
        ),
    }
    (ready / "keys" / "snapshot.pem").unlink()
    points["lost"] = kill_everywhere(ready, rotate("snapshot"), always_whole=False)
    print(json.dumps(points))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
