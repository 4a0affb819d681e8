"""A camera in its first days, whose frames are far apart."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge.drift.commission_terms import Present, Terms
from edge.drift.commissioning import Commissioning
from edge.drift.fit_child import FitTerms, fit_context, sort
from edge.drift.own import UNSORTED, Own
from edge.drift.reference import ContextReference, Reference, unknown_feature
from edge.drift.rows import read
from edge.drift.state import Origin
from edge.machine.disk_budget import DiskBudget

S = 10**9
A, B = "a" * 64, "b" * 64
NAMES = ("brightness", "count")
ORIGINS = (Origin.PICTURE, Origin.DETECTIONS)
# A frame every half a minute makes hours of driving cheap.
RATE_HZ = 1 / 30
HOUR = 120
RUNS = itertools.count()


class Camera:
    """A commissioning whose writers do at once, or when told to, what they are given."""

    def __init__(self, folder: Path, hours: float = 24.0, budget: DiskBudget | None = None) -> None:
        self.now_s, self.fits = 0.0, 0
        self.waits: list[Callable[[], object]] = []
        self.fail: Exception | None = None
        self.at_once = True
        self.meanwhile: Callable[[], object] = lambda: None  # while a fit is under way
        self.today = "2026-03-01"
        disk = budget or DiskBudget()
        self.it = Commissioning(
            "front",
            folder,
            Terms(hours, 24.0, NAMES, ORIGINS, f"run-{next(RUNS)}"),
            disk.lane("drift"),
            disk.lane("drift-rows"),
            lambda job: bool(job()) or True,
            self._submit,
            fitter=self._fit,
            clock_s=lambda: self.now_s,
            today=lambda: self.today,
        )
        self.number = 0

    def _submit(self, job: Callable[[], object]) -> bool:
        self.waits.append(job)
        while self.at_once and self.waits:
            self.waits.pop(0)()
        return True

    def _fit(
        self, folder: Path, terms: FitTerms, prior: ContextReference | None, stopping: threading.Event
    ) -> Reference:
        self.fits += 1
        if self.fail is not None:
            raise self.fail
        found = list(read(folder))
        made = sort(found, terms) if terms.context == UNSORTED else fit_context(found, terms, prior)
        self.meanwhile()
        return made

    def drive(self, hours: float, context: str = "day", level: float = 0.0, *, alarm: bool = False) -> None:
        rng = np.random.default_rng(self.number)
        for _ in range(round(hours * HOUR)):
            vector = rng.normal(level, 1.0, 2).astype(np.float32)
            self.it.add(self.number * 30 * S, vector, context, context or "day", alarm=alarm)
            self.number += 1
        self.it.flush()

    def under(self, model: str, prior: Reference | None = None) -> Camera:
        self.it.begin(Present(model, prior, RATE_HZ))
        return self


def own_of(camera: Camera) -> Own:
    assert camera.it.own is not None
    return camera.it.own


def context_of(camera: Camera, name: str = "day") -> ContextReference:
    found = own_of(camera).context(name)
    assert found is not None
    return found


LEARNING = Reference(
    RATE_HZ,
    24.0,
    (ContextReference("day", tuple(unknown_feature(*one) for one in zip(NAMES, ORIGINS, strict=True)), 1.0),),
)
