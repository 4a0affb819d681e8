"""The database: SQLite in a file out of the box, PostgreSQL by its URL. Migrated when it is opened."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from cloud.store.audit_chain import FIRST, Entry, entry_sha256
from cloud.store.audit_entry import AuditEntry
from cloud.store.columns import utc_now
from edge.errors import TrafficVisionError

BUSY_TIMEOUT_S = 30
MIGRATIONS = Path(__file__).parent / "migrations"
# Any number, the same in each process: who holds PostgreSQL's advisory lock of this number migrates.
_MIGRATION_LOCK = 7_426_351
_AUDIT_LOCK = 7_426_352  # the same, for the end of the audit trail's chain
_AUDITED = "audited"  # in a session's `info`: rows for the audit trail that are to be written

_LOG = logging.getLogger(__name__)


class StoreError(TrafficVisionError):
    """The database cannot be opened."""


@dataclass(frozen=True, slots=True)
class Store:
    """An open database, for any number of threads.

    Attributes:
        engine: SQLAlchemy's, for what the sessions below don't give.
    """

    engine: Engine

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session that sees one state of the database. What it loaded stays usable after it."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a session that is one transaction: on disk when the block ends well, undone when it raises.

        On SQLite it takes the only writer's place at once, so that what it reads holds until it commits; on
        PostgreSQL, which has many writers, rows that are read to be changed need `with_for_update()`.
        Keep it short: nothing slow, and no network inside.
        """
        engine = self.engine.execution_options(writes=True)
        with Session(engine, expire_on_commit=False, info={_AUDITED: []}) as session, session.begin():
            yield session
            _write_audit(session)

    def settle(self) -> None:
        """Bring SQLite's log of changes into its file and empty it: what was deleted is in it too."""
        if self.engine.dialect.name == "sqlite":
            with self.engine.connect() as connection:
                cursor = connection.connection.cursor()
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                cursor.close()

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()


def audit(session: Session, actor: str, action: str, subject: str, **detail: Any) -> None:
    """Add a row to the audit trail, in the transaction of what it tells of.

    It is written when that ends, so that the place at the chain's end is held for a moment only.

    Args:
        session: of `Store.writing`.
        actor: a user, "server", or a stage.
        action: such as released or revoked.
        subject: what it was done to.
        detail: more, as JSON takes it.
    """
    session.info[_AUDITED].append((actor, action, subject, detail))


def audit_entries(session: Session) -> Iterator[Entry]:
    """Give the audit trail from its first entry on; many rows never lie in memory at once."""
    rows = session.scalars(select(AuditEntry).order_by(AuditEntry.id).execution_options(yield_per=500))
    for row in rows:
        yield Entry(
            row.id,
            row.at,
            row.actor,
            row.action,
            row.subject,
            row.detail,
            row.previous_sha256,
            row.sha256,
        )


def _write_audit(session: Session) -> None:
    entries = session.info[_AUDITED]
    if not entries:
        return
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer anyway
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _AUDIT_LOCK})
    newest = session.execute(
        select(AuditEntry.id, AuditEntry.sha256).order_by(AuditEntry.id.desc()).limit(1)
    ).first()
    number, head = (0, FIRST) if newest is None else newest
    for actor, action, subject, detail in entries:
        number, at, previous = number + 1, utc_now(), head
        head = entry_sha256(number, at, actor, action, subject, detail, previous)
        session.add(
            AuditEntry(
                id=number,
                at=at,
                actor=actor,
                action=action,
                subject=subject,
                detail=detail,
                previous_sha256=previous,
                sha256=head,
            )
        )
    session.flush()


def open_database(url: str) -> Store:
    """Open the database at `url`, make it where it is new, and bring its tables up to date.

    Any number of processes may do so at once; within one, not several threads (alembic's limit).

    Args:
        url: SQLAlchemy's, such as `sqlite:////srv/cloud.sqlite` or `postgresql+psycopg://host/name`.

    Raises:
        StoreError: the URL is none, its driver or folder is missing, nothing answers there, or the
            database was made by newer code.
    """
    parsed = _parse(url)
    shown = parsed.render_as_string(hide_password=True)
    try:
        engine = create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite")
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise StoreError(
            f"{shown}: no driver for this database is installed ({error}); for PostgreSQL:"
            " pip install 'traffic-vision[cloud-postgresql]'"
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    try:
        _migrate(engine)
    except CommandError as error:
        engine.dispose()
        raise StoreError(f"{shown}: made by a newer version of this software ({error})") from error
    except DBAPIError as error:
        engine.dispose()
        raise StoreError(f"{shown}: {str(error.orig).strip() or error}") from error
    except SQLAlchemyError:
        engine.dispose()
        raise
    return Store(engine)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError(f"{url!r} is not a database's URL, such as sqlite:////srv/cloud.sqlite") from error
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise StoreError("a database in memory forgets; name a file: sqlite:////srv/cloud.sqlite")
        folder = Path(parsed.database).parent
        if not folder.is_dir():
            raise StoreError(f"{parsed.database}: there is no folder {folder}")
    return parsed


def _prepare_sqlite(connection: Any, _: ConnectionPoolEntry) -> None:
    # Without its own BEGINs (see _begin_sqlite): Python's are late, and a transaction that first reads and
    # then writes would fail at once where another wrote in between, whatever the busy timeout.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
    cursor.execute("PRAGMA journal_mode = WAL")
    # In WAL mode NORMAL loses the last commits in a power cut; what is acknowledged must not be lost.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    # What is deleted is overwritten: somebody may have wanted it forgotten.
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    head = ScriptDirectory.from_config(config).get_current_head()
    # One transaction: two processes that open a new database at once make it once, a killed one leaves none.
    with engine.execution_options(writes=True).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    _LOG.debug("database at revision %s", head)
