"""Larger models as a labelling service: what they agree on is a label, what they are unsure of goes on.

A picture is labelled as a whole: one box that is left out would teach that nothing is there. So a picture
with one box in doubt is refused, and the next service begins with all of its boxes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cloud.config import TeacherConfig
from cloud.datasets.classes import canonical
from cloud.datasets.dataset import Box, fit_box
from cloud.datasets.files import write_file
from cloud.labeling.fusion import Fused, fuse
from cloud.labeling.opening import Surroundings
from cloud.labeling.service import Answer, Labels, LabelServiceError, Suggestion, UnlabeledSample
from cloud.pipeline.detecting import Detector, open_detector
from cloud.pipeline.ultralytics_boundary import find_weights
from cloud.store.objects import MissingObjectError

# Weaker boxes are not even kept: what a model may be asked for again without looking again.
LEAST_SCORE = 0.05
# Pictures that a model looks at together.
BATCH = 8

UNSURE = "the teachers are unsure of what is in it"
EMPTY = "the teachers find nothing in it"
BLIND = "it shows a class that no teacher knows"


class TeacherService:
    """One Ultralytics detector or an ensemble of them as a `LabelSource`.

    What each model saw in a picture is kept in the work folder, under the digests of both: a model looks at
    a picture once, however often it is asked and whatever thresholds change.
    """

    name = "teacher"

    def __init__(self, config: TeacherConfig, around: Surroundings) -> None:
        """Take the models; none is loaded before there is a picture that it has not seen.

        Raises:
            WeightsError: a checkpoint is not there.
        """
        self._config, self._around = config, around
        self._teachers = [_Teacher(find_weights(name), config, around.work) for name in config.models]

    def label(self, samples: Sequence[UnlabeledSample]) -> Iterator[Answer]:
        """Answer for every sample.

        Raises:
            LabelServiceError: the teachers do not know a class of the model.
        """
        if not samples:
            return
        knowing = self._knowing()
        for start in range(0, len(samples), BATCH):
            there: list[tuple[UnlabeledSample, bytes]] = []
            for sample in samples[start : start + BATCH]:
                try:
                    there.append((sample, self._around.objects.get(sample.object_key)))
                except MissingObjectError:
                    yield Answer(sample.id, None, "picture is missing")
            seen = [teacher.look(there) for teacher in self._teachers]
            for number, (sample, _) in enumerate(there):
                found = [each[number] for each in seen]
                if any(each is None for each in found):
                    yield Answer(sample.id, None, "picture does not decode")
                    continue
                boxes = [[box for box in each or () if box.box.category in knowing] for each in found]
                yield judge(sample, fuse(boxes, knowing, self._config.overlap), self._config)

    def _knowing(self) -> dict[str, int]:
        """Count the teachers that know each of the model's classes."""
        names = {canonical(name) for name in self._around.class_names}
        known = [teacher.class_names() for teacher in self._teachers]
        knowing = {name: sum(name in each for each in known) for name in sorted(names)}
        accepted = {canonical(name) for name in self._config.unknown_classes}
        lacking = [name for name, count in knowing.items() if not count and name not in accepted]
        if lacking:
            raise LabelServiceError(
                f"no teacher ({', '.join(self._config.models)}) knows {', '.join(map(repr, lacking))}, which "
                "the model detects: their labels would teach it that there are none. Add a teacher that "
                "does, or name them in labels.teacher.unknown_classes"
            )
        return {name: count for name, count in knowing.items() if count}


def judge(sample: UnlabeledSample, fused: Sequence[Fused], config: TeacherConfig) -> Answer:
    """Decide whether what the teachers found in a picture is its label.

    A box is sure with `confidence` and `agreement`, nothing below `floor`, and in doubt between.
    """
    boxes = [each for each in fused if each.score * each.agreement >= config.floor]
    doubtful = any(each.score < config.confidence or each.agreement < config.agreement for each in boxes)
    blind = {canonical(name) for name in config.unknown_classes}
    missed = [each for each in sample.suggestions if each.box.category in blind]
    reason = BLIND if missed else UNSURE if doubtful else "" if boxes or config.trust_empty else EMPTY
    if not reason:
        return Answer(sample.id, Labels(tuple(each.box for each in boxes)))
    suggestions = [Suggestion(each.box, each.score * each.agreement) for each in boxes]
    return Answer(
        sample.id, None, reason, suggestions=(*suggestions, *missed), suggested_by=", ".join(config.models)
    )


class _Teacher:
    """One model, and what it has seen already."""

    def __init__(self, weights: Path, config: TeacherConfig, work: Path) -> None:
        self._weights, self._config = weights, config
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        self._seen = work / "teacher" / f"{digest[:16]}-{config.imgsz}"
        self._detector: Detector | None = None

    def class_names(self) -> frozenset[str]:
        """Give the canonical names of its classes."""
        kept = self._seen / "classes.json"
        if not kept.is_file():
            write_file(kept, json.dumps(sorted(map(canonical, self._loaded().class_names))))
        return frozenset(json.loads(kept.read_text()))

    def look(self, pictures: Sequence[tuple[UnlabeledSample, bytes]]) -> list[list[Suggestion] | None]:
        """Give what it sees in each picture; None: it does not decode."""
        new = [(sample, jpeg) for sample, jpeg in pictures if not self._kept(sample).is_file()]
        if new:
            detected = self._loaded().detect([jpeg for _, jpeg in new])
            for (sample, _), boxes in zip(new, detected, strict=True):
                write_file(self._kept(sample), json.dumps(boxes))
        return [_suggestions(json.loads(self._kept(sample).read_text()), sample) for sample, _ in pictures]

    def _kept(self, sample: UnlabeledSample) -> Path:
        return self._seen / sample.object_key[:2] / f"{sample.object_key}.json"

    def _loaded(self) -> Detector:
        if self._detector is None:
            config = self._config
            self._detector = open_detector(self._weights, config.imgsz, LEAST_SCORE, config.device)
        return self._detector


def _suggestions(boxes: list[list[Any]] | None, sample: UnlabeledSample) -> list[Suggestion] | None:
    if boxes is None:
        return None
    suggestions = []
    for x1, y1, x2, y2, score, name in boxes:
        corners = fit_box(x1, y1, x2, y2, sample.width, sample.height)
        if not isinstance(corners, str):
            suggestions.append(Suggestion(Box(*corners, canonical(name)), score))
    return suggestions
