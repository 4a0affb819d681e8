"""A demonstration that might have been: drift that rises at dusk, an alarm, a swap, a quiet night."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.drift.features import NAMES
from tools.demo.record import Comparison, DemoRecord, DriftPoint, ModelRecord, Score, SwapRecord
from tools.drives.light import light
from tools.drives.render import render

DUSK_S, ALARM_S, SWAP_S, LEARNED_S, END_S = 120.0, 158.0, 540.0, 620.0, 800.0
FAR = {"brightness": 0.97, "contrast": 0.8, "dark_tail": 0.95, "count": 0.6, "low_confidence_share": 0.7}


def model(folder: Path, name: str, version: str, day: float, night: float) -> ModelRecord:
    path = folder / f"{name}.onnx"
    path.write_bytes(f"the bytes of {name}".encode())
    scores = {
        "day": Score(day, day - 0.03, day + 0.028, 400, 20),
        "night": Score(night, night - 0.04, night + 0.045, 400, 20),
    }
    return ModelRecord(name, version, hashlib.sha256(path.read_bytes()).hexdigest(), path, scores)


def drift(old: str, new: str) -> list[DriftPoint]:
    """A state a second: the features of FAR leave at dusk and are known again to the new model."""
    chance = np.random.default_rng(7)
    points = []
    for second in map(float, range(int(END_S))):
        dark = 1 / (1 + math.exp(-(second - DUSK_S - 25) / 8)) * (second < SWAP_S)
        ks = {
            name: float(np.clip(0.08 + 0.05 * chance.random() + dark * FAR.get(name, 0.15), 0, 1))
            for name in NAMES
        }
        alarming = tuple(name for name in FAR if ALARM_S <= second < SWAP_S and FAR[name] > 0.65)
        learning = second < 22 or SWAP_S <= second < LEARNED_S
        verdict = "learning" if learning else "alarm" if alarming else "stable"
        if learning:
            ks = {name: value for name, value in ks.items() if name in NAMES[:6]}
        context = "night" if second > DUSK_S + 40 else "daytime"
        points.append(DriftPoint(second, verdict, context, ks, alarming, new if second >= SWAP_S else old))
    return points


def comparison(seed: int) -> Comparison:
    """A simulated night street: the old model finds what is near, the new one most."""
    drawn = render(seed, 10.0, light("night"))
    chance = np.random.default_rng(seed)
    truth = [(box.x1, box.y1, box.x2, box.y2, box.label) for box in drawn.boxes]
    jittered = [
        (*(edge + float(chance.normal(0, 1)) for edge in box[:4]), float(chance.uniform(0.3, 0.95)), box[4])
        for box in truth
    ]
    large = [box for box in jittered if (box[2] - box[0]) * (box[3] - box[1]) > 900]
    after = [box for box in jittered if chance.random() < 0.8]
    encoded = cv2.imencode(".jpg", drawn.image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    return Comparison(f"sim{seed:08d}-night-000010.jpg", encoded, large, after, truth)


def demo_record(folder: Path, **fields: Any) -> DemoRecord:
    """The whole record, its model files in a folder; fields override."""
    folder.mkdir(parents=True, exist_ok=True)
    old, new = model(folder, "day", "1.0.0", 0.612, 0.183), model(folder, "loop", "2", 0.607, 0.391)
    chance = np.random.default_rng(3)
    gaps = [(sequence, float(22 + 4 * chance.random())) for sequence in range(5340, 5461)]
    gaps[60] = (5400, 41.5)
    swap = SwapRecord(SWAP_S, 5399, 5400, 0, 41.5, 180.0, gaps)
    slices = [
        gate_slice("(all)", 0.4, 0.49, 0.06),
        gate_slice("daytime", 0.61, 0.605, -0.015),
        {**gate_slice("dawn/dusk", None, None, None), "too_little": "3 drives, at least 10 are needed"},
        gate_slice("night", 0.18, 0.39, 0.17),
    ]
    gate = {
        "verdict": "pass",
        "targets": ["night"],
        "slices": slices,
        "rules": [
            rule("not worse", "(all)", -0.02, "worse by 0.0000 at most"),
            rule("not worse", "daytime", -0.02, "worse by 0.0150 at most"),
            rule("better", "night", 0.0, "better by 0.1700 at least"),
        ],
    }
    values: dict[str, Any] = {
        "mode": "simulated",
        "baseline": old,
        "candidate": new,
        "gate": gate,
        "night_from_s": DUSK_S,
        "drift": drift(old.sha256, new.sha256),
        "swap": swap,
        "frames": {"captured": 8000, "published": 7998, "stopped": 2},
        "samples": {"shipped": 131, "stored": 131, "labelled": 128, "refused": 3},
        "timings": {
            "set-up": 21.0,
            "drive by day": 14.2,
            "ship": 17.5,
            "label": 2.1,
            "purity": 1.4,
            "train": 251.0,
            "validate": 34.0,
            "deploy": 3.2,
            "drive by night": 40.0,
            "evaluate": 61.0,
        },
        "training": [(2.4 * 0.85**epoch + 0.6, 0.42 * (1 - 0.7**epoch)) for epoch in range(1, 9)],
        "comparisons": [comparison(seed) for seed in (30_001, 30_004)],
        "edge": {"peak_resident_mb": 281.0, "frames_per_s": 41.3},
        "lineage": "vehicle       demo-1\ndrift event   d-17 on demo-1, front: alarm daytime\n"
        "samples       128 of demo-1 of drift event d-17\nmodel         loop 2",
        "machine": "2 cores, 8 GB, no GPU",
    }
    return DemoRecord(**{**values, **fields})


def gate_slice(
    name: str, champion: float | None, challenger: float | None, low: float | None
) -> dict[str, Any]:
    known = champion is not None and challenger is not None and low is not None
    return {
        "name": name,
        "images": 200,
        "drives": 20,
        "boxes": 2400,
        "classes": ["car"],
        "champion": champion,
        "challenger": challenger,
        "difference": challenger - champion if known else None,
        "low": low,
        "high": low + 0.06 if known else None,
        "detectable": 0.02 if known else None,
        "too_little": "",
    }


def rule(name: str, of: str, bound: float, why: str) -> dict[str, Any]:
    return {"rule": name, "slice": of, "bound": bound, "verdict": "pass", "why": why}
