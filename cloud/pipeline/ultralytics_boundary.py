"""The one place that imports Ultralytics: offline unless asked, nothing sent home or installed."""

from __future__ import annotations

import importlib.machinery
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from edge.errors import TrafficVisionError


class MissingCloudExtraError(TrafficVisionError):
    """Something needs Ultralytics and it is not installed."""


def state_folder() -> Path:
    """Return the folder for what libraries keep between runs (`XDG_STATE_HOME`, else `~/.local/state`)."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(base) / "traffic-vision"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def import_ultralytics(*, online: bool = False) -> Any:
    """Import Ultralytics with its telemetry, self-installation and self-chosen folders off.

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
        import ultralytics
    except ImportError as error:
        raise MissingCloudExtraError(
            f"this needs Ultralytics, which could not be imported ({error}): "
            "install the cloud extra, pip install 'traffic-vision[cloud]'"
        ) from error
    _ensure_torchvision()
    ultralytics.settings.update({"sync": False, "mlflow": False, "tensorboard": False, "wandb": False})
    return ultralytics


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
