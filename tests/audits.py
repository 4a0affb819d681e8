"""What the tests of the audit trail share, for SQLite and for PostgreSQL."""

from __future__ import annotations

import multiprocessing

from cloud.store import Store, open_database
from cloud.store.audit_chain import Verified, verify_chain
from cloud.store.database import audit, audit_entries

WAIT_S = 60


def verified(store: Store, since_head: str | None = None) -> Verified:
    """The trail's count and head, where it holds."""
    with store.reading() as session:
        return verify_chain(audit_entries(session), since_head)


def write_entries(store: Store, *subjects: str, **detail: object) -> None:
    """An entry for each subject, each in a transaction of its own."""
    for subject in subjects:
        with store.writing() as session:
            audit(session, "tester", "tried", subject, **detail)


def write_from_processes(url: str, processes: int, times: int) -> None:
    """Several processes write at once, two entries a transaction."""
    spawn = multiprocessing.get_context("spawn")
    started = [spawn.Process(target=_write, args=(url, number, times)) for number in range(processes)]
    for process in started:
        process.start()
    for process in started:
        process.join(WAIT_S)
    assert [process.exitcode for process in started] == [0] * processes


def _write(url: str, number: int, times: int) -> None:
    store = open_database(url)
    for time in range(times):
        with store.writing() as session:
            audit(session, f"process {number}", "tried", str(time), part=1)
            audit(session, f"process {number}", "tried", str(time), part=2)
    store.close()
