"""A drive of one camera, shown to the drift monitors as the frame loop shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from edge.config import DriftConfig
from edge.drift import Reference, combine, fit
from edge.drift.features import NAMES, ORIGINS, extract
from edge.drift.part import DriftWatch
from edge.frames.frame import Frame
from edge.messages import Clock
from edge.perception.detector import Detections, StageTimes
from edge.publication import Publication
from protos.traffic_vision.v1 import common_pb2 as common
from tests.models_factory import loaded, rectangles_model

RATE_HZ = 2.0
BY_DAY, BY_NIGHT = 140.0, 20.0
NO_BOXES = np.zeros((0, 6), np.float32)
MODEL = loaded(rectangles_model(version="1"))
VERDICTS = {value: name.removeprefix("DRIFT_VERDICT_").lower() for name, value in common.DriftVerdict.items()}


def image(number: int, level: float) -> np.ndarray:
    rng = np.random.default_rng(number)
    return np.clip(rng.normal(level + rng.normal(0, 6), 12, (36, 64, 3)), 0, 255).astype(np.uint8)


def reference(level: float, context: str) -> Reference:
    drives = [
        np.array([extract(image(seed * 1000 + number, level), NO_BOXES) for number in range(60)])
        for seed in range(1, 11)
    ]
    return fit(drives, RATE_HZ, NAMES, origins=ORIGINS, context=context)


@cache
def day() -> Reference:
    return reference(BY_DAY, "daytime")


@cache
def day_and_night() -> Reference:
    return combine(day(), reference(BY_NIGHT, "night"))


class Drive:
    """Frames of one camera at 10 Hz, shown to a watch."""

    def __init__(self, watch: DriftWatch) -> None:
        self.watch = watch
        self.number = 0
        self.epoch = 0
        self.every = 1  # one frame of so many comes
        self.digest = MODEL.digest
        self.metadata = MODEL.metadata
        self.embedding: float | None = None  # the mean of what the model gives; None: it gives none

    def go(self, seconds: float, level: float) -> None:
        for _ in range(0, round(seconds * 10), self.every):
            picture = image(self.number, level)
            frame = Frame("front", self.number, self.epoch, self.number * 100_000_000, picture)
            noise = np.random.default_rng(self.number).normal(0, 1, 4)
            embedding = None if self.embedding is None else (self.embedding + noise).astype(np.float32)
            found = Detections(NO_BOXES, self.digest, StageTimes(0, 0, 0), embedding)
            self.watch.observe(
                frame,
                Publication(frame.key, frame.captured_ns, False, 36, 64, found, self.metadata, 0, 0, 0),
            )
            self.number += self.every

    def reconnect(self, seconds: float) -> None:
        """The camera is lost, and back after so long."""
        self.number += round(seconds * 10)
        self.epoch += 1

    def another_model(self, prior: Reference | None) -> None:
        self.digest = "b" * 64
        text = None if prior is None else prior.to_bytes().decode()
        self.metadata = replace(MODEL.metadata, version="2", drift_prior=text)


class Told:
    def __init__(self) -> None:
        self.states: list[common.DriftState] = []
        self.changes: list[tuple[str, str]] = []

    def changed(self, state: common.DriftState, previous: common.DriftVerdict) -> None:
        self.changes.append((VERDICTS[previous], VERDICTS[state.verdict]))


def a_watch(
    folder: Path,
    told: Told,
    parked: Callable[[str], bool] = lambda camera: False,
    *,
    moving: Callable[[str], bool] = lambda camera: True,
    cameras: tuple[str, ...] = ("front",),
    **config: object,
) -> DriftWatch:
    (folder / "factory.onnx").write_bytes(MODEL.data)
    section = DriftConfig.model_validate(config)
    watch = DriftWatch(
        section,
        cameras,
        folder / "factory.onnx",
        folder / "drift",
        Clock("run"),
        told.states.append,
        parked=parked,
        moving=moving,
    )
    watch.listen(told.changed)
    return watch


def by_name(state: common.DriftState) -> list[common.FeatureDrift]:
    return sorted(state.features, key=lambda one: one.name)


def saved(folder: Path) -> Path:
    """The file of what the day looks like."""
    day().save(folder / "day.json")
    return folder / "day.json"
