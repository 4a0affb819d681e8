"""Stage label: each sample of the retrain gets its labels from the labelling service."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import select

from cloud.labeling import Answer, LabelSource, UnlabeledSample, open_label_source
from cloud.pipeline.errors import NotYetError, PipelineError
from cloud.pipeline.job import Job, Outcome
from cloud.pipeline.labeled_samples import DRIVE
from cloud.pipeline.runs import samples_of
from cloud.store.models import Label, Run, Sample, SampleState

BATCH = 32


def run(job: Job) -> Outcome:
    """Ask for all that have no labels. What came is kept batch by batch; another attempt asks for the rest.

    Raises:
        NotYetError: the service has not answered for all.
        PipelineError: not one sample has labels.
    """
    pipeline = job.pipeline
    source = pipeline.label_source or open_label_source(pipeline.config.labels)
    with pipeline.store.reading() as session:
        retrain = session.get_one(Run, job.run_id)
        waiting = [_unlabeled(sample) for sample in session.scalars(samples_of(retrain, SampleState.STORED))]
    for start in range(0, len(waiting), BATCH):
        _label(job, source, waiting[start : start + BATCH])
        job.tell(labeled=job.saved.get("labeled", 0), of=len(waiting))
    with pipeline.store.reading() as session:
        missing = len(session.scalars(samples_of(retrain, SampleState.STORED)).all())
        labeled = len(session.scalars(samples_of(retrain, SampleState.LABELED)).all())
    if missing:
        raise NotYetError(f"{missing} samples of {job.run_id} still wait for {source.name} labels")
    refused = job.saved.get("refused", {})
    if not labeled:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in refused.items())
        raise PipelineError(f"{job.run_id}: no sample has labels: {reasons or 'there are no new samples'}")
    return Outcome({"service": source.name, "labeled": labeled, "refused": refused})


def _label(job: Job, source: LabelSource, batch: list[UnlabeledSample]) -> None:
    answers = list(source.label(batch))
    with job.pipeline.store.writing() as session:
        refused = Counter(job.saved.get("refused", {}))
        labeled = job.saved.get("labeled", 0)
        for answer in answers:
            sample = session.get_one(Sample, answer.sample_id)
            if answer.labels is None:
                refused[answer.refusal] += 1
                sample.state, sample.state_detail = SampleState.EXCLUDED, f"label: {answer.refusal}"
                continue
            labeled += 1
            sample.state = SampleState.LABELED
            known = select(Label).where(Label.sample_id == sample.id, Label.service == source.name)
            if session.scalars(known).first() is None:
                session.add(_row(answer, source.name))
        job.save(session, labeled=labeled, refused=dict(refused))


def _row(answer: Answer, service: str) -> Label:
    assert answer.labels is not None
    boxes = [
        {
            "x1": box.x1,
            "y1": box.y1,
            "x2": box.x2,
            "y2": box.y2,
            "category": box.category,
            **{
                name: value for name in ("occluded", "truncated") if (value := getattr(box, name)) is not None
            },
            **({"crowd": True} if box.crowd else {}),
        }
        for box in answer.labels.boxes
    ]
    attributes = dict(answer.labels.attributes)
    if answer.labels.drive:
        attributes[DRIVE] = answer.labels.drive
    return Label(sample_id=answer.sample_id, service=service, boxes=boxes, attributes=attributes)


def _unlabeled(sample: Sample) -> UnlabeledSample:
    return UnlabeledSample(
        sample.id,
        sample.object_key,
        sample.width_px,
        sample.height_px,
        sample.source_id,
        sample.drive_id,
        sample.picture,
        sample.drive_ns,
    )
