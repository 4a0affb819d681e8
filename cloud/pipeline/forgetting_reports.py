"""Forgetting in reports: pages and pictures that the retrains which saw a sample have left."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.pipeline.job import Pipeline
from cloud.pipeline.tracking import artifacts_of
from cloud.store.models import Run, StageRecord

# A page may have pictures inside.
_PAGES = frozenset((".html", ".htm"))
_PICTURES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".svg"))


def retrains_that_saw(session: Session, versions: Collection[str], ids: Collection[int]) -> list[Run]:
    """Give the retrains on these dataset versions, and of each sample the first one that it was there for.

    Args:
        session: of the store.
        versions: that hold the samples.
        ids: of the samples' rows.
    """
    runs = session.scalars(select(Run).order_by(Run.started)).all()
    found = {run.id: run for run in runs if run.dataset_version in versions}
    left = set(ids)
    for run in runs:
        seen = {number for number in left if number <= run.trigger.get("last_sample_id", 0)}
        if seen:
            found[run.id] = run
            left -= seen
    return list(found.values())


def clear_reports(pipeline: Pipeline, versions: Collection[str], ids: Collection[int]) -> int:
    """Delete what these retrains show of pictures, and give how many pages and pictures that were.

    They are in MLflow's artifacts, in the retrains' folders, and, the purity check's pages, in the object
    store. Figures and documents stay.
    """
    folders = pipeline.config.folders
    artifacts = artifacts_of(folders.mlruns)
    with pipeline.store.reading() as session:
        runs = retrains_that_saw(session, versions, ids)
        checks = [session.get(StageRecord, ("purity", run.id)) for run in runs]
    pages = {check.result.get("report", {}).get("html") for check in checks if check is not None} - {None}
    there = [key for key in pages if pipeline.objects.exists(key)]
    for key in there:
        pipeline.objects.delete(key)
    files: list[Path] = []
    for run in runs:
        if run.mlflow_run_id:
            files += _with(artifacts / run.mlflow_run_id, _PAGES | _PICTURES)
        files += _with(folders.work / run.id, _PAGES)
    for file in files:
        file.unlink()
    return len(files) + len(there)


def _with(folder: Path, suffixes: Collection[str]) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file()]
