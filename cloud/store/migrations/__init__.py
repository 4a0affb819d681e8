"""The database's versions, by alembic. Each is a file in versions/; released ones are never edited."""
