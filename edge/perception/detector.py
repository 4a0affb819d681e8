"""The detector: from a frame to detections, with the time that each stage took."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from edge.errors import TrafficVisionError
from edge.perception import providers
from edge.perception.decode import Candidates, InferenceError, decode_nms_free, decode_raw, require_finite
from edge.perception.engine_cache import device_identity, engines
from edge.perception.letterbox import PAD, Letterbox
from edge.perception.metadata import MAX_DETECTIONS
from edge.perception.model_file import ModelFile, ModelFileError
from edge.perception.nms import suppress
from edge.perception.providers import ProviderError

MAX_THREADS = 1024  # ONNX Runtime starts as many as it is told to, until the memory is gone

__all__ = [
    "Detections",
    "Detector",
    "DetectorOptions",
    "InferenceError",
    "ProviderError",
    "SessionError",
    "StageTimes",
]


class SessionError(InferenceError):
    """The graph could not be run: unlike with a bad picture, the session may be beyond repair."""


class DetectorOptionsError(TrafficVisionError):
    """An option that makes no sense; the message names it."""


@dataclass(frozen=True, slots=True)
class DetectorOptions:
    """How to run a model.

    Attributes:
        providers: execution providers by preference; each must be there.
        threads: that one inference uses on a CPU, up to `MAX_THREADS`; 0 for one per core.
        score_threshold: in place of the model file's own.
        iou_threshold: in place of the model file's own.
        max_detections: in place of the model file's own.
        multi_label: a raw box may count for several classes, as in Ultralytics' validation.
        engine_cache: folder where engines that a provider builds (TensorRT, OpenVINO) are kept, sealed; None:
            each session builds its own.
    """

    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    threads: int = 2
    score_threshold: float | None = None
    iou_threshold: float | None = None
    max_detections: int | None = None
    multi_label: bool = False
    engine_cache: Path | None = None


WARM_RUNS = 2


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Duration of each stage of one detection, ns."""

    preprocess: int
    inference: int
    postprocess: int


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What a model found on one frame.

    Attributes:
        boxes: `float32[N, 6]` x1, y1, x2, y2 in pixels of the frame, score, class; by falling score.
        model_digest: SHA-256 of the model file that found them.
        stage_ns: how long it took.
        embedding: `float32[k]`, what the model makes of the picture as a whole; None: it gives none.
    """

    boxes: npt.NDArray[np.float32]
    model_digest: str
    stage_ns: StageTimes
    embedding: npt.NDArray[np.float32] | None = None


class Detector:
    """A model file, loaded and warm. For one thread at a time: its input buffer is reused."""

    def __init__(self, model: ModelFile, options: DetectorOptions | None = None) -> None:
        """Load the model's bytes and run it, so that what cannot run fails here.

        Raises:
            DetectorOptionsError: an option out of range.
            ProviderError: an execution provider is not there or did not start.
            ModelFileError: ONNX Runtime cannot load the graph.
            InferenceError: the first run failed, or gave another shape than the model declares.
        """
        options = options or DetectorOptions()
        metadata = model.metadata
        self.model = model
        self.options = options
        self.class_names = metadata.class_names
        self.score_threshold = _in_range(
            "score_threshold", options.score_threshold, metadata.score_threshold, 0.0, 1.0
        )
        self.iou_threshold = _in_range(
            "iou_threshold", options.iou_threshold, metadata.iou_threshold, 0.0, 1.0
        )
        self.max_detections = int(
            _in_range("max_detections", options.max_detections, metadata.max_detections, 1, MAX_DETECTIONS)
        )
        self._session = _session(model, options)
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = 4  # the exception says it too
        self._input_name = self._session.get_inputs()[0].name
        self._input = np.full((1, *model.input_hw, 3), PAD, np.uint8)
        # ONNX Runtime learns its pattern of memory in the first run, and takes that memory in the second.
        for _ in range(WARM_RUNS):
            self._run()

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """Find objects on one frame.

        Args:
            image: `uint8[H, W, 3]`, BGR, of any size.

        Raises:
            InferenceError: the image is no such array, or the model gave what makes no sense.
            SessionError: the run failed.
        """
        started = time.perf_counter_ns()
        letterbox = self._fill(image)
        filled = time.perf_counter_ns()
        output, embedding = self._run()
        inferred = time.perf_counter_ns()
        boxes = self._boxes(output, letterbox)
        done = time.perf_counter_ns()
        times = StageTimes(filled - started, inferred - filled, done - inferred)
        return Detections(boxes, self.model.digest, times, embedding)

    def raw_output(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The graph's own detections of one frame, in the file's layout, for checks of the model itself.

        Raises:
            InferenceError: the image is no `uint8[H, W, 3]`, or the run failed.
        """
        self._fill(image)
        return self._run()[0]

    def decode(self, output: npt.NDArray[np.float32], image_hw: tuple[int, int]) -> npt.NDArray[np.float32]:
        """Read boxes out of a `raw_output`, by this detector's thresholds: several may read one run's.

        Args:
            output: of this model, from any detector of it.
            image_hw: height and width of the picture, pixels.

        Returns:
            As `Detections.boxes`.

        Raises:
            InferenceError: the model gave what makes no sense.
        """
        return self._boxes(output, Letterbox.between(image_hw, self.model.input_hw))

    def _fill(self, image: npt.NDArray[np.uint8]) -> Letterbox:
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
            raise InferenceError(f"the picture is {kind}, expected uint8[H, W, 3] BGR")
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise InferenceError(f"the picture is uint8{list(image.shape)}, expected uint8[H, W, 3] BGR")
        letterbox = Letterbox.between(image.shape[:2], self.model.input_hw)
        letterbox.apply(image, self._input[0])
        return letterbox

    def _run(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """The detections as the graph gives them, and the embedding of a model that has one."""
        try:
            outputs = self._session.run(None, {self._input_name: self._input}, self._run_options)
        except Exception as error:
            raise SessionError(f"{_origin(self.model)}: inference failed: {_one_line(error)}") from error
        output: npt.NDArray[np.float32] = outputs[0]
        if output.shape != self.model.output_shape:  # a graph's shapes may depend on the picture
            given, declared = list(output.shape), list(self.model.output_shape)
            raise InferenceError(f"{_origin(self.model)}: the graph gives {given}, it declares {declared}")
        return output, self._embedding(outputs)

    def _embedding(self, outputs: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32] | None:
        spec = self.model.metadata.embedding
        if spec is None:
            return None
        embedding: npt.NDArray[np.float32] = outputs[1]
        if embedding.shape != (1, spec.size):
            raise InferenceError(
                f"{_origin(self.model)}: the graph gives an embedding {list(embedding.shape)},"
                f" it declares {[1, spec.size]}"
            )
        require_finite(embedding, "an embedding with numbers")
        found: npt.NDArray[np.float32] = embedding[0]
        return found

    def _boxes(self, output: npt.NDArray[np.float32], letterbox: Letterbox) -> npt.NDArray[np.float32]:
        if self.model.metadata.layout == "raw":
            found = decode_raw(output, self.score_threshold, self.options.multi_label)
            kept = suppress(found.xyxy, found.scores, found.classes, self.iou_threshold, self.max_detections)
        else:
            found = decode_nms_free(output, self.score_threshold, len(self.class_names))
            kept = np.argsort(-found.scores, kind="stable")[: self.max_detections]
        return _rows(found, kept, letterbox)


def _rows(found: Candidates, kept: npt.NDArray[np.int64], letterbox: Letterbox) -> npt.NDArray[np.float32]:
    rows = np.empty((len(kept), 6), np.float32)
    rows[:, :4] = letterbox.boxes_to_frame(found.xyxy[kept])
    rows[:, 4] = found.scores[kept]
    rows[:, 5] = found.classes[kept]
    # A box that lies wholly in the padding has nothing of the frame in it.
    return rows[(rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1])]


