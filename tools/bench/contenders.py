"""What the detector is measured against: its floor, a plain loop, and peers on the same weights.

Each takes a 1280x720 picture and ends with boxes above the threshold in the picture's pixels, but for the
floors, which are bare runs of the graph on inputs that are ready.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime

from edge.perception.model_file import ModelFile

Picture = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]
# From a picture to the number of boxes found.
Finder = Callable[[Picture], int]


@dataclass(frozen=True, slots=True)
class Task:
    """What all contenders do alike.

    Attributes:
        input_hw: the model's input, pixels.
        layout: of the output: raw or nms_free.
        score_threshold: detections must score above it.
        iou_threshold: of the suppression.
        threads: of one inference.
    """

    input_hw: tuple[int, int]
    layout: str
    score_threshold: float
    iou_threshold: float
    threads: int


class UnavailableError(Exception):
    """A peer cannot take part; the text says why."""


def session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    """A session with the settings that the detector's has, so that only the path around it differs."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])


def letterboxed(picture: Picture, input_hw: tuple[int, int]) -> tuple[Picture, float, int, int]:
    """The picture scaled into the input with grey around it; scale, left and top padding."""
    height, width = picture.shape[:2]
    scale = min(input_hw[0] / height, input_hw[1] / width)
    inside = (round(width * scale), round(height * scale))
    left, top = (input_hw[1] - inside[0]) // 2, (input_hw[0] - inside[1]) // 2
    resized = cv2.resize(picture, inside, interpolation=cv2.INTER_LINEAR)
    right, bottom = input_hw[1] - inside[0] - left, input_hw[0] - inside[1] - top
    padded = cv2.copyMakeBorder(resized, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
    return padded.astype(np.uint8, copy=False), scale, left, top


def planes(picture: Picture) -> FloatArray:
    """`float32[1, 3, H, W]`, RGB in 0..1, as a raw export takes it."""
    blob: FloatArray = cv2.dnn.blobFromImage(picture, 1 / 255.0, swapRB=True).astype(np.float32, copy=False)
    return blob


def boxes(output: FloatArray, task: Task, scale: float, left: int, top: int) -> FloatArray:
    """Decode an output as examples on the web do: threshold, OpenCV's suppression, back to the picture."""
    if task.layout == "nms_free":
        rows = output[0]
        rows = rows[rows[:, 4] > task.score_threshold]
        corners, scores, classes = rows[:, :4], rows[:, 4], rows[:, 5]
    else:
        columns = output[0].T
        best = columns[:, 4:].max(axis=1)
        columns, scores = columns[best > task.score_threshold], best[best > task.score_threshold]
        classes = columns[:, 4:].argmax(axis=1).astype(np.float32)
        centre, half = columns[:, :2], columns[:, 2:4] / 2
        corners = np.concatenate([centre - half, centre + half], axis=1)
        sized = np.concatenate([corners[:, :2], columns[:, 2:4]], axis=1)
        kept = np.asarray(
            cv2.dnn.NMSBoxesBatched(
                sized.tolist(),
                scores.tolist(),
                classes.astype(int).tolist(),
                task.score_threshold,
                task.iou_threshold,
            ),
            int,
        ).reshape(-1)
        corners, scores, classes = corners[kept], scores[kept], classes[kept]
    moved = (corners - np.array([left, top, left, top], np.float32)) / scale
    return np.concatenate([moved, scores[:, None], classes[:, None]], axis=1).astype(np.float32)


def floor(model: bytes, inputs: Sequence[npt.NDArray[Any]], threads: int) -> Callable[[int], object]:
    """A bare `session.run` on inputs that are ready, one a round."""
    running = session(model, threads)
    name = running.get_inputs()[0].name
    return lambda number: running.run(None, {name: inputs[number % len(inputs)]})


def plain_loop(model: ModelFile, task: Task) -> Finder:
    """A loop of OpenCV and ONNX Runtime around the model file."""
    running = session(model.data, task.threads)
    name = running.get_inputs()[0].name

    def run(picture: Picture) -> int:
        padded, scale, left, top = letterboxed(picture, task.input_hw)
        output = running.run(None, {name: padded[None]})[0]
        return len(boxes(output, task, scale, left, top))

    return run


def plain_raw_loop(raw: Path, task: Task) -> Finder:
    """A loop of OpenCV and ONNX Runtime around the raw export, as examples on the web have it."""
    running = session(raw.read_bytes(), task.threads)
    name = running.get_inputs()[0].name

    def run(picture: Picture) -> int:
        padded, scale, left, top = letterboxed(picture, task.input_hw)
        output = running.run(None, {name: planes(padded)})[0]
        return len(boxes(output, task, scale, left, top))

    return run


def opencv_dnn(raw: Path, task: Task) -> Finder:
    """OpenCV's own inference."""
    try:
        network = cv2.dnn.readNetFromONNX(str(raw))
    except cv2.error as error:
        raise UnavailableError(f"OpenCV {cv2.__version__} cannot load this export: {_short(error)}") from None

    def run(picture: Picture) -> int:
        padded, scale, left, top = letterboxed(picture, task.input_hw)
        network.setInput(planes(padded))
        output = np.asarray(network.forward(), np.float32)
        return len(boxes(output, task, scale, left, top))

    return run


def openvino_f32(raw: Path, task: Task) -> Finder:
    """OpenVINO, told to compute in float32 (its own default on a CPU may be bfloat16)."""
    try:
        openvino = importlib.import_module("openvino")
    except ImportError:
        raise UnavailableError("not installed (pip install openvino)") from None
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": task.threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        request = openvino.Core().compile_model(str(raw), "CPU", settings).create_infer_request()
    except RuntimeError as error:
        raise UnavailableError(f"OpenVINO {openvino.__version__} cannot load it: {_short(error)}") from None

    def run(picture: Picture) -> int:
        padded, scale, left, top = letterboxed(picture, task.input_hw)
        request.infer({0: planes(padded)})
        output = np.asarray(request.get_output_tensor(0).data, np.float32)
        return len(boxes(output, task, scale, left, top))

    return run


def ultralytics(raw: Path, task: Task) -> Finder:
    """Ultralytics' `predict` on the raw export, with ONNX Runtime as it sets it up itself."""
    from cloud.pipeline.ultralytics_boundary import MissingCloudExtraError, import_ultralytics

    try:
        package = import_ultralytics()
    except MissingCloudExtraError:
        raise UnavailableError("not installed (pip install 'traffic-vision[cloud]')") from None
    model = package.YOLO(str(raw), task="detect")
    settings = {
        "imgsz": list(task.input_hw),
        "conf": task.score_threshold,
        "iou": task.iou_threshold,
        "device": "cpu",
        "verbose": False,
    }
    return lambda picture: len(model.predict(picture, **settings)[0].boxes)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
