"""The database as PostgreSQL: a server of its own is started, if one is installed and the driver too."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import delete, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from cloud.store import Store, open_database
from cloud.store.audit_entry import AuditEntry
from cloud.store.columns import Base
from cloud.store.database import audit, audit_entries
from cloud.store.models import StageRecord
from tests.audits import verified, write_entries, write_from_processes
from tests.databases import assert_vehicles_of_before_have_no_session_tokens
from tests.waiting import eventually

pytestmark = pytest.mark.services

STOP_S = 60


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    programs = _programs()
    # As root it refuses to run; on its own machine's files it needs no other rights.
    user = "postgres" if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="tv-pg-") as place:
        folder = Path(place)
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        data = folder / "data"
        made = subprocess.run(
            [programs / "initdb", "--auth=trust", "--username=tester", "--no-sync", "-D", data],
            user=user,
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", folder, "-h", "", "-c", "fsync=off"],
            user=user,
            stderr=subprocess.DEVNULL,
        )
        try:
            eventually(lambda: (folder / ".s.PGSQL.5432").exists(), "PostgreSQL listens")
            yield f"postgresql+psycopg://tester@/postgres?host={folder}"
        finally:
            server.terminate()
            server.wait(STOP_S)


def _programs() -> Path:
    """Where the server's programs are: Debian puts them on nobody's PATH."""
    found = [Path(name) for name in (shutil.which("postgres"),) if name is not None]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("no PostgreSQL is installed")
    return found[-1].parent


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_database(url)
    yield opened
    opened.close()


def test_the_revisions_make_the_tables_of_the_models(store: Store) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_vehicles_of_before_have_no_session_tokens(url: str, store: Store) -> None:
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CREATE DATABASE earlier"))
    assert_vehicles_of_before_have_no_session_tokens(url.replace("/postgres?", "/earlier?"))


def test_processes_that_write_at_once_do_not_fork_the_chain(url: str, store: Store) -> None:
    before = verified(store).count
    write_from_processes(url, 3, 20)
    assert verified(store).count == before + 120


def test_numbers_come_back_as_the_same_hash(store: Store) -> None:
    write_entries(store, "numbers", values=[1.0, 1e22, 0.1, 1e-7, -0.0, 2**60, None, True], text="ä\u2028")
    verified(store)


def test_the_database_refuses_to_change_or_delete_an_entry(store: Store) -> None:
    write_entries(store, "1")
    for statement in (
        update(AuditEntry).values(actor="nobody"),
        delete(AuditEntry),
        text("TRUNCATE audit_entries"),
    ):
        with pytest.raises(DBAPIError, match="never changed or deleted"), store.writing() as session:
            session.execute(statement)
    with store.reading() as session:
        newest = list(audit_entries(session))[-1]
    forked = AuditEntry(
        id=newest.id + 1,
        actor="a",
        action="b",
        subject="c",
        previous_sha256=newest.previous_sha256,
        sha256="1" * 64,
    )
    with pytest.raises(IntegrityError), store.writing() as session:
        session.add(forked)
    verified(store)


def test_the_chains_end_is_held_for_a_moment_only(store: Store) -> None:
    """Two transactions audit first and then want the other's rows: neither waits for the chain meanwhile."""
    with store.writing() as session:
        session.add_all([StageRecord(stage="train", key="a"), StageRecord(stage="train", key="b")])
    with store.writing() as first:
        audit(first, "tester", "tried", "first")
        first.get_one(StageRecord, ("train", "a"), with_for_update=True)
        with store.writing() as second:
            audit(second, "tester", "tried", "second")
            second.get_one(StageRecord, ("train", "b"), with_for_update=True)
    with store.reading() as session:
        assert [entry.subject for entry in audit_entries(session)][-2:] == ["second", "first"]
