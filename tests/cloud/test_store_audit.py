"""The audit trail: a chain that shows what was done to it, and a database that lets nobody."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from alembic import command as alembic
from alembic.config import Config
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, delete, text, update
from sqlalchemy.exc import DBAPIError

from cloud.store import Store, open_database
from cloud.store.audit_chain import FIRST, AuditError, Entry, entry_sha256, verify_chain
from cloud.store.audit_entry import AuditEntry
from cloud.store.database import MIGRATIONS, audit, audit_entries
from tests.audits import verified, write_entries
from tests.clouds import make_cloud
from tools.cli.cloud import command

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
TRIGGERS = ("update", "delete", "insert")

details = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cloud.sqlite"


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    opened = open_database(f"sqlite:///{file}")
    yield opened
    opened.close()


def chain(*details: dict[str, Any]) -> list[Entry]:
    """Entries as they are written."""
    entries: list[Entry] = []
    for number, detail in enumerate(details, 1):
        previous = entries[-1].sha256 if entries else FIRST
        fields = (number, AT, "somebody", "did", f"thing {number}", detail, previous)
        entries.append(Entry(*fields, entry_sha256(*fields)))
    return entries


def tampered(file: Path, *statements: str) -> None:
    """Change the file as its owner can: triggers out of the way, and back."""
    with closing(sqlite3.connect(file)) as connection, connection:
        kept = [
            sql
            for (sql,) in connection.execute(
                "SELECT sql FROM sqlite_master WHERE type = 'trigger'"
            ).fetchall()
        ]
        assert len(kept) == len(TRIGGERS)
        for name in TRIGGERS:
            connection.execute(f"DROP TRIGGER audit_entries_keep_on_{name}")
        for statement in (*statements, *kept):
            connection.execute(statement)


@given(
    found=st.lists(st.dictionaries(st.text(), details, max_size=3), min_size=1, max_size=6), data=st.data()
)
def test_a_chain_holds_and_any_one_change_of_it_is_found_where_it_is(
    found: list[Any], data: st.DataObject
) -> None:
    entries = chain(*found)
    assert verify_chain(entries).head == entries[-1].sha256
    index = data.draw(st.integers(0, len(entries) - 1))
    entry = entries[index]
    changed = data.draw(
        st.sampled_from(
            [
                replace(entry, id=entry.id + 1),
                replace(entry, at=AT.replace(microsecond=0)),
                replace(entry, actor="somebody else"),
                replace(entry, action="didn't"),
                replace(entry, subject="another"),
                replace(entry, detail={**entry.detail, "more": None}),
                replace(entry, previous_sha256="1" * 64),
                replace(entry, sha256="1" * 64),
            ]
        )
    )
    with pytest.raises(AuditError, match=f"audit entry {changed.id} "):
        verify_chain([*entries[:index], changed, *entries[index + 1 :]])


@given(found=st.lists(st.just({}), min_size=2, max_size=6), data=st.data())
def test_what_is_taken_out_put_in_or_moved_is_found(found: list[Any], data: st.DataObject) -> None:
    entries = chain(*found)
    index = data.draw(st.integers(0, len(entries) - 2))
    without = entries[:index] + entries[index + 1 :]
    swapped = [*entries[:index], entries[index + 1], entries[index], *entries[index + 2 :]]
    twice = [*entries[: index + 1], *entries[index:]]
    for broken in (without, swapped, twice):
        with pytest.raises(AuditError, match="does not follow"):
            verify_chain(broken)


@given(found=st.lists(st.just({}), min_size=1, max_size=6), data=st.data())
def test_a_cut_tail_shows_by_a_head_that_was_noted(found: list[Any], data: st.DataObject) -> None:
    entries = chain(*found)
    kept = data.draw(st.integers(0, len(entries)))
    verify_chain(entries[:kept])  # by itself it looks whole
    for number, entry in enumerate(entries):
        if number < kept:
            assert verify_chain(entries[:kept], entry.sha256).count == kept
        else:
            with pytest.raises(AuditError, match="cut off"):
                verify_chain(entries[:kept], entry.sha256)


@given(value=details)
def test_what_a_database_does_to_numbers_does_not_break_the_chain(value: Any) -> None:
    """SQLite keeps JSON's text; PostgreSQL its value, to which 1.0 and 1 and 10e-1 are one."""
    fields = (1, AT, "a", "b", "c")
    read = json.loads(json.dumps({"value": value}))
    assert entry_sha256(*fields, {"value": value}, FIRST) == entry_sha256(*fields, read, FIRST)
    assert entry_sha256(*fields, {"value": 1.0}, FIRST) == entry_sha256(*fields, {"value": 1}, FIRST)
    assert entry_sha256(*fields, {"value": True}, FIRST) != entry_sha256(*fields, {"value": 1}, FIRST)


def test_what_cannot_be_written_is_refused_with_its_transaction(store: Store) -> None:
    for detail in ({"x": float("nan")}, {"x": {1: 2}}, {"x": object()}):
        with pytest.raises((ValueError, TypeError)), store.writing() as session:
            audit(session, "tester", "tried", "x", **detail)
    assert verified(store).count == 0


