"""Untrained detectors that are sure of what they see: bad, but sound, and made in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cloud.pipeline.ultralytics_boundary import import_ultralytics
from tests.models_factory import NAMES

SURE = 4.0  # as a logit; stays sure over two epochs


def sure_checkpoint(path: Path, architecture: str = "yolov8n", seed: int = 0, sure: float = SURE) -> Path:
    """A checkpoint of an architecture: boxes reach about a cell to each side, scores are about `sure`."""
    import_ultralytics()
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(seed)
    net = DetectionModel(f"{architecture}.yaml", nc=len(NAMES), verbose=False)
    net.names = dict(enumerate(NAMES))
    head = net.model[-1]
    for prefix in ("", "one2one_"):
        if hasattr(head, f"{prefix}cv2"):
            heads = getattr(head, f"{prefix}cv2"), getattr(head, f"{prefix}cv3")
            _make_sure(torch, *heads, head.reg_max, sure)
    _see_something(torch, net)
    net.args = {"imgsz": 64, "task": "detect"}
    torch.save({"model": net, "train_args": {}}, path)
    return path


def _see_something(torch: Any, net: Any) -> None:
    """Let the layers' norms learn what comes to them, or nothing of a picture reaches the end."""
    norms = [layer for layer in net.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    momentum = norms[0].momentum
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all that it sees
    net.train()
    with torch.no_grad():
        net(torch.rand(4, 3, 64, 96))
    for norm in norms:
        norm.momentum = momentum
    net.eval()


def _make_sure(torch: Any, boxes: Any, scores: Any, reg_max: int, sure: float) -> None:
    for layer in boxes:
        torch.nn.init.zeros_(layer[-1].weight)
        torch.nn.init.zeros_(layer[-1].bias)
        if reg_max > 1:  # a distribution over distances: one cell
            layer[-1].bias.data.view(4, -1)[:, 1] = 10.0
        else:
            layer[-1].bias.data[:] = 1.0
    for layer in scores:
        torch.nn.init.constant_(layer[-1].bias, sure)
