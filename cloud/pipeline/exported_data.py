"""A training's own copy of its dataset version: Ultralytics writes beside labels, and may not into DVC's."""

from __future__ import annotations

from pathlib import Path

from cloud.datasets.files import write_file
from cloud.pipeline.data_repository import DataRepository
from cloud.pipeline.dataset_versions import require_whole
from cloud.pipeline.job import Pipeline


def exported_data(pipeline: Pipeline, work: Path, version: str) -> Path:
    """Give the folder with the version's pictures and labels; it is made where it is not whole.

    Args:
        pipeline: what all stages share.
        work: the folder that it lies in.
        version: of the data.

    Raises:
        PipelineError: there is no such version, pictures of it were forgotten, or DVC cannot read it.
    """
    folder, whole = work / "data", work / "data.version"
    if not whole.is_file() or whole.read_text() != version:
        config = pipeline.config
        with pipeline.store.reading() as session:
            require_whole(session, version)
        DataRepository(config.folders.data, config.dataset.remote).export(version, folder)
        write_file(whole, version)
    return folder
