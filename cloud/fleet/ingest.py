"""Samples and feature series into the store: checked one by one, made durable together.

A batch costs one wait for the objects' disk and one transaction. Its answers are given after both, so that
what was acknowledged survives a crash; what a crash left without an answer comes again under its id, and is
found to be a duplicate or is stored then.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import false, insert, select
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from cloud.config import LimitsConfig, QuotasConfig
from cloud.fleet.daily_use import DailyUse
from cloud.fleet.upload_rules import Accepted, Refusal, check_sample, check_series
from cloud.store import ObjectStore, Store
from cloud.store.columns import utc_now
from cloud.store.models import FeatureSeries, Sample, Vehicle
from cloud.store.states import SampleState
from protos.traffic_vision.v1 import fleet_pb2 as fleet

RETRY_AFTER_MS = 10_000

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Upload:
    """A message, and the vehicle that sent it by its certificate."""

    vehicle: str
    message: fleet.Sample | fleet.FeatureSeries


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of an upload; the fields of the contract's responses.

    Attributes:
        served: False: the vehicle is not enrolled here, or no longer; it gets no answer.
    """

    outcome: fleet.UploadOutcome
    reason: fleet.RefusalReason = fleet.REFUSAL_REASON_UNSPECIFIED
    detail: str = ""
    retry_after_ms: int = 0
    served: bool = True


_STORED = Answer(fleet.UPLOAD_OUTCOME_STORED)
_DUPLICATE = Answer(fleet.UPLOAD_OUTCOME_DUPLICATE)
_NOT_SERVED = Answer(fleet.UPLOAD_OUTCOME_UNSPECIFIED, served=False)
_UNAVAILABLE = Answer(
    fleet.UPLOAD_OUTCOME_DEFERRED,
    fleet.REFUSAL_REASON_STORE_UNAVAILABLE,
    "the store cannot take anything at the moment",
    RETRY_AFTER_MS,
)

_Table: TypeAlias = type[Sample] | type[FeatureSeries]
_Key: TypeAlias = tuple[str, str, str]  # table, vehicle, external id


@dataclass(frozen=True, slots=True)
class _Checked:
    """An upload that keeps the contract."""

    vehicle: str
    table: _Table
    accepted: Accepted

    @property
    def key(self) -> _Key:
        return self.table.__tablename__, self.vehicle, self.accepted.row["external_id"]


@dataclass(frozen=True, slots=True)
class _Known:
    content_sha256: str
    forgotten: bool = False


