"""The pictures that a retrain's candidate is judged by: the holdout, less what it was trained on."""

from __future__ import annotations

from cloud.datasets import LabeledImage
from cloud.pipeline.data_repository import DataRepository
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.exported_data import exported_data
from cloud.pipeline.holdout import read_holdout, unseen
from cloud.pipeline.job import Job


def judging_pictures(job: Job, version: str) -> tuple[list[LabeledImage], dict[str, int]]:
    """Give the pictures, and how many were left out for which reason.

    Args:
        job: a stage of the retrain.
        version: of the dataset that its candidate is trained on.

    Raises:
        PipelineError: there is nothing to judge by.
        DatasetError: the holdout cannot be read.
    """
    data = DataRepository(job.pipeline.config.folders.data)
    trained_on = {entry.drive for entry in data.manifest(version).entries if entry.side != "test"}
    own = exported_data(job.pipeline, job.work, version) / "test.txt"
    fresh, seen = unseen(read_holdout(job.pipeline.config.gate, own), trained_on)
    there = [image for image in fresh if image.path is not None]
    if not there:
        raise PipelineError(
            f"nothing to judge by: {len(seen)} pictures of the holdout are of drives that were trained on, "
            f"{len(fresh)} have no picture file; set gate.holdout to labelled data of other drives"
        )
    return there, {"trained_on": len(seen), "missing": len(fresh) - len(there)}
