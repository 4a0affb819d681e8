"""`model import`: from the file that someone has, export or checkpoint, to a model file on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cloud.datasets.files import write_file
from cloud.release.assembly import Assembled, AssemblyError, AssemblyOptions, assemble, content_version
from cloud.release.checkpoint import export_checkpoint
from edge.errors import TrafficVisionError


def import_model(raw: Path, output: Path, pictures: Sequence[bytes], options: AssemblyOptions) -> Assembled:
    """Make a model file and write it whole, or write nothing.

    Args:
        raw: an Ultralytics export (`.onnx`) or checkpoint (`.pt`).
        output: where the model file goes; its folder is made.
        pictures: for the golden frames, encoded.
        options: what the file does not say itself.

    Raises:
        AssemblyError: the model is refused.
        FileError: the model file cannot be written.
        TrafficVisionError: the file is refused; Ultralytics is not installed (for a `.pt`).
    """
    if output.is_dir():
        raise AssemblyError(f"{output}: a folder, expected the model file to write")
    if raw.suffix.lower() == ".pt":
        with tempfile.TemporaryDirectory(prefix="traffic-vision-") as folder:
            export = export_checkpoint(raw, Path(folder), options.imgsz)
            # An export notes the time it was made, so its own hash would name no version twice.
            version = options.version or content_version(raw)
            try:
                assembled = assemble(export, pictures, replace(options, imgsz=None, version=version))
            except TrafficVisionError as error:  # it names a file that will be gone
                raise AssemblyError(str(error).replace(str(export), str(raw))) from error
    else:
        assembled = assemble(raw, pictures, options)
    write_file(output, assembled.model.data)
    return assembled
