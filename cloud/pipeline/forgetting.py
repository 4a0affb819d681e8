"""Forgetting samples for good: a tombstone at once, then their bytes wherever the cloud keeps them.

First, in one transaction, each sample's row becomes a tombstone: its id alone, so that ingest refuses it when
it comes again, and no stage sees it any more. The rest is work on files, which is noted before it begins, can
be killed at any step and is then done again: a dataset version without the pictures, their end in DVC's cache
and remotes, in the object store, and in the retrains' folders. It needs the lock that stages hold; whoever
takes it next, a stage for instance, finishes what is left.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from cloud.pipeline.data_repository import DataRepository
from cloud.pipeline.dataset_versions import FORGETS, FORGOTTEN, row_of_newest
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.forgetting_data import Scope, clear_work, purge, reduce, scope_of
from cloud.pipeline.forgetting_models import note_golden_pictures, trained_on
from cloud.pipeline.forgetting_reports import clear_reports
from cloud.pipeline.job import Pipeline
from cloud.pipeline.labeled_samples import picture_name
from cloud.pipeline.runs import end_run, running_run, samples_of
from cloud.store.columns import utc_now
from cloud.store.database import audit
from cloud.store.models import (
    Candidate,
    Dataset,
    FeatureSeries,
    Label,
    Sample,
    StageRecord,
    Vehicle,
)
from cloud.store.states import RunState, SampleState, StageState

STAGE = "forget"
_CHUNK = 500  # of ids in one statement

_LOG = logging.getLogger(__name__)

# What is left of a sample: its id, its vehicle, when it came.
_BLANK: dict[str, Any] = {
    "content_sha256": "",
    "jpeg_sha256": "",
    "jpeg_bytes": 0,
    "object_key": "",
    "camera": "",
    "width_px": 0,
    "height_px": 0,
    "source_id": "",
    "drive_id": "",
    "picture": "",
    "drive_ns": 0,
    "reasons": [],
    "priority": 0.0,
    "drift_event": "",
    "message": b"",
    "state": SampleState.FORGOTTEN,
}


class UnknownSampleError(PipelineError):
    """No sample and no vehicle is called so."""


@dataclass(frozen=True, slots=True)
class Item:
    """A sample that is forgotten.

    Attributes:
        id: of its row.
        name: of its picture in datasets.
        object_key: of its picture.
    """

    id: int
    name: str
    object_key: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What somebody wants forgotten.

    Attributes:
        samples: that are still there.
        already: that were forgotten before.
    """

    samples: Sequence[Sample]
    already: int


def choose(session: Session, what: str) -> Choice:
    """Find the samples that are meant; see `choose_any`."""
    found = choose_any(session, what)
    there = [sample for sample in found if sample.state is not SampleState.FORGOTTEN]
    return Choice(there, len(found) - len(there))


def choose_any(session: Session, what: str) -> Sequence[Sample]:
    """Find the samples that are meant, forgotten ones too.

    Args:
        session: of the store.
        what: a vehicle, for all of its samples; VEHICLE/SAMPLE; or a sample's id that only one vehicle has.

    Raises:
        PipelineError: there is nothing of this name, or several things are.
    """
    vehicle, slash, identity = what.partition("/")
    if slash:
        query = select(Sample).where(
            Sample.vehicle == vehicle, Sample.external_id == identity.removesuffix(".jpg")
        )
        found = session.scalars(query).all()
    else:
        found = session.scalars(select(Sample).where(Sample.external_id == what)).all()
        is_vehicle = session.get(Vehicle, what) is not None
        if len(found) > 1 or (found and is_vehicle):
            names = [f"{sample.vehicle}/{sample.external_id}" for sample in found]
            names += [f"the vehicle {what}"] if is_vehicle else []
            raise PipelineError(f"{what!r} is several things: {', '.join(names)}: write VEHICLE/SAMPLE")
        if is_vehicle:
            return session.scalars(select(Sample).where(Sample.vehicle == what).order_by(Sample.id)).all()
    if not found:
        raise UnknownSampleError(
            f"no sample and no vehicle is called {what!r}: write VEHICLE or VEHICLE/SAMPLE"
        )
    return found


