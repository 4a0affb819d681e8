"""A run's own copy of its dataset version: Ultralytics writes beside labels, and DVC's files are not its."""

from __future__ import annotations

from pathlib import Path

from cloud.datasets.files import write_file
from cloud.pipeline.data_repository import DataRepository
from cloud.pipeline.dataset_versions import require_whole
from cloud.pipeline.job import Job


def exported_data(job: Job, version: str) -> Path:
    """Give the folder with the version's pictures and labels; it is made where it is not whole.

    Raises:
        PipelineError: there is no such version, pictures of it were forgotten, or DVC cannot read it.
    """
    folder, whole = job.work / "data", job.work / "data.version"
    if not whole.is_file() or whole.read_text() != version:
        config = job.pipeline.config
        with job.pipeline.store.reading() as session:
            require_whole(session, version)
        DataRepository(config.folders.data, config.dataset.remote).export(version, folder)
        write_file(whole, version)
    return folder
