"""Stage label: each sample of the retrain gets its labels from the labelling services.

People take days. The stage never waits for them: it says that it does and ends, and is run again later, by
whoever runs stages. When that began is in the stage's record, and a time-out counts from there.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from google.protobuf.message import DecodeError
from sqlalchemy import select
from sqlalchemy.orm import Session, undefer

from cloud.datasets import Box, canonical
from cloud.datasets.dataset import fit_box
from cloud.labeling import (
    Answer,
    LabelSource,
    ServiceAwayError,
    Suggestion,
    Surroundings,
    UnlabeledSample,
    open_label_source,
)
from cloud.pipeline.champion import champion_of
from cloud.pipeline.errors import NotYetError, PipelineError
from cloud.pipeline.job import Job, Outcome
from cloud.pipeline.labeled_samples import DRIVE
from cloud.pipeline.purity import listed
from cloud.pipeline.runs import samples_of
from cloud.store.columns import utc_now
from cloud.store.models import Label, Run, Sample
from cloud.store.states import SampleState
from protos.traffic_vision.v1 import fleet_pb2

BATCH = 32
# Of what is waited for, in one line for people.
MOST_REASONS = 8
# In the stage's record: since when it has waited.
WAITING_SINCE = "waiting_since"

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Answers:
    """What came of asking.

    Attributes:
        refused: sample to reason: there will never be labels.
        waits: sample to what someone has to do first.
        away: why the service did not answer for the rest; empty: it did.
    """

    refused: dict[int, str] = field(default_factory=dict)
    waits: dict[int, str] = field(default_factory=dict)
    away: str = ""


def run(job: Job) -> Outcome:
    """Ask for all that have no labels. What came is kept batch by batch; another attempt asks for the rest.

    Samples that will never have labels are excluded, unless that is all of them: then the fault is more
    likely in the configuration than in each of them. Those that nobody has labelled when the time is up stay
    as they are: they are new samples of the next retrain.

    Raises:
        NotYetError: the services have not answered for all, and there is time left.
        PipelineError: not one sample has labels, or the time is up and too few have.
    """
    config = job.pipeline.config.labels
    source = job.pipeline.label_source or _open(job)
    answers = _ask(job, source)
    with job.pipeline.store.reading() as session:
        retrain = session.get_one(Run, job.run_id)
        unlabeled = session.scalars(samples_of(retrain, SampleState.STORED)).all()
        labeled = len(session.scalars(samples_of(retrain, SampleState.LABELED)).all())
    missing = sum(sample.id not in answers.refused for sample in unlabeled)
    if missing:
        text = _waiting_text(job, source, missing, answers)
        waited = utc_now() - _waiting_since(job)
        if waited < timedelta(hours=config.max_wait_hours):
            raise NotYetError(text)
        _LOG.warning("%s; the time is up", text)
        if labeled < config.min_share * (labeled + missing):
            with job.pipeline.store.writing() as session:
                job.save(session, **{WAITING_SINCE: None})  # whoever takes it up again gives it time anew
            raise PipelineError(
                f"{text}: only {labeled} have any after {config.max_wait_hours:g} h (labels.max_wait_hours): "
                "label more and `cloud run --retry`, which waits as long again, or lower labels.min_share"
            )
    reasons = dict(Counter(answers.refused.values()).most_common())
    if not labeled:
        raise PipelineError(
            f"{job.run_id}: no sample has labels: {listed(reasons) or 'there are no new samples'}"
        )

    def commit(session: Session) -> None:
        for sample_id, reason in answers.refused.items():
            sample = session.get_one(Sample, sample_id)
            sample.state, sample.state_detail = SampleState.EXCLUDED, f"label: {reason}"

    facts = {"service": source.name, "labeled": labeled, "refused": reasons, "too_late": missing}
    return Outcome(facts, commit)


def _open(job: Job) -> LabelSource:
    config = job.pipeline.config
    with job.pipeline.store.reading() as session:
        names = tuple(canonical(name) for name in champion_of(session).facts["class_names"])
    around = Surroundings(job.pipeline.objects, names, config.folders.work, config.gate.slice_by)
    return open_label_source(config.labels, around)


def _ask(job: Job, source: LabelSource) -> _Answers:
    with job.pipeline.store.reading() as session:
        retrain = session.get_one(Run, job.run_id)
        query = samples_of(retrain, SampleState.STORED).options(undefer(Sample.message))
        waiting = [_unlabeled(sample) for sample in session.scalars(query)]
    came = _Answers()
    asked = 0
    for batch in _batches(source, waiting, came):
        came.refused.update((answer.sample_id, answer.refusal) for answer in batch if answer.refusal)
        came.waits.update((answer.sample_id, answer.waits) for answer in batch if answer.waits)
        _keep(job, source.name, batch)
        asked += len(batch)
        job.tell(asked=asked, of=len(waiting))
    return came


def _batches(source: LabelSource, waiting: list[UnlabeledSample], came: _Answers) -> Iterator[list[Answer]]:
    """Give answers as they come, the last ones also where the service goes away in between."""
    batch: list[Answer] = []
    try:
        for answer in source.label(waiting):
            batch.append(answer)
            if len(batch) == BATCH:
                yield batch
                batch = []
    except ServiceAwayError as error:
        came.away = str(error)
    if batch:
        yield batch


def _waiting_since(job: Job) -> datetime:
    if not job.saved.get(WAITING_SINCE):
        with job.pipeline.store.writing() as session:
            job.save(session, **{WAITING_SINCE: utc_now().isoformat()})
    return datetime.fromisoformat(job.saved[WAITING_SINCE])


def _waiting_text(job: Job, source: LabelSource, missing: int, answers: _Answers) -> str:
    text = f"{missing} samples of {job.run_id} still wait for {source.name} labels"
    waits = Counter(answers.waits.values()).most_common()
    reasons = [answers.away] if answers.away else []
    reasons += [f"{count}: {reason}" for reason, count in waits[:MOST_REASONS]]
    if len(waits) > MOST_REASONS:
        reasons.append(f"and {len(waits) - MOST_REASONS} more of other kinds")
    return f"{text} ({'; '.join(reasons)})" if reasons else text


def _keep(job: Job, service: str, answers: list[Answer]) -> None:
    with job.pipeline.store.writing() as session:
        for answer in answers:
            if answer.labels is None:
                continue
            session.get_one(Sample, answer.sample_id).state = SampleState.LABELED
            by = answer.service or service
            known = select(Label).where(Label.sample_id == answer.sample_id, Label.service == by)
            if session.scalars(known).first() is None:
                session.add(_row(answer, by))


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
        f"{sample.vehicle}/{sample.external_id}",
        *_seen(sample),
    )


def _seen(sample: Sample) -> tuple[tuple[Suggestion, ...], str]:
    """What the vehicle's model saw in it, and which model that was."""
    try:
        seen = fleet_pb2.Sample.FromString(sample.message).detections
    except DecodeError:
        return (), ""
    suggestions = []
    for each in seen.detections:  # a vehicle may say anything
        corners = fit_box(each.x1_px, each.y1_px, each.x2_px, each.y2_px, sample.width_px, sample.height_px)
        if not isinstance(corners, str) and 0 <= each.score <= 1:
            suggestions.append(Suggestion(Box(*corners, canonical(each.class_name)), each.score))
    return tuple(suggestions), f"{seen.model.name} {seen.model.version}".strip()
