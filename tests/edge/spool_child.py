"""A process that works on a spool until it is killed. What it prints has happened: one line, flushed.

`python -m tests.edge.spool_child FOLDER WHAT [N]`; imports as little as the spool itself does.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

from edge.fleet.spool import Refusal, Spool, SpoolOptions

PAYLOAD_BYTES = 300
LIMIT_BYTES = 20 * (PAYLOAD_BYTES + 100)


def payload(item_id: str) -> bytes:
    """Content that can be told from any other item's."""
    return (item_id.encode() + b".") * (PAYLOAD_BYTES // (len(item_id) + 1))


def say(*words: object) -> None:
    print(*words, flush=True)


def churn(folder: Path, prefix: str) -> None:
    """Append for ever, and acknowledge every third item."""
    spool, number = Spool(folder), 0
    while True:
        item_id = f"{prefix}-{number}"
        say("try", item_id)
        if spool.append(item_id, payload(item_id), number % 5):
            say("appended", item_id)
        if number % 3 == 2:
            say("done", item_id)
            spool.acknowledge(item_id)
        number += 1


def script(folder: Path) -> None:
    """A short life of a spool: appends, an acknowledgement, a full spool that makes room."""
    spool = Spool(folder, SpoolOptions(limit_bytes=LIMIT_BYTES))
    for number in range(22):
        item_id = f"item-{number}"
        say("try", item_id)
        if spool.append(item_id, payload(item_id), number):
            say("appended", item_id)
        if number == 3:
            say("done", item_id)
            spool.acknowledge(item_id)


def die_at_every_step(folder: Path) -> None:
    """Fork, let the n-th child die by SIGKILL at its n-th operation on a file, and go on until one lives."""
    for step in range(1, 10_000):
        place = folder / str(step)
        place.mkdir()
        child = os.fork()
        if child == 0:
            log = os.open(place / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            left = step

            def operation(event: str, _: tuple[object, ...]) -> None:
                nonlocal left
                if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.listdir", "os.scandir"):
                    left -= 1
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(operation)
            script(place / "spool")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            say("survived", step, os.WEXITSTATUS(status))
            return


def full_disk(folder: Path) -> None:
    """A disk that takes no file of more than 1 kB: some writes stop half-way."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    spool = Spool(folder)
    for number in range(10):
        item_id = f"item-{number}"
        say(item_id, spool.append(item_id, b"." * (500 if number % 2 else 5000)))
    status = spool.status()
    say("refused", status.refused[Refusal.DISK], "errors", status.disk_errors, "items", status.items)


if __name__ == "__main__":
    where, what = Path(sys.argv[1]), sys.argv[2]
    if what == "churn":
        churn(where, sys.argv[3])
    elif what == "die":
        die_at_every_step(where)
    else:
        full_disk(where)
