"""Alembic's entry: migrates on the connection that `cloud.store.database.open_database` gives.

A new revision, from the repository's root, with a database at the previous one:
    python -m cloud.store.migrations "what changes"
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import JSON, Enum

from cloud import store
from cloud.store.columns import Base, UtcTime

# Importing the tables is what fills the metadata: whichever modules there are beside this folder.
for _module in pkgutil.iter_modules(store.__path__, f"{store.__name__}."):
    if not _module.ispkg:
        importlib.import_module(_module.name)


def plain_types(kind: str, item: Any, autogen: AutogenContext) -> str | Literal[False]:
    """Render our own types by SQLAlchemy's: a revision must not change with `cloud.store.columns`."""
    if kind != "type":
        return False
    if isinstance(item, UtcTime):
        return "sa.DateTime(timezone=True)"
    if isinstance(item, Enum):
        return f"sa.String(length={item.length})"
    if isinstance(item, JSON):
        autogen.imports.add("from sqlalchemy.dialects import postgresql")
        return 'sa.JSON().with_variant(postgresql.JSONB(), "postgresql")'
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite can undo the making of tables too; the caller's transaction does.
    transactional_ddl=True,
    # SQLite cannot alter most of a table: alembic then makes it anew.
    render_as_batch=True,
    compare_type=True,
    render_item=plain_types,
)
context.run_migrations()
