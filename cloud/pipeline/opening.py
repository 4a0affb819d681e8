"""Opening what the pipeline needs, and closing it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cloud.config import CloudConfig
from cloud.labeling import LabelSource
from cloud.pipeline.job import Listener, Pipeline
from cloud.store import FolderObjects, open_database


@contextmanager
def opened(
    config: CloudConfig, listen: Listener = lambda _: None, label_source: LabelSource | None = None
) -> Iterator[Pipeline]:
    """Open a cloud's stores for the pipeline.

    Args:
        config: the cloud's.
        listen: is told how far it is.
        label_source: in place of the one that the configuration names.

    Raises:
        TrafficVisionError: a folder or the database is missing.
    """
    objects = FolderObjects(config.store.objects)
    try:
        store = open_database(config.store.database)
        try:
            config.folders.work.mkdir(parents=True, exist_ok=True)
            yield Pipeline(config, store, objects, listen, label_source)
        finally:
            store.close()
    finally:
        objects.close()