def begin_forgetting(pipeline: Pipeline, what: str, reason: str, actor: str) -> tuple[str, int, int]:
    """Make tombstones of samples, and note what is left to be done.

    Returns:
        The key of its record (empty: nothing was left to forget), how many samples, and how many already
        were forgotten.

    Raises:
        PipelineError: no such sample or vehicle is known.
    """
    with pipeline.store.writing() as session:
        choice = choose(session, what)
        if not choice.samples:
            return "", 0, choice.already
        items = [
            Item(sample.id, picture_name(sample.vehicle, sample.external_id), sample.object_key)
            for sample in choice.samples
        ]
        for sample in choice.samples:
            session.expunge(sample)
        for ids in _chunks([item.id for item in items]):
            _blank(session, ids, reason)
        count = session.scalar(select(func.count()).where(StageRecord.stage == STAGE)) or 0
        key = f"{STAGE}-{count + 1:04d}"
        progress = {
            "what": what,
            "reason": reason,
            "actor": actor,
            "samples": [asdict(item) for item in items],
        }
        record = StageRecord(stage=STAGE, key=key, state=StageState.RUNNING, attempts=0)
        record.progress, record.result = progress, {}
        session.add(record)
        audit(session, actor, "forget began", what, record=key, samples=len(items), reason=reason)
    _LOG.info("%s: %d samples of %s are tombstones", key, len(items), what)
    return key, len(items), choice.already


def _blank(session: Session, ids: Sequence[int], reason: str) -> None:
    session.execute(delete(Label).where(Label.sample_id.in_(ids)))
    session.execute(
        update(Sample)
        .where(Sample.id.in_(ids))
        .values(**_BLANK, state_detail=f"forgotten: {reason}")
        .execution_options(synchronize_session=False)
    )


