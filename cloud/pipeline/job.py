"""What a stage is given to work with, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from cloud.config import CloudConfig
from cloud.labeling import LabelSource
from cloud.store import FolderObjects, Store
from cloud.store.models import StageRecord


@dataclass(frozen=True, slots=True)
class StageEvent:
    """Something that happened, for whoever watches.

    Attributes:
        run_id, stage: where; `stage` is empty for what concerns the whole run.
        kind: begun, progress, done, waiting, failed; of a run: started, ended.
        facts: the stage's own: an epoch, a count, the result.
    """

    run_id: str
    stage: str
    kind: str
    facts: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[StageEvent], None]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What all stages share.

    Attributes:
        config, store, objects: the cloud's, open.
        listen: is told how far it is. Called in the stage's thread: be quick.
        label_source: in place of the one that the configuration names.
    """

    config: CloudConfig
    store: Store
    objects: FolderObjects
    listen: Listener = lambda _: None
    label_source: LabelSource | None = None

    def work_folder(self, run_id: str) -> Path:
        """Give the folder for what a run can make again."""
        folder = self.config.folders.work / run_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@dataclass(slots=True)
class Job:
    """One stage of one run.

    Attributes:
        pipeline: what all stages share.
        run_id, stage: which.
        saved: what earlier attempts, or this one, saved with `save`.
    """

    pipeline: Pipeline
    run_id: str
    stage: str
    saved: dict[str, Any]

    @property
    def work(self) -> Path:
        """The run's folder."""
        return self.pipeline.work_folder(self.run_id)

    def save(self, session: Session, **facts: Any) -> None:
        """Note, in a transaction of the stage's, what another attempt would go on from."""
        self.saved = {**self.saved, **facts}
        record = session.get_one(StageRecord, (self.stage, self.run_id))
        record.progress = self.saved

    def tell(self, **facts: Any) -> None:
        """Say how far it is."""
        self.pipeline.listen(StageEvent(self.run_id, self.stage, "progress", facts))


def _nothing(session: Session) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage came to.

    Attributes:
        facts: of the JSON line.
        commit: writes what the stage changes in the database, in the very transaction that marks it done.
    """

    facts: dict[str, Any]
    commit: Callable[[Session], None] = _nothing


StageFunction = Callable[[Job], Outcome]
