"""What the tests of imports share: a picture that the rectangle finder knows, files, refusals."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from cloud.release.assembly import AssemblyOptions, wrap
from edge.errors import TrafficVisionError
from tests import models_factory as factory

HW = (64, 96)
SHOWN = factory.picture(HW, (16, 8, 48, 32, "red"), (56, 40, 88, 56, "blue"))
PICTURE = factory.jpeg(SHOWN)


def save(folder: Path, model: onnx.ModelProto, name: str = "raw.onnx") -> Path:
    """Write an ONNX model as a file."""
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def refusal(path, pictures=(PICTURE,), **options) -> str:
    with pytest.raises(TrafficVisionError) as refused:
        wrap(path, pictures, AssemblyOptions(**options))
    message = str(refused.value)
    assert "\n" not in message
    return message
