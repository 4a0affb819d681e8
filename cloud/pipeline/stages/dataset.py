"""Stage dataset: old and new pictures become the next version of the data repository."""

from __future__ import annotations

import shutil
from collections import Counter

from sqlalchemy.orm import Session

from cloud.datasets import LabeledImage, canonical, read_dataset
from cloud.pipeline.building import Ingredients, build, usable
from cloud.pipeline.champion import champion_of
from cloud.pipeline.data_repository import DataRepository, next_tag
from cloud.pipeline.dataset_versions import row_of_newest
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.job import Job, Outcome
from cloud.pipeline.labeled_samples import LabeledSample, labeled_samples
from cloud.pipeline.manifest import Manifest
from cloud.pipeline.mixing import assign_sides, pick_old
from cloud.store.models import DatasetSample, Run


def run(job: Job) -> Outcome:
    """Build the version in the run's folder, then commit and tag it; another attempt builds it anew.

    Raises:
        PipelineError: there is no baseline, nothing new to train on, or git or DVC refuse.
    """
    config = job.pipeline.config
    data = DataRepository(config.folders.data, config.dataset.remote)
    samples = labeled_samples(job.pipeline, job.run_id)
    tag, parent = _reserve(job, data)
    if tag not in data.tags():
        _add(job, data, tag, parent, [sample.image for sample in samples if sample.image is not None])
    if data.remote is not None:
        job.tell(step="push")
        data.publish(tag)
    return _outcome(job, data, tag, parent, samples)


def _reserve(job: Job, data: DataRepository) -> tuple[str, str]:
    """Choose the version's tag and its parent's once, so that a second attempt makes no second version."""
    tags = data.tags()
    if not tags:
        raise PipelineError("there is no data to add to: `cloud baseline` takes the baseline's in")
    if "version" not in job.saved:
        with job.pipeline.store.writing() as session:
            job.save(session, version=next_tag(tags), parent=tags[-1])
    return job.saved["version"], job.saved["parent"]


def _add(job: Job, data: DataRepository, tag: str, parent: str, new: list[LabeledImage]) -> None:
    config = job.pipeline.config
    before = job.work / "parent"
    data.export(parent, before)
    manifest = data.manifest(parent)
    sides = assign_sides(
        Counter(image.drive for image in new),
        manifest.sides(),
        config.dataset.val_share,
        config.dataset.test_share,
    )
    fresh = sum(sides[image.drive] == "train" for image in new)
    if not fresh:
        raise PipelineError(
            f"{job.run_id}: none of {len(new)} new pictures is trained on: their drives are kept aside for "
            f"choosing and judging ({', '.join(sorted(set(sides.values())))}); wait for other drives"
        )
    room = max(config.dataset.max_training_images - fresh, 0)
    old = [entry for entry in manifest.entries if entry.side == "train"]
    count = min(round(config.dataset.old_per_new * fresh), room)
    with job.pipeline.store.reading() as session:
        names = [canonical(name) for name in champion_of(session).facts["class_names"]]
    folder = job.work / "dataset"
    built, _ = build(
        folder,
        Ingredients(
            tag=tag,
            class_names=names,
            slice_by=config.gate.slice_by,
            old=usable(read_dataset(before)),
            manifest=manifest,
            used_old=pick_old(old, count, config.training.seed),
            new=new,
            sides=sides,
        ),
        lambda done, of: job.tell(pictures=done, of=of),
    )
    data.add(tag, folder, built, f"{tag}: {len(new)} samples of {job.run_id} on top of {parent}")
    shutil.rmtree(before, ignore_errors=True)


def _outcome(job: Job, data: DataRepository, tag: str, parent: str, samples: list[LabeledSample]) -> Outcome:
    manifest = data.manifest(tag)
    # One retrain at a time: the newest version is this one.
    row = row_of_newest(data, parent, {"slices": _slices(manifest, tag)})
    side = {entry.name: entry.side for entry in manifest.entries}
    facts = {
        "version": tag,
        "parent": parent,
        "sha256": row.sha256,
        "dvc_md5": row.dvc_md5,
        "git_commit": row.git_commit,
        "images": row.images,
        "new": len(samples),
        "lists": row.facts["counts"],
    }

    def commit(session: Session) -> None:
        session.add(row)
        session.flush()
        for sample in samples:
            if sample.image is not None and sample.image.name in side:
                session.add(
                    DatasetSample(dataset_version=tag, sample_id=sample.id, split=side[sample.image.name])
                )
        session.get_one(Run, job.run_id).dataset_version = tag

    return Outcome(facts, commit)


def _slices(manifest: Manifest, tag: str) -> dict[str, int]:
    """Count the new pictures of each slice."""
    return dict(Counter(entry.slice for entry in manifest.entries if entry.origin == tag))
