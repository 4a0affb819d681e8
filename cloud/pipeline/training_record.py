"""What a training was made of, so that it can be made again: kept with its candidate."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cloud.config import TrainingConfig
from cloud.pipeline.training import TrainingPlan

RECORD = "training"  # in a candidate's facts
_PACKAGES = ("torch", "torchvision", "ultralytics", "numpy", "onnx", "onnxruntime", "opencv-python", "pillow")


def plan_of(config: TrainingConfig, start: Path, data: Path, work: Path, name: str) -> TrainingPlan:
    """Make the plan of a training.

    Args:
        config: how to train.
        start: the checkpoint to go on from.
        data: the dataset's folder.
        work: folder for runs.
        name: of the run.
    """
    return TrainingPlan(
        start=str(start),
        data=data / "data.yaml",
        work=work,
        name=name,
        imgsz=config.imgsz,
        epochs=config.epochs,
        batch=config.batch,
        seed=config.seed,
        threads=config.threads,
        device=config.device,
        learning_rate=config.learning_rate,
        rectangular=config.rectangular,
        step_images=config.step_images,
        warmup_epochs=config.warmup_epochs,
        keep=config.keep,
        patience=config.patience,
    )


def environment() -> dict[str, str]:
    """Give the releases of what computes, and what machine it is."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "processor": _processor()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Say where two environments differ, for people."""
    return [
        f"{name} was {then.get(name) or 'unknown'}, is {now.get(name) or 'unknown'}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]


def _processor() -> str:
    """Name the processor: its instructions choose the order in which torch adds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