def _session(model: ModelFile, options: DetectorOptions) -> Any:
    if not 0 <= options.threads <= MAX_THREADS:
        raise DetectorOptionsError(
            f"threads is {options.threads}, expected 0 (one per core) to {MAX_THREADS}"
        )
    names = providers.resolve(options.providers)
    if options.engine_cache is None or not providers.builds_engines(names):
        return _session_with(model, options, names, None)
    precision = model.metadata.precision
    plain = providers.with_options(names, threads=options.threads, precision=precision, cache=None)
    made_of = {
        "model": model.digest,
        "providers": plain,
        "onnxruntime": onnxruntime.__version__,
        "machine": platform.machine(),
        "device": device_identity(),
    }
    with engines(options.engine_cache, made_of) as cache:
        kept = [] if cache is None else list(cache.iterdir())
        try:
            return _session_with(model, options, names, cache)
        except ModelFileError:
            if not kept:
                raise
            # TensorRT refuses an engine of another release of itself, and does not build in its place.
            for path in kept:
                path.unlink(missing_ok=True)
            return _session_with(model, options, names, cache)


def _session_with(
    model: ModelFile, options: DetectorOptions, names: tuple[str, ...], cache: Path | None
) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Spinning between frames burns most of a core and makes the tail worse under load.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.log_severity_level = 3  # errors only
    paired = providers.with_options(
        names, threads=options.threads, precision=model.metadata.precision, cache=cache
    )
    try:
        session = onnxruntime.InferenceSession(model.data, settings, providers=paired, enable_fallback=0)
    except Exception as error:
        raise ModelFileError(
            f"{_origin(model)}: ONNX Runtime {onnxruntime.__version__} cannot load it on"
            f" {', '.join(names)}: {_one_line(error)}"
        ) from error
    providers.require_started(names, session)
    return session


def _in_range(name: str, given: float | None, own: float, least: float, most: float) -> float:
    value = own if given is None else given
    if not least <= value <= most:
        raise DetectorOptionsError(f"{name} is {value:g}, expected {least:g} to {most:g}")
    return value


def _origin(model: ModelFile) -> str:
    return str(model.path) if model.path else f"model {model.metadata.name} {model.metadata.version}"


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}..."