def test_entries_are_written_in_order_with_what_they_tell_of(store: Store) -> None:
    assert verified(store) == verified(store, FIRST)
    with pytest.raises(ZeroDivisionError), store.writing() as session:
        audit(session, "tester", "tried", "undone")
        _ = 1 / 0
    with store.writing() as session:
        audit(session, "tester", "tried", "1", share=0.1, huge=1e22, none=None)
        audit(session, "tester", "tried", "2")
    with store.reading() as session:
        entries = list(audit_entries(session))
    assert [(entry.id, entry.subject) for entry in entries] == [(1, "1"), (2, "2")]
    assert entries[0].previous_sha256 == FIRST
    assert verified(store).count == 2


def test_the_database_refuses_to_change_or_delete_an_entry(store: Store) -> None:
    write_entries(store, "1", "2")
    with store.reading() as session:
        row = dict(session.execute(text("SELECT * FROM audit_entries WHERE id = 1")).one()._mapping)
    columns, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    replaced = f"INSERT OR REPLACE INTO audit_entries ({columns}) VALUES ({values})"
    forked = {**row, "id": 3, "sha256": "1" * 64}
    for statement, told in (
        (update(AuditEntry).where(AuditEntry.id == 1).values(actor="nobody"), "never changed"),
        (delete(AuditEntry), "never deleted"),
        (text(replaced).bindparams(**{**row, "actor": "nobody"}), "only added"),
        (text(replaced).bindparams(**forked), "only added"),
    ):
        with pytest.raises(DBAPIError, match=told), store.writing() as session:
            session.execute(statement)
    assert verified(store).count == 2


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE audit_entries SET actor = 'nobody' WHERE id = 3", "audit entry 3 (tried 3) was changed"),
        ("DELETE FROM audit_entries WHERE id = 3", "audit entry 4 does not follow the one before it (2)"),
        ("DELETE FROM audit_entries WHERE id = 1", "audit entry 2 does not follow"),
        ("UPDATE audit_entries SET detail = '{}' WHERE id = 5", "audit entry 5 (tried 5) was changed"),
        ("DELETE FROM audit_entries WHERE id > 3", None),
    ],
)
def test_verify_names_the_first_broken_entry(tmp_path: Path, statement: str, told: str | None) -> None:
    folder = tmp_path / "cloud"
    store = open_database(make_cloud(folder).store.database)
    write_entries(store, "1", "2", "3", "4", "5", why="for the test")
    store.close()
    verify = ["audit", "verify", "--config", str(folder / "cloud.toml")]
    head = CliRunner().invoke(command, [*verify, "--head"]).output.strip()
    assert CliRunner().invoke(command, [*verify, "--since-head", head]).exit_code == 0
    assert "5 entries hold" in CliRunner().invoke(command, verify).output
    tampered(folder / "cloud.sqlite", statement)
    alone = CliRunner().invoke(command, verify)
    if told is None:
        assert alone.exit_code == 0, "a chain alone does not show a cut tail"
        told = f"hash {head} is not there"
    else:
        assert alone.exit_code == 1
        assert told in str(alone.exception)
    noted = CliRunner().invoke(command, [*verify, "--since-head", head])
    assert noted.exit_code == 1
    assert told in str(noted.exception)


def test_list_shows_who_did_what(tmp_path: Path) -> None:
    folder = tmp_path / "cloud"
    store = open_database(make_cloud(folder).store.database)
    write_entries(store, "1", "2", why="for the test")
    with store.writing() as session:
        audit(session, "owner", "revoked", "1")
    store.close()

    def listed(*more: str) -> list[dict[str, Any]]:
        told = ["audit", "list", "--json", "--config", str(folder / "cloud.toml"), *more]
        return [json.loads(line) for line in CliRunner().invoke(command, told).output.splitlines()]

    assert [(entry["action"], entry["subject"]) for entry in listed()] == [
        ("tried", "1"),
        ("tried", "2"),
        ("revoked", "1"),
    ]
    assert [entry["subject"] for entry in listed("--action", "tried")] == ["1", "2"]
    assert [entry["actor"] for entry in listed("--limit", "1")] == ["owner"]
    assert [entry["action"] for entry in listed("--subject", "1")] == ["tried", "revoked"]
    text_form = CliRunner().invoke(command, ["audit", "list", "--config", str(folder / "cloud.toml")]).output
    assert 'tester: tried 1  {"why": "for the test"}' in text_form


def test_entries_of_before_are_chained_when_the_database_is_migrated(file: Path) -> None:
    engine = create_engine(f"sqlite:///{file}")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.upgrade(config, "0001")
        row = """INSERT INTO audit_entries (id, at, actor, action, subject, detail)
            VALUES (:id, :at, 'a', 'b', 'c', :d)"""
        for number, detail in ((3, '{"x": 1.0}'), (7, '{"y": [0.1, null]}')):
            values = {"id": number, "at": "2026-01-02 03:04:05.678901", "d": detail}
            connection.execute(text(row), values)
    engine.dispose()
    store = open_database(f"sqlite:///{file}")
    write_entries(store, "new")
    with store.reading() as session:
        assert [entry.id for entry in audit_entries(session)] == [3, 7, 8]
    assert verified(store).count == 3
    store.close()