class Ingest:
    """Stores batches of uploads. One thread calls it; other processes may write to the same store."""

    def __init__(
        self, store: Store, objects: ObjectStore, limits: LimitsConfig, quotas: QuotasConfig
    ) -> None:
        """Take the stores and what one message and one vehicle may cost."""
        self._store = store
        self._objects = objects
        self._limits = limits
        self._use = DailyUse(quotas)

    def commit(self, uploads: Sequence[Upload]) -> list[Answer]:
        """Store what can be stored and give an answer for each upload, in order.

        Everything that is answered with STORED or DUPLICATE is on disk when this returns.
        """
        checked = [self._check(upload) for upload in uploads]
        kept = [entry for entry in checked if isinstance(entry, _Checked)]
        stored = iter(self._store_kept(kept))
        return [next(stored) if isinstance(entry, _Checked) else entry for entry in checked]

    def _check(self, upload: Upload) -> _Checked | Answer:
        message, limit_bytes = upload.message, self._limits.sample_bytes
        if isinstance(message, fleet.Sample):
            table: _Table = Sample
            judged = check_sample(message, limit_bytes)
        else:
            table = FeatureSeries
            judged = check_series(message, limit_bytes)
        if isinstance(judged, Refusal):
            _LOG.info("%s: refused: %s", upload.vehicle, judged.detail)
            return Answer(fleet.UPLOAD_OUTCOME_REFUSED, judged.reason, judged.detail)
        return _Checked(upload.vehicle, table, judged)

    def _store_kept(self, kept: Sequence[_Checked]) -> list[Answer]:
        if not kept:
            return []
        try:
            return self._store_together(kept)
        except IntegrityError:
            # Another process stored one of them in the meantime, or a vehicle was deleted: look again.
            _LOG.info("a batch of %d met another's rows; one by one", len(kept))
        except (OperationalError, OSError):
            self._forget_use(kept)
            _LOG.exception("the store took nothing of a batch of %d", len(kept))
            return [_UNAVAILABLE] * len(kept)
        except SQLAlchemyError:
            _LOG.exception("a batch of %d was refused by the database; one by one", len(kept))
        self._forget_use(kept)
        if len(kept) == 1:
            return [self._store_alone(kept[0])]
        return [answer for entry in kept for answer in self._store_kept([entry])]

    def _store_alone(self, entry: _Checked) -> Answer:
        try:
            return self._store_together([entry])[0]
        except (SQLAlchemyError, OSError):
            self._forget_use([entry])
            _LOG.exception("%s: %s could not be stored", entry.vehicle, entry.key)
            return _UNAVAILABLE

    def _store_together(self, kept: Sequence[_Checked]) -> list[Answer]:
        now = utc_now()
        with self._store.reading() as session:
            served = self._served(session, {entry.vehicle for entry in kept})
            known = self._known(session, kept)
            for vehicle in served:
                self._use.load(session, vehicle, now)
        full = self._is_full()
        answers, new = [], []
        for entry in kept:
            answer = self._decide(entry, served, known, full, now)
            answers.append(answer)
            if answer is _STORED:
                new.append(entry)
                known[entry.key] = _Known(entry.accepted.row["content_sha256"])
        self._write(new, now)
        return answers

    def _decide(
        self, entry: _Checked, served: set[str], known: dict[_Key, _Known], full: bool, now: datetime
    ) -> Answer:
        if entry.vehicle not in served:
            return _NOT_SERVED
        earlier = known.get(entry.key)
        if earlier is not None:
            return _of_earlier(entry, earlier)
        if full:
            return _UNAVAILABLE
        if not self._take_quota(entry):
            _LOG.warning("%s: the quota of the day is used up", entry.vehicle)
            return Answer(
                fleet.UPLOAD_OUTCOME_DEFERRED,
                fleet.REFUSAL_REASON_QUOTA,
                "the vehicle's quota of the day is used up",
                DailyUse.until_midnight_ms(now),
            )
        return _STORED

    def _write(self, new: Sequence[_Checked], now: datetime) -> None:
        if not new:
            return
        contents = [entry.accepted.content for entry in new]
        keys = self._objects.put_all(contents)
        rows: dict[_Table, list[dict[str, Any]]] = {Sample: [], FeatureSeries: []}
        for entry, key in zip(new, keys, strict=True):
            rows[entry.table].append(
                {**entry.accepted.row, "vehicle": entry.vehicle, "received": now, "object_key": key}
            )
        with self._store.writing() as session:
            for table, of_table in rows.items():
                if of_table:
                    session.execute(insert(table), of_table)
            # The same bytes may have been forgotten since: they are deleted in a transaction, as this is one.
            if not all(map(self._objects.exists, keys)):
                self._objects.put_all(contents)

    def _take_quota(self, entry: _Checked) -> bool:
        if entry.table is Sample:
            return self._use.take_sample(entry.vehicle, len(entry.accepted.content))
        return self._use.take_series(entry.vehicle)

    def _forget_use(self, kept: Sequence[_Checked]) -> None:
        for entry in kept:
            self._use.forget(entry.vehicle)

    def _is_full(self) -> bool:
        free_bytes = self._objects.free_bytes()
        if free_bytes is not None and free_bytes < self._limits.free_disk_bytes:
            _LOG.error("only %d bytes are free for objects: nothing is taken", free_bytes)
            return True
        return False

    @staticmethod
    def _served(session: Session, vehicles: set[str]) -> set[str]:
        query = select(Vehicle.name).where(Vehicle.name.in_(vehicles), Vehicle.revoked.is_(None))
        return set(session.scalars(query))

    @staticmethod
    def _known(session: Session, kept: Sequence[_Checked]) -> dict[_Key, _Known]:
        ids: dict[tuple[_Table, str], list[str]] = {}
        for entry in kept:
            ids.setdefault((entry.table, entry.vehicle), []).append(entry.accepted.row["external_id"])
        known = {}
        for (table, vehicle), of_vehicle in ids.items():
            forgotten = Sample.state == SampleState.FORGOTTEN if table is Sample else false()
            query = select(table.external_id, table.content_sha256, forgotten)
            for external_id, content_sha256, is_forgotten in session.execute(
                query.where(table.vehicle == vehicle, table.external_id.in_(of_vehicle))
            ):
                known[table.__tablename__, vehicle, external_id] = _Known(content_sha256, is_forgotten)
        return known


def _of_earlier(entry: _Checked, earlier: _Known) -> Answer:
    if earlier.forgotten:
        return Answer(
            fleet.UPLOAD_OUTCOME_REFUSED, fleet.REFUSAL_REASON_FORGOTTEN, "it was deleted on purpose"
        )
    if earlier.content_sha256 != entry.accepted.row["content_sha256"]:
        return Answer(
            fleet.UPLOAD_OUTCOME_REFUSED, fleet.REFUSAL_REASON_ID_CONFLICT, "the id is taken by other content"
        )
    return _DUPLICATE
