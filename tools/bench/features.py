"""`bench features`: what each drift feature costs, and which change of the world moves it how far.

The second table is what a feature earns its place by: it is made of simulated drives, the same moments of the
same drives with one thing changed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.drift.features import FEATURES, NAMES, SHARED_US, extract
from edge.drift.look import Look
from edge.drift.state import Origin
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.model_file import read_model_file
from tools.bench.report import Report, Table, Target
from tools.bench.rounds import BenchError, Spread
from tools.bench.subject import MODELS
from tools.drives.conditions import NOTHING, Conditions
from tools.drives.light import light
from tools.drives.render import SIZE, render

TARGET_MS = 1.0
COSTLIER = 1.5  # another machine, with something else to do now and then
_TOLD_APART_US = 5.0  # of less the clock and the call are the most
_DECLARED = {feature.name: float(feature.cost_us) for feature in FEATURES}
FRAME = (1280, 720)
FIRST_DRIVE = 50_000
_STEP_S = 2.5  # between two moments: another scene
_START_S = 20.0
_PICTURES = 6
_SHARED = ("small", "planes", "luma", "half", "histogram")
_AS_USUAL = "noon"
EFFECTS: dict[str, tuple[str, Conditions]] = {
    "dusk": ("dusk", NOTHING),
    "night": ("night", NOTHING),
    "rain": ("noon", Conditions(weather="rain")),
    "fog": ("noon", Conditions(weather="fog")),
    "smear": ("noon", Conditions(lens="smear")),
    "turn 5": ("noon", Conditions(turn=5.0)),
    "turn -5": ("noon", Conditions(turn=-5.0)),
    "exposure 2": ("noon", Conditions(exposure=2.0)),
    "exposure -2": ("noon", Conditions(exposure=-2.0)),
}

Progress = Callable[[int, int], None]


def bench_features(
    model: Path | None, rounds: int, drives: int, moments: int, progress: Progress = lambda done, of: None
) -> Report:
    """Time each feature on one thread, and see how far it moves under each of EFFECTS.

    Args:
        model: finds what is in the pictures; the shipped baseline unless given.
        rounds: how often all features of a picture are timed.
        drives: simulated drives of each effect.
        moments: pictures of each drive.
        progress: told how many pictures of the second part are done.

    Raises:
        BenchError: fewer than one round, drive, or two moments.
        TrafficVisionError: the model cannot be used.
    """
    if rounds < 1 or drives < 1 or moments < 2:
        raise BenchError(f"at least 1 round, 1 drive and 2 moments, not {rounds}, {drives} and {moments}")
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        detector = Detector(read_model_file(model or MODELS / "baseline.onnx"), DetectorOptions(threads=1))
        costs = _costs(detector, rounds)
        seen = _effects(detector, drives, moments, progress)
    finally:
        cv2.setNumThreads(threads)
    whole = Spread.of(costs.pop("all of a frame"))
    spreads = {name: Spread.of(spent) for name, spent in costs.items() if spent}
    usual = seen.pop(_AS_USUAL)
    shifts = {name: _shift(usual, values) for name, values in seen.items()}
    figures = {
        "frame": list(FRAME),
        "rounds": rounds,
        "all": whole.to_json("ms"),
        "costs": {name: spread.to_json("us") for name, spread in spreads.items()},
        "pictures": drives * moments,
        "shift_sigma": {
            name: {feature: _number(value) for feature, value in zip(NAMES, values.tolist(), strict=True)}
            for name, values in shifts.items()
        },
    }
    cost_rows = [(name, s.min, s.p50, _DECLARED.get(name)) for name, s in spreads.items()]
    shift_rows = [
        (feature, *(_number(values[column]) for values in shifts.values()))
        for column, feature in enumerate(NAMES)
    ]
    return Report(
        bench="features",
        figures=figures,
        targets=[
            Target(f"all features of a frame, {FRAME[0]}x{FRAME[1]}, p50 ms", round(whole.p50, 3), TARGET_MS),
            Target(
                f"steps whose least time is more than {COSTLIER:g} times what is declared",
                costlier({name: spread.min for name, spread in spreads.items()}),
                0,
            ),
        ],
        tables=[
            Table("microseconds on one core, in their turn", ("us", "min", "p50", "declared"), cost_rows),
            Table(
                f"shift in standard deviations by day, {drives * moments} pictures of {drives} drives",
                ("feature", *shifts),
                shift_rows,
            ),
        ],
    )


def costlier(least_us: Mapping[str, float]) -> int:
    """How many steps cost more than is said of them: of the features, and all together that these share.

    Args:
        least_us: measured, by the name of the feature or of the shared step; what is missing was not timed.
    """
    pairs = [(least_us.get(name, 0.0), us) for name, us in _DECLARED.items() if us >= _TOLD_APART_US]
    shared = sum(least_us.get(name, 0.0) for name in _SHARED)
    return sum(least > COSTLIER * us for least, us in (*pairs, (shared, SHARED_US)))


def _costs(detector: Detector, rounds: int) -> dict[str, list[float]]:
    """Time each feature in its turn, us, and all of a frame at once, ms; pictures change as a camera's do."""
    pictures = [render(FIRST_DRIVE + number, _START_S, size=FRAME).image for number in range(_PICTURES)]
    found = [detector.detect(picture) for picture in pictures]
    times: dict[str, list[float]] = {name: [] for name in (*_SHARED, *NAMES, "all of a frame")}
    for number in range(-3, rounds):
        picture, seen = pictures[number % _PICTURES], found[number % _PICTURES]
        boxes, embedding = seen.boxes, seen.embedding
        look = Look(picture, boxes, detector.class_names, embedding)
        steps: list[tuple[str, Callable[[], object]]] = [
            (name, partial(getattr, look, name)) for name in _SHARED
        ]
        # Means over detections are only asked for where there are some.
        asked = [one for one in FEATURES if len(boxes) or one.origin is not Origin.DETECTIONS]
        steps += [(feature.name, partial(feature.of, look)) for feature in asked]
        for name, step in steps:
            _timed(times[name], step, number, 1e3)
        whole = partial(extract, picture, boxes, class_names=detector.class_names, embedding=embedding)
        _timed(times["all of a frame"], whole, number, 1e6)
    return times


