"""The commands on keys as their owner calls them, and what they leave behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from sqlalchemy import select

from cloud.config import CloudConfig
from cloud.store import open_database
from cloud.store.audit_entry import AuditEntry
from tools.cli.cloud import command


def keys(folder: Path, *arguments: str | Path) -> Result:
    told = [*map(str, arguments), "--config", str(folder / "cloud.toml")]
    return CliRunner().invoke(command, ["keys", *told])


def done(folder: Path, *arguments: str | Path) -> str:
    result = keys(folder, *arguments)
    assert result.exit_code == 0, result.output or repr(result.exception)
    return result.output


def status(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done(folder, "status", "--json"))
    return found


def keyids(folder: Path) -> dict[str, str]:
    return {key["name"]: key["keyid"] for key in status(folder)["keys"]}


def trail(config: CloudConfig) -> list[tuple[str, str, dict[str, Any]]]:
    store = open_database(config.store.database)
    with store.reading() as session:
        entries = session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    store.close()
    return [(entry.action, entry.subject, entry.detail) for entry in entries]
