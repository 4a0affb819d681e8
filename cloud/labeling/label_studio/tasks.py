"""Tasks in Label Studio: one for each sample, made once, with the model's boxes to begin with."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloud.labeling.label_studio.client import LabelStudioClient, NotThereError
from cloud.labeling.label_studio.project import IMAGE_FIELD, Project
from cloud.labeling.service import LabelServiceError, Suggestion, UnlabeledSample

# The server takes at most 100 files in a request.
BATCH = 50
PAGE = 500
# What a task's data calls the sample.
SAMPLE_FIELD = "sample"
# One for all: the interface begins with boxes of one version alone. The task's data says which model it was.
MODEL_VERSION = "traffic-vision"

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """A sample's task.

    Attributes:
        id: its number in the server.
        touched: somebody has handed it in, or skipped it.
    """

    id: int
    touched: bool


def find_tasks(client: LabelStudioClient, project: Project, names: Collection[str]) -> dict[str, Task]:
    """Find the tasks of samples, by their names, the newest pages first, until all are found or none is left.

    Where a sample has several (a killed attempt's request was still being worked on when another asked),
    those that nobody has touched are removed but one.
    """
    found: dict[str, Task] = {}
    page, seen, total = 1, 0, 1
    while seen < total and len(found) < len(set(names)):
        query = {
            "project": project.id,
            "page": page,
            "page_size": PAGE,
            "query": json.dumps({"ordering": ["-tasks:id"]}),
        }
        try:
            answer = client.get("/api/tasks/", query)
        except NotThereError:  # the page: tasks were deleted meanwhile
            break
        for each in answer["tasks"]:
            name = (each.get("data") or {}).get(SAMPLE_FIELD)
            if isinstance(name, str) and name in names:
                touched = bool(each.get("total_annotations") or each.get("cancelled_annotations"))
                found[name] = _one_of(client, found.get(name), Task(int(each["id"]), touched))
        seen, total, page = seen + len(answer["tasks"]), int(answer["total"]), page + 1
        if not answer["tasks"]:
            break
    return found


def _one_of(client: LabelStudioClient, one: Task | None, other: Task) -> Task:
    if one is None or one.id == other.id:  # tasks that were made meanwhile push it onto the next page
        return other
    kept, spare = sorted((one, other), key=lambda task: (not task.touched, task.id))
    if not spare.touched:
        _LOG.warning("Label Studio: removed task %d, the same as task %d", spare.id, kept.id)
        client.delete(f"/api/tasks/{spare.id}/")
    return kept


def make_tasks(
    client: LabelStudioClient, project: Project, pictures: Sequence[tuple[UnlabeledSample, bytes]]
) -> None:
    """Make the tasks of samples that have none: uploads the pictures, then all tasks in one transaction.

    Args:
        client: of the server.
        project: where to.
        pictures: at most `BATCH` samples, each with its JPEG.
    """
    names = {_file_name(sample): jpeg for sample, jpeg in pictures}
    files = {f"file{number}": (name, jpeg, "image/jpeg") for number, (name, jpeg) in enumerate(names.items())}
    path = f"/api/projects/{project.id}/import?commit_to_project=false"
    uploaded = client.post(path, files=files)["file_upload_ids"]
    query = {"ids": json.dumps(uploaded)}
    lying = {
        # The server puts a few letters and a hyphen before a name.
        str(each["file"]).rpartition("/")[2].partition("-")[2]: str(each["file"])
        for each in client.get(f"/api/projects/{project.id}/file-uploads", query)
    }
    if missing := [name for name in names if name not in lying]:
        raise LabelServiceError(
            f"{client.url} took {len(names)} pictures and has lost {len(missing)}: try again"
        )
    tasks = [
        task_body(sample, f"{client.path_prefix}/data/{lying[_file_name(sample)]}", project)
        for sample, _ in pictures
    ]
    client.post(f"/api/projects/{project.id}/import", tasks)


def begin_with_suggestions(client: LabelStudioClient, project: Project) -> None:
    """Have the interface begin with the boxes of our tasks. The server refuses that before there are any."""
    if project.model_version == MODEL_VERSION:
        return
    if MODEL_VERSION in client.get(f"/api/projects/{project.id}/model-versions/"):
        client.patch(f"/api/projects/{project.id}/", {"model_version": MODEL_VERSION})


def task_body(sample: UnlabeledSample, picture_url: str, project: Project) -> dict[str, Any]:
    """Give a task as the server takes it. Suggestions of classes that the project lacks are left out."""
    known = [each for each in sample.suggestions if each.box.category in project.labels]
    data = {
        IMAGE_FIELD: picture_url,
        SAMPLE_FIELD: sample.name,
        "drive": sample.drive_id,
        "source_picture": sample.picture,
        "suggested_by": sample.suggested_by,
    }
    if not known:
        return {"data": data}
    prediction = {
        "model_version": MODEL_VERSION,
        "score": round(sum(each.score for each in known) / len(known), 4),
        "result": [_region(number, each, sample, project) for number, each in enumerate(known)],
    }
    return {"data": data, "predictions": [prediction]}


def _region(
    number: int, suggestion: Suggestion, sample: UnlabeledSample, project: Project
) -> Mapping[str, Any]:
    """A box in the server's units: percent of the picture."""
    box, width, height = suggestion.box, sample.width, sample.height
    x1, x2 = (100 * min(max(x, 0.0), width) / width for x in (box.x1, box.x2))
    y1, y2 = (100 * min(max(y, 0.0), height) / height for y in (box.y1, box.y2))
    return {
        "id": f"box{number}",
        "from_name": project.objects,
        "to_name": project.picture,
        "type": "rectanglelabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": round(suggestion.score, 4),
        "value": {
            "x": x1,
            "y": y1,
            "width": x2 - x1,
            "height": y2 - y1,
            "rotation": 0,
            "rectanglelabels": [project.labels[box.category]],
        },
    }


def _file_name(sample: UnlabeledSample) -> str:
    return f"{sample.object_key[:32]}.jpg"