def _timed(times: list[float], step: Callable[[], object], number: int, unit_ns: float) -> None:
    started = time.perf_counter_ns()
    step()
    spent = time.perf_counter_ns() - started
    if number >= 0:
        times.append(spent / unit_ns)


def _effects(
    detector: Detector, drives: int, moments: int, progress: Progress
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the features of the same moments under each effect, `float32[drives * moments, F]`."""
    kinds = {_AS_USUAL: ("noon", NOTHING), **EFFECTS}
    rows: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in kinds}
    for number in range(drives * moments):
        drive, moment = divmod(number, moments)
        for name, (sun, conditions) in kinds.items():
            t = _START_S + _STEP_S * moment
            picture = render(FIRST_DRIVE + drive, t, light(sun), SIZE, conditions).image
            seen = detector.detect(picture)
            names, embedding = detector.class_names, seen.embedding
            rows[name].append(extract(picture, seen.boxes, class_names=names, embedding=embedding))
        progress(number + 1, drives * moments)
    return {name: np.array(values) for name, values in rows.items()}


def _shift(usual: npt.NDArray[np.float32], changed: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return how far each feature's mean moved, in standard deviations; NaN where it is not to be had."""
    shifts = np.full(usual.shape[1], np.nan)
    for column in range(usual.shape[1]):
        before, after = (values[:, column][~np.isnan(values[:, column])] for values in (usual, changed))
        if len(before) > 1 and len(after) and before.std() > 0:
            shifts[column] = (after.mean() - before.mean()) / before.std()
    return shifts


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 2)
