"""Stage purity: every picture is decoded and its labels are checked; what is refused is not trained on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.orm import Session

from cloud.datasets import DatasetError, LabeledImage, read_dataset
from cloud.datasets.files import write_file
from cloud.pipeline.champion import champion_of
from cloud.pipeline.data_repository import DATASET, DataRepository
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.holdout import holdout_drives
from cloud.pipeline.job import Job, Outcome
from cloud.pipeline.labeled_samples import LabeledSample, labeled_samples, labels_by_service
from cloud.pipeline.manifest import Manifest
from cloud.pipeline.purity import ImpureError, listed
from cloud.pipeline.purity.checking import Batch, Known, check_purity
from cloud.pipeline.purity.findings import Kind, PurityReport, Verdict
from cloud.pipeline.purity.page import TITLES, render_page
from cloud.pipeline.purity.predicting import predictor
from cloud.store import MissingObjectError
from cloud.store.models import Sample
from cloud.store.states import SampleState
from edge.perception.model_file import read_model_file

PAGE, FINDINGS = "purity.html", "purity.json"


def run(job: Job) -> Outcome:
    """Check all of the retrain's labelled samples; mark those that are refused, each with its reason.

    The report is in the run's folder, also of a batch that fails; of one that passes, in the object store.

    Raises:
        PipelineError: a rule fails the batch, too many are refused, or no box is left to train on.
    """
    samples = labeled_samples(job.pipeline, job.run_id)
    images = [sample.image for sample in samples if sample.image is not None]
    keys = {sample.image.name: sample.object_key for sample in samples if sample.image is not None}

    def read(image: LabeledImage) -> bytes:
        try:
            return job.pipeline.objects.get(keys[image.name])
        except MissingObjectError:
            raise ImpureError("picture is missing", Kind.PICTURE) from None

    config = job.pipeline.config
    known = _known(job)
    report = check_purity(
        Batch(images, read=read, formats=("JPEG",)),
        config.purity,
        known,
        config.gate.slice_by,
        _teller(job),
    )
    everything = {image.name: image for image in [*known.images, *images]}

    def read_any(image: LabeledImage) -> bytes:
        return read(image) if image.name in keys else _file(image)

    page = render_page(report, f"Samples of {job.run_id}", everything, read_any)
    findings = json.dumps(report.to_json(), indent=1)
    for name, text in ((PAGE, page), (FINDINGS, findings)):
        write_file(job.work / name, text)
    refused = report.refused()
    reasons = {
        sample.id: "no labels" if sample.image is None else refused[sample.image.name]
        for sample in samples
        if sample.image is None or sample.image.name in refused
    }
    _check(job, samples, reasons, report)
    keep = job.pipeline.objects.put_all([page.encode(), findings.encode()])
    return _outcome(samples, reasons, report, {"html": keep[0], "json": keep[1]})


def _teller(job: Job) -> Callable[[str, int, int], None]:
    def tell(step: str, done: int, of: int) -> None:
        job.tell(step=step, done=done, of=of)

    return tell


def _file(image: LabeledImage) -> bytes:
    if image.path is None:
        raise ImpureError("picture is missing", Kind.PICTURE)
    return image.path.read_bytes()


def _known(job: Job) -> Known:
    """The data so far, the champion that was trained on them and not on these samples, and all labels."""
    config = job.pipeline.config
    data = DataRepository(config.folders.data)
    manifest = data.newest_manifest()
    with job.pipeline.store.reading() as session:
        champion = champion_of(session)
    model = read_model_file(job.pipeline.objects.path(champion.object_key))
    return Known(
        images=_known_images(data.folder / DATASET, manifest),
        hashes={entry.name: int(entry.dhash, 16) for entry in manifest.entries},
        class_names=model.metadata.class_names,
        holdout=holdout_drives(config.gate),
        predict=predictor(model, config.gate.threads, _teller(job)),
        model_classes=model.metadata.class_names,
        sources=labels_by_service(job.pipeline, job.run_id),
    )


def _known_images(folder: Path, manifest: Manifest) -> list[LabeledImage]:
    """The newest version's pictures; where they are not at hand, what the manifest says of them."""
    if not manifest.entries:
        return []
    try:
        images = {image.name: image for image in read_dataset(folder).images}
    except DatasetError:
        images = {}
    return [
        images.get(entry.name) or LabeledImage(entry.name, None, None, None, (), {}, entry.drive)
        for entry in manifest.entries
    ]


def _check(job: Job, samples: list[LabeledSample], reasons: dict[int, str], report: PurityReport) -> None:
    refused = _counted(reasons)
    where = f"see {job.work / PAGE}"
    allowed = job.pipeline.config.purity.max_refused_share
    if len(reasons) > allowed * len(samples):
        raise PipelineError(
            f"{job.run_id}: {len(reasons)} of {len(samples)} samples are refused, more than the share of "
            f"{allowed:g} that purity.max_refused_share allows: {listed(refused)}; {where}"
        )
    kept = [sample.image for sample in samples if sample.image is not None and sample.id not in reasons]
    if not any(image.boxes for image in kept):
        why = f"; refused: {listed(refused)}" if refused else ""
        raise PipelineError(f"{job.run_id}: none of {len(samples)} samples has a labelled box{why}")
    failed = [tally for tally in report.tallies if tally.verdict is Verdict.FAIL]
    if failed:
        named = ", ".join(
            f"{TITLES[one.kind].lower()} ({one.found} of {one.of} {one.unit})" for one in failed
        )
        rules = ", ".join(f"purity.rules.{one.kind.value}" for one in failed)
        raise PipelineError(
            f"{job.run_id}: the batch is not fit to be trained on: {named}; {where}; the limits are {rules}"
        )


def _outcome(
    samples: list[LabeledSample], reasons: dict[int, str], report: PurityReport, keys: dict[str, str]
) -> Outcome:
    kept = [sample.image for sample in samples if sample.image is not None and sample.id not in reasons]

    def commit(session: Session) -> None:
        for sample_id, reason in reasons.items():
            sample = session.get_one(Sample, sample_id)
            sample.state, sample.state_detail = SampleState.EXCLUDED, f"purity: {reason}"

    facts = {
        "checked": len(samples),
        "kept": len(kept),
        "refused": _counted(reasons),
        **_counts(kept),
        "verdict": report.verdict.value,
        "found": {tally.kind.value: tally.found for tally in report.tallies if tally.found},
        "report": keys,
    }
    return Outcome(facts, commit)


def _counted(reasons: dict[int, str]) -> dict[str, int]:
    return dict(Counter(reasons.values()).most_common())


def _counts(images: list[LabeledImage]) -> dict[str, object]:
    boxes = Counter(box.category for image in images for box in image.boxes)
    return {
        "without_objects": sum(not image.boxes for image in images),
        "boxes": dict(boxes.most_common()),
        "drives": len({image.drive for image in images}),
    }
