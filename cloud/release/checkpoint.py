"""From an Ultralytics checkpoint (`.pt`) to its raw export."""

from __future__ import annotations

import shutil
from pathlib import Path

from cloud.pipeline.ultralytics_boundary import import_ultralytics
from edge.errors import TrafficVisionError
from edge.perception.model_file import MAX_INPUT_SIDE, STRIDE


class CheckpointError(TrafficVisionError):
    """The checkpoint cannot be exported; the message says why not."""


def export_checkpoint(checkpoint: Path, folder: Path, imgsz: tuple[int, int] | None = None) -> Path:
    """Export a detector's checkpoint to ONNX.

    A checkpoint is a Python pickle: reading one runs what is in it, so only give those of known origin.

    Args:
        checkpoint: the `.pt` file.
        folder: where the export is written; what is there under its name is replaced.
        imgsz: height and width of the input, pixels; the checkpoint's training size unless given.

    Returns:
        The export's path.

    Raises:
        CheckpointError: it is missing, no checkpoint of a detector, or cannot be exported.
        TrafficVisionError: Ultralytics is not installed.
    """
    if not checkpoint.is_file():
        raise CheckpointError(f"{checkpoint}: no such file")
    if imgsz and any(side % STRIDE or not 0 < side <= MAX_INPUT_SIDE for side in imgsz):
        # Ultralytics would round it to another size, or export for as long as the memory lasts.
        raise CheckpointError(
            f"input of {imgsz[0]}x{imgsz[1]}, expected multiples of {STRIDE} up to {MAX_INPUT_SIDE}"
        )
    ultralytics = import_ultralytics()
    # It exports beside the checkpoint; that folder may not be ours to write to.
    copy = folder / f"{checkpoint.stem}.pt"
    shutil.copyfile(checkpoint, copy)
    try:
        model = ultralytics.YOLO(str(copy))
        if model.task != "detect":
            raise CheckpointError(f"{checkpoint}: a checkpoint for task '{model.task}', expected 'detect'")
        size = list(imgsz) if imgsz else model.overrides.get("imgsz", 640)
        exported = model.export(format="onnx", imgsz=size, simplify=False, batch=1, device="cpu")
    except CheckpointError:
        raise
    except Exception as error:  # boundary: unpickling and exporting fail in ways without a root
        text = " ".join(str(error).split()).replace(str(copy), checkpoint.name)[:300]
        raise CheckpointError(f"{checkpoint}: cannot be exported: {type(error).__name__}: {text}") from error
    finally:
        copy.unlink(missing_ok=True)
    return Path(exported)
