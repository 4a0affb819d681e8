"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models_factory import rectangles_model
from tools.drift.fitting import fit_sources
from tools.drift.replay import load_detector

SIZE = "128x72"  # of the simulated drives: small, so that they are fast


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """How daylight on small simulated drives looks to a model that finds nothing there."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "model.onnx").write_bytes(rectangles_model(version="1"))
    drives = [f"sim:{seed}?seconds=40&rate=2&size={SIZE}" for seed in range(900, 912)]
    detector = load_detector(folder / "model.onnx", ("cpu",), 1)
    made = fit_sources(drives, detector, contexts=["daytime"] * len(drives), target_hours=24)
    made.reference.save(folder / "day.json")
    return folder / "day.json"
