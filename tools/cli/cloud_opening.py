"""What the cloud's commands have in common: the option for its configuration, and opening its database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cloud.config import CloudConfig
    from cloud.store import Store

CONFIG = click.option(
    "--config", type=click.Path(path_type=Path), required=True, help="The cloud's cloud.toml."
)


@contextmanager
def opened_store(path: Path) -> Iterator[tuple[CloudConfig, Store]]:
    """Open the cloud's database; give its configuration too."""
    from cloud.config import load_config
    from cloud.store import open_database

    config = load_config(path)
    with closing(open_database(config.store.database)) as store:
        yield config, store
