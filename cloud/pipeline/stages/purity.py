"""Stage purity: every picture is decoded and its labels are checked; what is refused is not trained on."""

from __future__ import annotations

from collections import Counter

from sqlalchemy.orm import Session

from cloud.datasets import CANONICAL, LabeledImage, canonical
from cloud.pipeline.champion import champion_of
from cloud.pipeline.data_repository import DataRepository
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.holdout import holdout_drives
from cloud.pipeline.job import Job, Outcome
from cloud.pipeline.labeled_samples import LabeledSample, labeled_samples
from cloud.pipeline.purity import (
    ImpureError,
    LabelRules,
    check_labels,
    decode,
    difference_hash,
    listed,
    near_duplicates,
)
from cloud.store import MissingObjectError
from cloud.store.models import Sample
from cloud.store.states import SampleState

TELL_EVERY = 32


def run(job: Job) -> Outcome:
    """Check all of the retrain's labelled samples; mark those that are refused, each with its reason.

    Raises:
        PipelineError: too many are refused, or no box is left to train on.
    """
    config = job.pipeline.config.purity
    samples = labeled_samples(job.pipeline, job.run_id)
    rules = _rules(job)
    held_out = holdout_drives(job.pipeline.config.gate)
    reasons: dict[int, str] = {}
    hashes: dict[int, int] = {}
    for number, sample in enumerate(samples):
        try:
            hashes[sample.id] = _check(job, sample, rules, held_out)
        except ImpureError as error:
            reasons[sample.id] = str(error)
        if number % TELL_EVERY == 0:
            job.tell(checked=number, of=len(samples))
    known = DataRepository(job.pipeline.config.folders.data).newest_manifest().hashes()
    twice = near_duplicates(list(hashes.values()), known, config.duplicate_bits)
    reasons.update(
        (sample_id, "near-duplicate of another picture")
        for sample_id, duplicate in zip(hashes, twice, strict=True)
        if duplicate
    )
    return _outcome(job, samples, reasons)


def _rules(job: Job) -> LabelRules:
    with job.pipeline.store.reading() as session:
        names = champion_of(session).facts["class_names"]
    return LabelRules({*CANONICAL, *map(canonical, names)}, job.pipeline.config.purity.box_slack_px)


def _check(job: Job, sample: LabeledSample, rules: LabelRules, held_out: frozenset[str]) -> int:
    image = sample.image
    if image is None:
        raise ImpureError("no labels")
    assert image.width is not None and image.height is not None
    if image.drive in held_out:
        raise ImpureError("drive is in the gate's holdout")
    check_labels(image.boxes, image.width, image.height, rules)
    try:
        jpeg = job.pipeline.objects.get(sample.object_key)
    except MissingObjectError:
        raise ImpureError("picture is missing") from None
    return difference_hash(decode(jpeg, image.width, image.height))


def _outcome(job: Job, samples: list[LabeledSample], reasons: dict[int, str]) -> Outcome:
    refused = dict(Counter(reasons.values()).most_common())
    kept = [sample.image for sample in samples if sample.image is not None and sample.id not in reasons]
    allowed = job.pipeline.config.purity.max_refused_share
    if len(reasons) > allowed * len(samples):
        raise PipelineError(
            f"{job.run_id}: {len(reasons)} of {len(samples)} samples are refused, more than the share of "
            f"{allowed:g} that purity.max_refused_share allows: {listed(refused)}"
        )
    if not any(image.boxes for image in kept):
        why = f"; refused: {listed(refused)}" if refused else ""
        raise PipelineError(f"{job.run_id}: none of {len(samples)} samples has a labelled box{why}")

    def commit(session: Session) -> None:
        for sample_id, reason in reasons.items():
            sample = session.get_one(Sample, sample_id)
            sample.state, sample.state_detail = SampleState.EXCLUDED, f"purity: {reason}"

    facts = {"checked": len(samples), "kept": len(kept), "refused": refused, **_counts(kept)}
    return Outcome(facts, commit)


def _counts(images: list[LabeledImage]) -> dict[str, object]:
    boxes = Counter(box.category for image in images for box in image.boxes)
    return {
        "without_objects": sum(not image.boxes for image in images),
        "boxes": dict(boxes.most_common()),
        "drives": len({image.drive for image in images}),
    }
