"""What Label Studio does, as far as we rely on it: asked of the fake one in `make test`, and of a real one.

A world has the methods and attributes of `tests.fake_label_studio.FakeLabelStudio` that stand in `World`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from cloud.datasets import Box
from cloud.labeling import Answer, LabelServiceError, Surroundings, UnlabeledSample
from cloud.labeling.label_studio import LabelStudioService
from cloud.labeling.label_studio.annotations import SKIPPED
from cloud.labeling.label_studio.project import MEMORY
from cloud.labeling.label_studio.tasks import BATCH, MODEL_VERSION
from tests.label_contract import CLASSES, check_source, samples, settings, suggestion, surroundings
from tests.retrains import HW


class World(Protocol):
    """A Label Studio with a person at it."""

    url: str
    legacy_token: str
    personal_token: str

    def annotate(self, task_id: int, result: list[dict[str, Any]], **fields: Any) -> None: ...

    def open_task(self, task_id: int) -> dict[str, Any]: ...

    def tasks_of(self, project: int) -> list[dict[str, Any]]: ...

    def delete_project(self, project: int) -> None: ...


def service(
    world: World, folder: Path, around: Surroundings, token: str = "", project: str = "Contract"
) -> LabelStudioService:
    """Open it as the configuration would."""
    file = folder / "token"
    file.write_text(f"{token or world.legacy_token}\n")
    file.chmod(0o600)
    config = settings(
        folder,
        services=["label-studio"],
        label_studio={"url": world.url, "token_file": "token", "project": project},
    )
    return LabelStudioService(config, around)


def project_of(around: Surroundings) -> int:
    """The project that a service found or made."""
    return remembered(around.work)


def remembered(work: Path) -> int:
    """The project that is remembered in a work folder."""
    return int(json.loads((work / MEMORY).read_text())["project"])


def task_of(world: World, around: Surroundings, sample: UnlabeledSample) -> dict[str, Any]:
    """The one task of a sample, as the page shows it."""
    (task,) = [task for task in world.tasks_of(project_of(around)) if task["data"]["sample"] == sample.name]
    return world.open_task(task["id"])


def region(x: float, y: float, wide: float, high: float, label: str, **value: Any) -> dict[str, Any]:
    """A box as the page hands it in, percent."""
    return {
        "id": f"{label}{x}",
        "from_name": "objects",
        "to_name": "picture",
        "type": "rectanglelabels",
        "origin": "manual",
        "original_width": HW[1],
        "original_height": HW[0],
        "image_rotation": 0,
        "value": {
            "x": x,
            "y": y,
            "width": wide,
            "height": high,
            "rotation": 0,
            "rectanglelabels": [label],
            **value,
        },
    }


def choice(name: str, value: str) -> dict[str, Any]:
    return {
        "id": name,
        "from_name": name,
        "to_name": "picture",
        "type": "choices",
        "value": {"choices": [value]},
    }


def one(answers: list[Answer], sample: UnlabeledSample) -> Answer:
    (answer,) = [answer for answer in answers if answer.sample_id == sample.id]
    return answer


def tasks_are_made_once_and_come_back_as_labels(world: World, folder: Path, token: str, project: str) -> None:
    """A project, its tasks with the model's boxes, a person who corrects them, and the labels."""
    around = surroundings(folder)
    found = suggestion(9.6, 6.4, 48, 32, "car"), suggestion(48, 32, 96, 64, "pedestrian", 0.6)
    asked = samples(around, BATCH + 3, [*found, suggestion(1, 1, 9, 9, "a class it lacks")])

    def opened() -> LabelStudioService:
        return service(world, folder, around, token, project)

    waiting = check_source(opened, asked)
    assert {answer.waits for answer in waiting} == {
        f"to be labelled at {world.url}/projects/{project_of(around)}/data"
    }
    tasks = world.tasks_of(project_of(around))
    assert sorted(task["data"]["sample"] for task in tasks) == sorted(sample.name for sample in asked)

    # The page shows the model's boxes; whoever hands them in as they are has them as labels.
    task = task_of(world, around, asked[0])
    assert task["data"]["image"].startswith("/data/upload/") and task["data"]["suggested_by"] == "baseline 1"
    (prediction,) = task["predictions"]
    assert prediction["model_version"] == MODEL_VERSION
    world.annotate(task["id"], [*prediction["result"], choice("timeofday", "night")])
    # One is corrected: a box is moved, one removed, one added.
    moved = region(20, 20, 30, 30, "car")
    world.annotate(task_of(world, around, asked[1])["id"], [moved, region(60, 60, 20, 20, "traffic sign")])
    # One shows nothing, and one is skipped.
    world.annotate(task_of(world, around, asked[2])["id"], [])
    world.annotate(task_of(world, around, asked[3])["id"], [], was_cancelled=True)

    answers = check_source(opened, asked)
    kept = one(answers, asked[0]).labels
    assert kept is not None and kept.attributes == {"timeofday": "night"}
    assert [box.category for box in kept.boxes] == ["car", "pedestrian"]
    for box, expected in zip(kept.boxes, found, strict=True):
        for corner in ("x1", "y1", "x2", "y2"):
            assert getattr(box, corner) == pytest.approx(getattr(expected.box, corner), abs=1e-3)
    assert _rounded(one(answers, asked[1])) == [
        Box(19.2, 12.8, 48.0, 32.0, "car"),
        Box(57.6, 38.4, 76.8, 51.2, "traffic sign"),
    ]
    assert _rounded(one(answers, asked[2])) == []
    assert one(answers, asked[3]).refusal == SKIPPED
    assert len(world.tasks_of(project_of(around))) == len(asked)

    # More samples, another process, the memory lost: the same project, found by its title.
    before = project_of(around)
    (around.work / MEMORY).unlink()
    more = samples(around, 2, first=900)
    list(opened().label([*asked, *more]))
    assert project_of(around) == before and len(world.tasks_of(before)) == len(asked) + 2


