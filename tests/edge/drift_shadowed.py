"""A camera to which candidates are shown in shadow."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge.drift import Reference, fit
from edge.drift.own import OF_A_MODEL
from edge.drift.rows import read
from edge.drift.shadow_fit import ShadowFitTerms, fit_shadow
from edge.drift.shadow_seen import FOLDER, SeenTerms, ShadowSeen
from edge.drift.state import Origin
from edge.machine.disk_budget import DiskBudget

S = 10**9
OLD, X, Y = "0" * 64, "a" * 64, "b" * 64
NAMES = ("brightness", "count")
ORIGINS = (Origin.PICTURE, Origin.DETECTIONS)
RATE_HZ = 2.0
RUNS = itertools.count()
PICTURE = fit(
    np.random.default_rng(0).normal(size=(1200, 2)), RATE_HZ, NAMES, origins=[o.value for o in ORIGINS]
).without(OF_A_MODEL)


class Camera:
    """One run of the daemon: its fitter does at once, or when it is let, what it is given."""

    def __init__(self, folder: Path, budget: DiskBudget | None = None) -> None:
        disk = budget or DiskBudget()
        self.folder = folder
        self.at_once, self.waits = True, list[Callable[[], object]]()
        self.is_full = False
        self.fail: Exception | None = None
        self.fits = 0
        self.meanwhile: Callable[[], object] = lambda: None  # while a fit is under way
        self.number = 0
        self.judged = PICTURE
        self.it = ShadowSeen(
            "front",
            folder,
            SeenTerms(NAMES, ORIGINS, 60.0, f"run-{next(RUNS)}"),
            disk.lane("drift"),
            disk.lane("drift-rows"),
            self._submit,
            fitter=self._fit,
        )

    def _submit(self, job: Callable[[], object]) -> bool:
        if self.is_full:
            return False
        self.waits.append(job)
        while self.at_once and self.waits:
            self.waits.pop(0)()
        return True

    def _fit(
        self,
        folder: Path,
        terms: ShadowFitTerms,
        judged: Reference,
        past: Reference | None,
        stopping: threading.Event,
    ) -> Reference:
        self.fits += 1
        if self.fail is not None:
            raise self.fail
        made = fit_shadow(list(read(folder)), terms, judged, past)
        self.meanwhile()
        return made

    def judges(self, model: str) -> Camera:
        self.it.judges(model, self.judged, None, 24.0)
        return self

    def shadow(self, model: str, rows: int = 200, level: float = 0.0) -> Camera:
        self.it.begin(model)
        self.see(model, rows, level)
        return self

    def see(self, model: str, rows: int = 200, level: float = 0.0, every_ns: int = S) -> None:
        rng = np.random.default_rng(self.number)
        for _ in range(rows):
            self.it.add(model, self.number * every_ns, rng.normal([0.0, level], 1.0).astype(np.float32))
            self.number += 1

    def knows(self) -> str:
        return "" if self.it.known is None else self.it.known.model


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def kept(folder: Path) -> int:
    return sum(len(one.times) for one in read(folder / FOLDER))
