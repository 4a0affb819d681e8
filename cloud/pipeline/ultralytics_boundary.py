"""The one place that imports Ultralytics: offline unless asked, nothing sent home or installed."""

from __future__ import annotations

import importlib.machinery
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from cloud.datasets.files import write_file
from edge.errors import TrafficVisionError


class MissingCloudExtraError(TrafficVisionError):
    """Something needs Ultralytics and it is not installed."""


class WeightsError(TrafficVisionError):
    """A checkpoint is not there and cannot be fetched."""


def state_folder() -> Path:
    """Return the folder for what libraries keep between runs (`XDG_STATE_HOME`, else `~/.local/state`)."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(base) / "traffic-vision"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def import_ultralytics(*, online: bool = False) -> Any:
    """Import Ultralytics with its telemetry, self-installation and self-chosen folders off.

    What it replaces and sets in Pillow, OpenCV and NumPy for the whole process is put back.

    Args:
        online: let it download its own published weights when they are asked for by name.

    Returns:
        The `ultralytics` module.

    Raises:
        MissingCloudExtraError: it is not installed.
    """
    os.environ.setdefault("YOLO_OFFLINE", "false" if online else "true")
    os.environ["YOLO_AUTOINSTALL"] = "false"
    config = state_folder() / "ultralytics"
    config.mkdir(exist_ok=True)
    os.environ.setdefault("YOLO_CONFIG_DIR", str(config))
    os.environ.setdefault("YOLO_VERBOSE", "false")
    try:
        with _libraries_kept():
            import ultralytics
    except ImportError as error:
        raise MissingCloudExtraError(
            f"this needs Ultralytics, which could not be imported ({error}): "
            "install the cloud extra, pip install 'traffic-vision[cloud]'"
        ) from error
    _ensure_torchvision()
    ultralytics.settings.update({"sync": False, "mlflow": False, "tensorboard": False, "wandb": False})
    return ultralytics


def trainer_that_tells(failed: Callable[[BaseException], None]) -> type:
    """Give Ultralytics' trainer of detectors, which tells what it fails of before it fails.

    No callback of Ultralytics' is told of a failure, and of the processes of several GPUs only the exit code
    comes back.

    Args:
        failed: is told. With several GPUs in their processes, so that it must be one that can be pickled.
    """
    import_ultralytics()
    from ultralytics.models.yolo.detect import DetectionTrainer

    # In here it goes to those processes by value, as Ultralytics pickles it.
    class TellingTrainer(DetectionTrainer):  # type: ignore[misc]  # its library is not read for types
        def _do_train(self) -> None:
            import_ultralytics()  # a process of several GPUs has not come by here
            try:
                super()._do_train()
            except RuntimeError as error:
                failed(error)
                raise

    return TellingTrainer


@contextmanager
def reading_checkpoint(checkpoint: Path, otherwise: str) -> Iterator[None]:
    """Unpickle within: that fails in ways without a root.

    Args:
        checkpoint: the file.
        otherwise: what it is where it cannot be read.

    Raises:
        WeightsError: it cannot.
    """
    try:
        yield
    except Exception as error:  # boundary: see above
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{checkpoint}: {otherwise} ({type(error).__name__}: {reason})") from error


def architecture_of(checkpoint: Path) -> str:
    """Name the architecture of a checkpoint, such as `yolov8n`.

    Args:
        checkpoint: is unpickled, so it must be one's own, or Ultralytics'.

    Raises:
        WeightsError: it is no checkpoint of a detector.
    """
    import_ultralytics()
    import torch

    with reading_checkpoint(checkpoint, "no checkpoint of a detector"):
        contents = torch.load(checkpoint, map_location="cpu", weights_only=False)
        net = contents.get("ema") or contents["model"]
        return Path(str(net.yaml["yaml_file"])).stem


def find_weights(weights: str) -> Path:
    """Find a checkpoint; the name of one that Ultralytics publishes is downloaded once, and kept.

    Args:
        weights: a file, or a name such as `yolov8n.pt`.

    Raises:
        WeightsError: there is no such file, and it could not be downloaded.
        MissingCloudExtraError: Ultralytics is not installed.
    """
    if Path(weights).is_file():
        return Path(weights)
    if Path(weights).name != weights:
        raise WeightsError(f"{weights}: there is no such checkpoint")
    kept = state_folder() / "weights" / weights
    if kept.is_file():
        return kept
    import_ultralytics(online=True)
    from ultralytics.utils.downloads import attempt_download_asset

    kept.parent.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=kept.parent) as folder:
        # It writes in place: killed on the way, it would leave half a file under the name.
        part = Path(folder) / weights
        try:
            attempt_download_asset(str(part))
        except Exception as error:  # boundary: it raises whatever the network and its own checks raise
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(
                f"{weights}: not here, and could not be downloaded ({reason}); give a checkpoint's file"
            ) from error
        if not part.is_file():
            raise WeightsError(f"{weights}: neither a file nor weights that Ultralytics publishes")
        write_file(kept, part.read_bytes())
    return kept


@contextmanager
def _libraries_kept() -> Iterator[None]:
    """Undo what the import does to libraries that the rest of the process uses too.

    Its `Image.open` raises ModuleNotFoundError on a broken picture, for want of a package that it would
    install; its `cv2.imread` takes other files than OpenCV's; one thread for OpenCV is its own need.
    """
    import cv2
    import numpy
    from PIL import Image

    kept = [(Image, "open"), (cv2, "imread"), (cv2, "imwrite"), (cv2, "imshow")]
    originals = [(module, name, getattr(module, name)) for module, name in kept]
    threads, printing = cv2.getNumThreads(), numpy.get_printoptions()
    try:
        yield
    finally:
        for module, name, original in originals:
            setattr(module, name, original)
        cv2.setNumThreads(threads)
        numpy.set_printoptions(**printing)


def _ensure_torchvision() -> None:
    """Put a stand-in where a CPU build of torch and a CUDA build of torchvision cannot be imported together.

    Ultralytics' validator imports torchvision for one function, non-maximum suppression; its own
    pure-torch version of it serves. A matched pair of wheels is used as it is.
    """
    if "torchvision" in sys.modules:
        return
    try:
        import torchvision  # noqa: F401  (whether it can be imported is the question)
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        from ultralytics.utils.nms import TorchNMS

        package, ops = ModuleType("torchvision"), ModuleType("torchvision.ops")
        for module in (package, ops):
            module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
        ops.__dict__["nms"] = TorchNMS.nms
        package.__dict__["ops"] = ops
        package.__dict__["__version__"] = "0.0"
        sys.modules["torchvision"], sys.modules["torchvision.ops"] = package, ops