def what_is_no_label_waits_and_says_what_to_do(world: World, folder: Path, project: str) -> None:
    """Half of the tasks are done, and several of them cannot be used."""
    around = surroundings(folder)
    told: Mapping[str, list[list[dict[str, Any]]]] = {
        "a rotated box of car: draw it upright": [[region(10, 10, 10, 10, "car", rotation=30)]],
        "box lies outside its image": [[region(120, 10, 10, 10, "car")]],
        "the label 'Lorry-like', which the model has no class for": [[region(1, 1, 9, 9, "Lorry-like")]],
        "2 annotations that differ": [[region(10, 10, 10, 10, "car")], [region(60, 60, 10, 10, "car")]],
        "a box with 0 classes: choose one": [[region(10, 10, 10, 10, "car", rectanglelabels=[])]],
    }
    asked = samples(around, len(told) + 2, first=100)
    list(service(world, folder, around, project=project).label(asked))
    for sample, results in zip(asked, told.values(), strict=False):
        for result in results:
            world.annotate(task_of(world, around, sample)["id"], result)
    # Clipped to its picture, by another name of its class; two who mean the same are one label.
    good = asked[len(told)]
    for shift in (0, 1):
        world.annotate(task_of(world, around, good)["id"], [region(90 + shift, -5, 20, 30, "Person")])
    answers = list(service(world, folder, around, project=project).label(asked))
    for sample, words in zip(asked, told, strict=False):
        task = task_of(world, around, sample)["id"]
        said = one(answers, sample).waits
        assert words in said and said.startswith(
            f"{world.url}/projects/{project_of(around)}/data?task={task}: "
        )
    assert _rounded(one(answers, good)) == [Box(87.4, 0, 96, 16, "pedestrian")]
    assert one(answers, asked[-1]).waits.startswith("to be labelled at")
    # Whoever puts it right has it as a label.
    world.annotate(task_of(world, around, asked[3])["id"], [region(10, 10, 10, 10, "car")], ground_truth=True)
    again = list(service(world, folder, around, project=project).label(asked))
    assert _rounded(one(again, asked[3])) == [Box(9.6, 6.4, 19.2, 12.8, "car")]


def a_project_learns_new_classes_and_a_deleted_one_is_told(world: World, folder: Path, project: str) -> None:
    """The model's classes grow; then somebody deletes the project."""
    around = surroundings(folder)
    (sample,) = samples(around, 1, first=200)
    list(service(world, folder, around, project=project).label([sample]))
    wider = surroundings(folder, class_names=(*CLASSES, "rider"))
    list(service(world, folder, wider, project=project).label([sample]))
    world.annotate(task_of(world, around, sample)["id"], [region(10, 10, 20, 20, "rider")])
    (answer,) = service(world, folder, wider, project=project).label([sample])
    assert _rounded(answer) == [Box(9.6, 6.4, 28.8, 19.2, "rider")]
    world.delete_project(project_of(around))
    with pytest.raises(LabelServiceError, match=rf"the project \d+, '{project}'.*was deleted.*remove"):
        list(service(world, folder, around, project=project).label([sample]))
    (around.work / MEMORY).unlink()
    (anew,) = service(world, folder, around, project=project).label([sample])
    assert anew.waits and len(world.tasks_of(project_of(around))) == 1


def a_wrong_token_is_refused_without_being_shown(world: World, folder: Path, wrong: str) -> None:
    """Of either kind."""
    around = surroundings(folder)
    with pytest.raises(LabelServiceError, match="refuses the token in labels") as told:
        list(service(world, folder, around, wrong).label(samples(around, 1)))
    assert wrong not in str(told.value) and wrong not in repr(told.value.__cause__)


def _rounded(answer: Answer) -> list[Box]:
    assert answer.labels is not None, answer
    return [
        Box(*(round(value, 1) for value in (box.x1, box.y1, box.x2, box.y2)), box.category)
        for box in answer.labels.boxes
    ]
