"""Stage label: each sample of the retrain gets its labels from the labelling service."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.labeling import Answer, UnlabeledSample, open_label_source
from cloud.pipeline.errors import NotYetError, PipelineError
from cloud.pipeline.job import Job, Outcome
from cloud.pipeline.labeled_samples import DRIVE
from cloud.pipeline.purity import listed
from cloud.pipeline.runs import samples_of
from cloud.store.models import Label, Run, Sample
from cloud.store.states import SampleState

BATCH = 32


def run(job: Job) -> Outcome:
    """Ask for all that have no labels. What came is kept batch by batch; another attempt asks for the rest.

    Samples that will never have labels are excluded, unless that is all of them: then the fault is more
    likely in the configuration than in each of them.

    Raises:
        NotYetError: the service has not answered for all.
        PipelineError: not one sample has labels.
    """
    pipeline = job.pipeline
    source = pipeline.label_source or open_label_source(pipeline.config.labels)
    with pipeline.store.reading() as session:
        retrain = session.get_one(Run, job.run_id)
        waiting = [_unlabeled(sample) for sample in session.scalars(samples_of(retrain, SampleState.STORED))]
    refused: dict[int, str] = {}
    for start in range(0, len(waiting), BATCH):
        batch = waiting[start : start + BATCH]
        answers = list(source.label(batch))
        refused.update((answer.sample_id, answer.refusal) for answer in answers if answer.labels is None)
        _keep(job, source.name, answers)
        job.tell(asked=min(start + BATCH, len(waiting)), of=len(waiting))
    with pipeline.store.reading() as session:
        unlabeled = session.scalars(samples_of(retrain, SampleState.STORED)).all()
        labeled = len(session.scalars(samples_of(retrain, SampleState.LABELED)).all())
    missing = sum(sample.id not in refused for sample in unlabeled)
    if missing:
        raise NotYetError(f"{missing} samples of {job.run_id} still wait for {source.name} labels")
    reasons = dict(Counter(refused.values()).most_common())
    if not labeled:
        raise PipelineError(
            f"{job.run_id}: no sample has labels: {listed(reasons) or 'there are no new samples'}"
        )

    def commit(session: Session) -> None:
        for sample_id, reason in refused.items():
            sample = session.get_one(Sample, sample_id)
            sample.state, sample.state_detail = SampleState.EXCLUDED, f"label: {reason}"

    return Outcome({"service": source.name, "labeled": labeled, "refused": reasons}, commit)


def _keep(job: Job, service: str, answers: list[Answer]) -> None:
    with job.pipeline.store.writing() as session:
        for answer in answers:
            if answer.labels is None:
                continue
            session.get_one(Sample, answer.sample_id).state = SampleState.LABELED
            known = select(Label).where(Label.sample_id == answer.sample_id, Label.service == service)
            if session.scalars(known).first() is None:
                session.add(_row(answer, service))


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
