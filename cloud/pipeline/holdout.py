"""The pictures that the gate judges by: of drives that no training sees."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from cloud.config import GateConfig
from cloud.datasets import LabeledImage, read_dataset


def read_holdout(gate: GateConfig, own: Path | None = None) -> list[LabeledImage]:
    """Read the configured holdout, and a dataset's own side `test` with it.

    Args:
        gate: names the holdout.
        own: a `.txt` list of a dataset's pictures.

    Raises:
        DatasetError: one cannot be read.
    """
    paths = [*gate.holdout, *([own] if own is not None and own.is_file() else [])]
    return [image for path in paths for image in read_dataset(path).images]


def holdout_drives(gate: GateConfig) -> frozenset[str]:
    """Name the drives of the configured holdout: they must never be trained on."""
    return frozenset(image.drive for image in read_holdout(gate))


def unseen(
    images: Collection[LabeledImage], trained_on: Collection[str]
) -> tuple[list[LabeledImage], list[LabeledImage]]:
    """Part pictures into those of drives that no training saw, and the others."""
    fresh = [image for image in images if image.drive not in trained_on]
    return fresh, [image for image in images if image.drive in trained_on]
