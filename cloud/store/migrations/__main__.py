"""Write the next revision from the difference between `models.py` and the newest one.

    python -m cloud.store.migrations "what changes"

Read it before it is committed: alembic does not see renames, and takes them for a drop and an add.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config

from cloud.store.database import MIGRATIONS, open_database


def main(message: str) -> None:
    """Write one file into versions/, numbered after the last one."""
    number = len(list((MIGRATIONS / "versions").glob("[0-9]*.py"))) + 1
    with tempfile.TemporaryDirectory() as folder:
        store = open_database(f"sqlite:///{Path(folder) / 'previous.sqlite'}")
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with store.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.revision(config, message, autogenerate=True, rev_id=f"{number:04d}")
        store.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
