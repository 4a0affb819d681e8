"""The spool's process dies by SIGKILL, at every step and at any moment; what it said is true afterwards."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from edge.fleet.spool import Spool
from tests.edge.spool_child import LIMIT_BYTES, payload


def child(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.edge.spool_child", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def check(folder: Path, said: list[str]) -> set[str]:
    """Open the spool that a dead process left; return the ids in it."""
    spool = Spool(folder)
    there = dict(spool.pending())
    assert all(content == payload(item_id) for item_id, content in there.items())
    assert spool.status().quarantined == 0, "a file appeared before it was whole"
    assert not [path for path in folder.iterdir() if path.suffix == ".tmp"]
    tried = {line.split()[1] for line in said if line.startswith("try")}
    assert set(there) <= tried
    return set(there)


def test_at_every_operation_on_a_file(tmp_path: Path) -> None:
    with child(str(tmp_path), "die") as process:
        output, _ = process.communicate(timeout=240)
    word, steps, status = output.split()
    assert (word, status) == ("survived", "0")
    assert int(steps) > 60
    for step in range(1, int(steps)):
        said = (tmp_path / str(step) / "log").read_text().splitlines()
        folder = tmp_path / str(step) / "spool"
        there = check(folder, said)
        appended = [line.split()[1] for line in said if line.startswith("appended")]
        done = {line.split()[1] for line in said if line.startswith("done")}
        sizes = sum(path.stat().st_size for path in folder.glob("*.item"))
        assert sizes <= LIMIT_BYTES
        # Twenty fit, each more important than the last: the first of them may have made room.
        missing = [item_id for item_id in appended if item_id not in there | done]
        assert missing == appended[: len(missing)] and len(missing) <= 3
        if len(appended) < 18:
            assert not missing


def test_at_any_moment(tmp_path: Path) -> None:
    rng = random.Random(3)
    kept: set[str] = set()
    for life in range(6):
        with child(str(tmp_path), "churn", f"life{life}") as process:
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(rng.randrange(20, 120))]
            process.kill()
            said += process.stdout.readlines()
            process.wait(timeout=60)
        said = [line for line in said if line.endswith("\n")]
        there = check(tmp_path, said + [f"try {item_id}" for item_id in kept])
        done = {line.split()[1] for line in said if line.startswith("done")}
        appended = {line.split()[1] for line in said if line.startswith("appended")}
        assert kept | (appended - done) <= there
        kept = there
    assert len(kept) > 30
