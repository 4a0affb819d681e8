"""People as a labelling service: samples go to Label Studio as tasks, and what they said is fetched."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cloud.config import LabelsConfig
from cloud.datasets.classes import CANONICAL, canonical
from cloud.labeling.label_studio.annotations import SkippedError, UnusableError, labels_of
from cloud.labeling.label_studio.client import LabelStudioClient, read_token
from cloud.labeling.label_studio.project import Project, Wish, ensure_project
from cloud.labeling.label_studio.tasks import BATCH, Task, begin_with_suggestions, find_tasks, make_tasks
from cloud.labeling.opening import Surroundings
from cloud.labeling.service import Answer, LabelServiceError, UnlabeledSample
from cloud.store.objects import MissingObjectError

_LOG = logging.getLogger(__name__)


class LabelStudioService:
    """Label Studio as a `LabelSource`. Which tasks there are, the server alone remembers."""

    name = "label-studio"

    def __init__(self, config: LabelsConfig, around: Surroundings) -> None:
        """Read the token.

        Raises:
            LabelServiceError: it cannot be read.
        """
        assert config.label_studio.token_file is not None
        self._token = read_token(config.label_studio.token_file)
        self._config = config.label_studio
        self._around = around
        names = tuple(dict.fromkeys(map(canonical, around.class_names)))
        required = around.required if around.required in config.attributes else ""
        self._wish = Wish(config.label_studio.project, names, config.attributes, required)

    def label(self, samples: Sequence[UnlabeledSample]) -> Iterator[Answer]:
        """See `LabelSource.label`. Labels that are there come first; then tasks are made of what has none.

        Raises:
            ServiceAwayError: the server does not answer.
            LabelServiceError: it refuses the token, the project was deleted or is of another kind, or what
                it answers is not Label Studio's.
        """
        if not samples:
            return
        config = self._config
        with (
            _understood(config.url),
            LabelStudioClient(config.url, self._token, config.timeout_s) as client,
        ):
            _LOG.debug("Label Studio %s at %s", client.version(), client.url)
            project = ensure_project(client, self._wish, self._around.work)
            tasks = find_tasks(client, project, {sample.name for sample in samples})
            yield from self._answers(client, project, samples, tasks)
            new = [sample for sample in samples if sample.name not in tasks]
            for start in range(0, len(new), BATCH):
                yield from self._make(client, project, new[start : start + BATCH])
            if new:  # at other times, people may have chosen to begin without
                begin_with_suggestions(client, project)

    def _answers(
        self,
        client: LabelStudioClient,
        project: Project,
        samples: Sequence[UnlabeledSample],
        tasks: Mapping[str, Task],
    ) -> Iterator[Answer]:
        touched = [sample for sample in samples if sample.name in tasks and tasks[sample.name].touched]
        for start in range(0, len(touched), BATCH):
            batch = touched[start : start + BATCH]
            exported = _export(client, project, [tasks[sample.name].id for sample in batch])
            for sample in batch:
                task_id = tasks[sample.name].id
                yield self._answer(sample, exported.get(task_id, {}), project, task_id)
        for sample in samples:
            if sample.name in tasks and not tasks[sample.name].touched:
                yield _to_do(sample, project)

    def _answer(
        self, sample: UnlabeledSample, exported: Mapping[str, Any], project: Project, task_id: int
    ) -> Answer:
        try:
            labels = labels_of(exported, sample, {*CANONICAL, *self._wish.class_names})
        except SkippedError as error:
            return Answer(sample.id, None, refusal=str(error))
        except UnusableError as error:
            return Answer(sample.id, None, waits=f"{project.address}?task={task_id}: {error}")
        return Answer(sample.id, labels) if labels is not None else _to_do(sample, project)

    def _make(
        self, client: LabelStudioClient, project: Project, samples: Sequence[UnlabeledSample]
    ) -> Iterator[Answer]:
        pictures: list[tuple[UnlabeledSample, bytes]] = []
        for sample in samples:
            try:
                pictures.append((sample, self._around.objects.get(sample.object_key)))
            except MissingObjectError:
                yield Answer(sample.id, None, refusal="picture is missing")
        if pictures:
            make_tasks(client, project, pictures)
            _LOG.info("Label Studio: %d new tasks at %s", len(pictures), project.address)
        for sample, _ in pictures:
            yield _to_do(sample, project)


@contextmanager
def _understood(url: str) -> Iterator[None]:
    """An answer that is not of the shape that Label Studio's have is the server's fault, and is told so."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        _LOG.debug("Label Studio's answer is not understood", exc_info=True)
        raise LabelServiceError(
            f"Label Studio at {url} answers in a way that is not known here"
            f" ({type(error).__name__}: {error}): is labels.label_studio.url right?"
            " Label Studio 1.23.2 is what was tested"
        ) from error


def _to_do(sample: UnlabeledSample, project: Project) -> Answer:
    return Answer(sample.id, None, waits=f"to be labelled at {project.address}")


def _export(client: LabelStudioClient, project: Project, ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    query: list[tuple[str, Any]] = [("exportType", "JSON"), ("download_all_tasks", "true")]
    exported = client.get(f"/api/projects/{project.id}/export", query + [("ids[]", each) for each in ids])
    if not isinstance(exported, list):
        raise LabelServiceError(f"{project.address}: the export is no list of tasks")
    return {int(task["id"]): task for task in exported}