def finish_forgetting(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Do what is left of everything that is to be forgotten; the caller holds the stages' lock.

    Returns:
        What each came to.

    Raises:
        PipelineError: git, DVC or a remote refuse; what is left stays noted.
    """
    with pipeline.store.reading() as session:
        query = select(StageRecord).where(StageRecord.stage == STAGE, StageRecord.state != StageState.DONE)
        keys = [record.key for record in session.scalars(query.order_by(StageRecord.key))]
    return [_finish(pipeline, key) for key in keys]


def _finish(pipeline: Pipeline, key: str) -> dict[str, Any]:
    data = DataRepository(pipeline.config.folders.data, pipeline.config.dataset.remote)
    with pipeline.store.reading() as session:
        progress = session.get_one(StageRecord, (STAGE, key)).progress
    items = [Item(**item) for item in progress["samples"]]
    names = [item.name for item in items]
    if "scope" not in progress:
        progress = _prepare(pipeline, data, key, items)
    scope = Scope(**{name: _tuple(value) for name, value in progress["scope"].items()})
    reduce(pipeline, data, scope, names)
    files = purge(data, scope, names)
    deleted = _delete_objects(pipeline, items)
    clear_work(pipeline.config.folders.work, names, deleted)
    reports = clear_reports(pipeline, scope.versions, [item.id for item in items])
    return _close(pipeline, data, key, scope, {"files": files, "objects": len(deleted), "reports": reports})


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _prepare(pipeline: Pipeline, data: DataRepository, key: str, items: Sequence[Item]) -> dict[str, Any]:
    """Find out what holds the samples, end the retrain that is made of them, and note both."""
    names = [item.name for item in items]
    with pipeline.store.reading() as session:
        known = set(session.scalars(select(Dataset.version)))
    scope = scope_of(data, known, names)
    held = {entry.name for tag in scope.versions for entry in data.manifest(tag).entries}
    pictures = [item.object_key for item in items if item.name in held]
    models = note_golden_pictures(pipeline, scope.versions, pictures)
    with pipeline.store.writing() as session:
        # A stage that ran when the tombstones were made may have written labels since.
        for ids in _chunks([item.id for item in items]):
            session.execute(delete(Label).where(Label.sample_id.in_(ids)))
        ended = _end_touched_run(session, scope, {item.id for item in items}, key)
        record = session.get_one(StageRecord, (STAGE, key))
        record.attempts += 1
        record.progress = {
            **record.progress,
            "scope": asdict(scope),
            "run": ended,
            "golden_pictures_in": models,
        }
        return dict(record.progress)


def _end_touched_run(session: Session, scope: Scope, ids: set[int], key: str) -> str:
    """End the retrain that is running if its data holds the samples; give its id, else an empty text."""
    affected = {*scope.versions, scope.orphan} - {""}
    begun = session.scalars(
        select(StageRecord).where(StageRecord.stage == "dataset", StageRecord.state != StageState.DONE)
    ).all()
    reserved = [record for record in begun if not affected.isdisjoint(map(str, record.progress.values()))]
    for record in reserved:
        session.delete(record)  # whoever takes that retrain up again chooses another version
    run = running_run(session)
    if run is None:
        return ""
    if run.dataset_version:
        touched = run.dataset_version in affected
    else:
        # Its version may be on its way, of its own samples.
        own = set(session.scalars(samples_of(run, *SampleState).with_only_columns(Sample.id)))
        touched = run.id in {record.key for record in reserved} or (
            run.id in {record.key for record in begun} and bool(ids & own)
        )
    if not touched:
        return ""
    end_run(session, run.id, RunState.FAILED, f"samples of its data were forgotten ({key}): begin another")
    return run.id


def _delete_objects(pipeline: Pipeline, items: Sequence[Item]) -> list[str]:
    """Delete the pictures that no other row refers to, and give their keys: equal bytes are kept once."""
    deleted: list[str] = []
    for chunk in _chunks([item.object_key for item in items if item.object_key]):
        with pipeline.store.writing() as session:
            columns = (Sample.object_key, FeatureSeries.object_key, Candidate.object_key)
            needed = {
                object_key
                for column in columns
                for object_key in session.scalars(select(column).where(column.in_(chunk)))
            }
            for object_key in set(chunk) - needed:
                pipeline.objects.delete(object_key)
                deleted.append(object_key)
    return deleted


def _close(
    pipeline: Pipeline, data: DataRepository, key: str, scope: Scope, counts: dict[str, int]
) -> dict[str, Any]:
    reduced = _reduced_row(data, scope) if scope.reduced else None
    with pipeline.store.writing() as session:
        record = session.get_one(StageRecord, (STAGE, key))
        progress = record.progress
        names = {item["name"] for item in progress["samples"]}
        for version in scope.versions:
            dataset = session.get_one(Dataset, version)
            gone = sum(entry.name in names for entry in data.manifest(version).entries)
            dataset.facts = {**dataset.facts, FORGOTTEN: dataset.facts.get(FORGOTTEN, 0) + gone}
        if reduced is not None and session.get(Dataset, scope.reduced) is None:
            session.add(reduced)
        result = {
            "record": key,
            "what": progress["what"],
            "state": StageState.DONE.value,
            "forgotten": len(names),
            "versions": list(scope.versions),
            "version_without": scope.reduced,
            "retrain_ended": progress["run"],
            "models_trained_on_them": trained_on(session, scope.versions),
            "golden_pictures_in": progress["golden_pictures_in"],
            **counts,
        }
        record.state, record.ended, record.result = StageState.DONE, utc_now(), result
        # What is left of the record: the names, as in the tombstones.
        record.progress = {**progress, "samples": sorted(names)}
        audit(
            session,
            progress["actor"],
            "forgotten",
            progress["what"],
            record=key,
            samples=len(names),
            versions=list(scope.versions),
            reason=progress["reason"],
        )
    pipeline.store.settle()
    _LOG.info("%s: done: %s", key, result)
    return result


def _reduced_row(data: DataRepository, scope: Scope) -> Dataset:
    gone = len(data.manifest(scope.parent).entries) - len(data.manifest(scope.reduced).entries)
    return row_of_newest(data, scope.parent, {"slices": {}, FORGETS: gone})


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
