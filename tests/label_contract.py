"""What every labelling service keeps to, and what its tests share: samples with pictures, and settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cloud.config import LabelsConfig
from cloud.datasets import Box, canonical
from cloud.datasets.dataset import fit_box
from cloud.labeling import Answer, LabelSource, Suggestion, Surroundings, UnlabeledSample
from cloud.store import FolderObjects
from tests.retrains import HW, red_picture

CLASSES = ("car", "pedestrian", "traffic sign")


def settings(folder: Path, **labels: Any) -> LabelsConfig:
    """The section `labels`, as a file in `folder` would say it."""
    return LabelsConfig.model_validate_json(json.dumps(labels), context={"folder": folder})


def surroundings(folder: Path, **fields: Any) -> Surroundings:
    """A cloud's folders below this one."""
    for name in ("objects", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    fields.setdefault("class_names", CLASSES)
    return Surroundings(objects=FolderObjects(folder / "objects"), work=folder / "work", **fields)


def samples(
    around: Surroundings, count: int, suggestions: Sequence[Suggestion] = (), first: int = 0
) -> list[UnlabeledSample]:
    """Samples with small pictures, all different."""
    keys = around.objects.put_all([red_picture(first + number) for number in range(count)])
    return [
        UnlabeledSample(
            id=first + number + 1,
            object_key=key,
            width=HW[1],
            height=HW[0],
            source_id="test:drive",
            drive_id="drive-1",
            picture=f"{first + number}.jpg",
            drive_ns=number,
            name=f"car-1/{first + number}",
            suggestions=tuple(suggestions),
            suggested_by="baseline 1",
        )
        for number, key in enumerate(keys)
    ]


def suggestion(x1: float, y1: float, x2: float, y2: float, name: str, score: float = 0.8) -> Suggestion:
    return Suggestion(Box(x1, y1, x2, y2, name), score)


def check_source(open_source: Callable[[], LabelSource], asked: Sequence[UnlabeledSample]) -> list[Answer]:
    """Ask a service as a pipeline does, by two processes one after the other; give its answers."""
    source = open_source()
    assert source.name and list(source.label([])) == []
    answers = list(source.label(asked))
    by_id = {sample.id: sample for sample in asked}
    assert len({answer.sample_id for answer in answers}) == len(answers)
    for answer in answers:
        sample = by_id[answer.sample_id]
        assert [answer.labels is not None, bool(answer.refusal), bool(answer.waits)].count(True) == 1
        for box in answer.labels.boxes if answer.labels is not None else ():
            assert box.category == canonical(box.category)
            corners = (box.x1, box.y1, box.x2, box.y2)
            assert fit_box(*corners, sample.width, sample.height) == corners
    again = list(open_source().label(asked))
    assert sorted(again, key=lambda each: each.sample_id) == sorted(answers, key=lambda each: each.sample_id)
    return answers
