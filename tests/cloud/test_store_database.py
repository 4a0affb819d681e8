"""The database: migrated when opened, durable, safe for several writers; the tables match the revisions."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from cloud.store import Store, StoreError, open_database
from cloud.store.columns import Base
from cloud.store.database import audit, audit_entries
from cloud.store.models import Release, Sample, StageRecord, Vehicle
from cloud.store.states import SampleState
from tests.audits import verified
from tests.databases import assert_vehicles_of_before_have_no_session_tokens

WAIT_S = 60


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'cloud.sqlite'}"


def with_a_vehicle(url: str) -> Store:
    store = open_database(url)
    with store.writing() as session:
        session.add(Vehicle(name="one"))
    return store


def a_sample(**fields: object) -> Sample:
    values = {
        "vehicle": "one",
        "external_id": "a",
        "content_sha256": "0" * 64,
        "jpeg_sha256": "1" * 64,
        "jpeg_bytes": 3,
        "object_key": "1" * 64,
        "camera": "front",
        "width_px": 640,
        "height_px": 360,
        "source_id": "sim:7",
        "drive_id": "7",
        "picture": "",
        "drive_ns": 2**62,
        "reasons": ["drift"],
        "priority": 0.5,
        "message": b"",
    }
    return Sample(**{**values, **fields})


def test_the_revisions_make_the_tables_of_the_models(url: str) -> None:
    store = open_database(url)
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    store.close()


def test_vehicles_of_before_have_no_session_tokens(url: str) -> None:
    assert_vehicles_of_before_have_no_session_tokens(url)


def test_what_was_written_is_there_after_opening_again(url: str) -> None:
    store = with_a_vehicle(url)
    with store.writing() as session:
        session.add(a_sample())
    store.close()
    store = open_database(url)
    with store.reading() as session:
        (sample,) = session.scalars(select(Sample))
    assert (sample.reasons, sample.drive_ns, sample.state) == (["drift"], 2**62, SampleState.STORED)
    assert datetime.now(timezone.utc) - sample.received < timedelta(minutes=5)
    store.close()


def test_a_transaction_that_raises_leaves_nothing(url: str) -> None:
    store = with_a_vehicle(url)
    with pytest.raises(ZeroDivisionError), store.writing() as session:
        session.add(a_sample())
        session.flush()
        _ = 1 / 0
    with store.reading() as session:
        assert session.scalar(select(func.count()).select_from(Sample)) == 0
    store.close()


def test_foreign_keys_hold(url: str) -> None:
    store = open_database(url)
    with pytest.raises(IntegrityError), store.writing() as session:
        session.add(a_sample(vehicle="nobody"))
    with pytest.raises(IntegrityError), store.writing() as session:
        session.add(Release(counter=1, candidate_sha256="0" * 64, target_path="models/m", target_sha256=""))
    store.close()


def test_a_vehicles_ids_are_its_own(url: str) -> None:
    store = with_a_vehicle(url)
    with store.writing() as session:
        session.add(Vehicle(name="two"))
        session.flush()
        session.add_all([a_sample(), a_sample(vehicle="two")])
    with pytest.raises(IntegrityError), store.writing() as session:
        session.add(a_sample())
    store.close()


def test_a_time_without_a_zone_is_refused(url: str) -> None:
    store = with_a_vehicle(url)
    with pytest.raises(Exception, match="no time zone"), store.writing() as session:
        session.add(a_sample(received=datetime(2026, 1, 1)))
    store.close()


def _count_up(url: str, times: int) -> None:
    store = open_database(url)
    for _ in range(times):
        with store.writing() as session:
            record = session.get(StageRecord, ("train", "run"))
            if record is None:
                session.add(StageRecord(stage="train", key="run", attempts=1))
            else:
                record.attempts += 1
            audit(session, "test", "counted", "run", process=os.getpid(), part=1)
            audit(session, "test", "counted", "run", process=os.getpid(), part=2)
    store.close()


def test_processes_make_one_database_at_once_and_lose_no_update(url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_count_up, args=(url, 20)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(WAIT_S)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    store = open_database(url)
    with store.reading() as session:
        record = session.get(StageRecord, ("train", "run"))
        assert record is not None
        assert record.attempts == 60
        trail = [(entry.detail["process"], entry.detail["part"]) for entry in audit_entries(session)]
    assert verified(store).count == len(trail) == 120, "the audit trail's chain has no fork"
    assert all((trail[at][0], 2) == trail[at + 1] for at in range(0, 120, 2)), "a transaction's stay together"
    store.close()


def test_sqlite_is_set_to_survive(url: str) -> None:
    store = open_database(url)
    with store.engine.connect() as connection:
        values = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert values == ["wal", 2, 1]
    store.close()


def test_a_database_of_newer_code_is_refused(url: str, tmp_path: Path) -> None:
    open_database(url).close()
    with sqlite3.connect(tmp_path / "cloud.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreError, match="newer version"):
        open_database(url)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("cloud.sqlite", "not a database's URL"),
        ("sqlite:////nowhere/at/all/cloud.sqlite", "there is no folder /nowhere/at/all"),
        ("sqlite://", "names? a file|name a file"),
        ("nosuch://host/name", "no driver"),
    ],
)
def test_a_bad_url_is_one_clear_error(bad: str, says: str) -> None:
    with pytest.raises(StoreError, match=says):
        open_database(bad)


def test_a_file_that_is_no_database_is_one_clear_error(url: str, tmp_path: Path) -> None:
    (tmp_path / "cloud.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match="not a database"):
        open_database(url)


def test_a_password_is_not_told() -> None:
    with pytest.raises(StoreError) as refused:
        open_database("postgresql+nosuch://me:secret@host/name")
    assert "secret" not in str(refused.value)
