"""A model file computes what its checkpoint does, for each of the architectures; what does not is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.pipeline import parity
from cloud.pipeline.parity import ParityError, check_parity, compare
from cloud.pipeline.ultralytics_boundary import WeightsError, architecture_of, import_ultralytics
from cloud.release.assembly import AssemblyOptions, assemble
from cloud.release.checkpoint import export_checkpoint
from edge.perception.model_file import ModelFile
from tests.extras import needs_ultralytics
from tests.retrains import HW, red_picture
from tests.sure_nets import sure_checkpoint

PICTURES = [red_picture(1), red_picture(2)]


def model_of(checkpoint: Path, folder: Path) -> ModelFile:
    folder.mkdir()
    return assemble(export_checkpoint(checkpoint, folder, HW), PICTURES, AssemblyOptions(version="1")).model


@needs_ultralytics
@pytest.mark.parametrize(
    "architecture",
    [
        "yolov8n",
        pytest.param("yolo11n", marks=pytest.mark.services),
        pytest.param("yolo26n", marks=pytest.mark.services),
    ],
)
def test_file_and_checkpoint_agree(tmp_path: Path, architecture: str) -> None:
    checkpoint = sure_checkpoint(tmp_path / "start.pt", architecture)
    assert architecture_of(checkpoint) == architecture
    model = model_of(checkpoint, tmp_path / "export")
    found = check_parity(checkpoint, model, PICTURES)
    assert found.pictures == 2 and found.score <= parity.MAX_SCORE and found.box_px <= parity.MAX_BOX_PX


@pytest.mark.services
@needs_ultralytics
def test_a_file_without_suppression_is_held_against_the_head_that_it_has(tmp_path: Path) -> None:
    checkpoint = sure_checkpoint(tmp_path / "start.pt", "yolo26n", sure=0.0)
    net = import_ultralytics().YOLO(str(checkpoint))
    raw = net.export(format="onnx", imgsz=list(HW), simplify=False, batch=1, device="cpu", nms=False)
    model = assemble(Path(raw), PICTURES, AssemblyOptions(version="1")).model
    assert model.metadata.layout == "nms_free"
    assert check_parity(checkpoint, model, PICTURES).pictures == 2


@needs_ultralytics
def test_another_checkpoints_file_is_refused(tmp_path: Path) -> None:
    model = model_of(sure_checkpoint(tmp_path / "one.pt", seed=1, sure=0.0), tmp_path / "export")
    other = sure_checkpoint(tmp_path / "other.pt", seed=2, sure=0.0)
    with pytest.raises(ParityError, match="does not compute what its checkpoint does: scores differ by"):
        check_parity(other, model, PICTURES)


@needs_ultralytics
def test_what_is_no_checkpoint_has_no_architecture(tmp_path: Path) -> None:
    (tmp_path / "none.pt").write_bytes(b"no pickle")
    with pytest.raises(WeightsError, match="no checkpoint of a detector"):
        architecture_of(tmp_path / "none.pt")


def rows(count: int, seed: int) -> npt.NDArray[np.float32]:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 50, (count, 2))
    sizes = random.uniform(1, 40, (count, 2))
    scores, classes = random.uniform(0, 1, count), random.integers(0, 3, count)
    return np.column_stack([corners, corners + sizes, scores, classes]).astype(np.float32)


@given(st.integers(1, 60), st.integers(0, 9), st.permutations(range(8)))
def test_the_order_of_rows_does_not_matter(count: int, seed: int, order: list[int]) -> None:
    given_rows = rows(count, seed)
    shuffled = given_rows[np.argsort(np.resize(order, count), kind="stable")]
    assert compare("nms_free", given_rows, shuffled) == (0.0, 0.0)


@given(st.integers(2, 60), st.integers(0, 9), st.floats(1, 20))
def test_a_row_that_has_moved_or_is_missing_shows(count: int, seed: int, far: float) -> None:
    given_rows = rows(count, seed)
    given_rows[:, 4] = np.linspace(0.9, 0.1, count, dtype=np.float32)  # none as weak as the weakest
    strongest = 0
    moved = given_rows.copy()
    moved[strongest, :4] += np.float32(far)
    score, box_px = compare("nms_free", given_rows, moved)
    assert box_px > 0 or score > 0
    missing = np.delete(given_rows, strongest, axis=0)
    score, box_px = compare("nms_free", given_rows, missing)
    assert score > 0 or box_px > 0
