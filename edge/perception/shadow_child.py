"""The child process in which a candidate runs in shadow: frames in, one line of JSON about each out.

It holds the candidate's session, and everything that is heavy about comparing: nothing of it is done in the
daemon. It ends when its standard input does, when the thread that started it does (`edge.frames.lifeline`),
or when it is killed.

    descriptor MODEL    JSON line of the options, then the model file's bytes
    descriptor FRAME    the latest frame's pixels
    standard input      a JSON line a frame: whose, when, how large, whether the vehicle moved, and what the
                        active model found on it
    standard output     a JSON line when it is ready, or why it is not; then one a frame: how far the two
                        models agree, how long it took, the drift features, and now and then a drift state
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import sys
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.drift.features import extract, fleet_prior
from edge.drift.monitor import DriftMonitor
from edge.drift.reference import DriftReferenceError, Reference
from edge.errors import TrafficVisionError
from edge.messages import drift_state, model_ref_of
from edge.perception.agreement import compare
from edge.perception.detector import Detector, DetectorOptions, InferenceError
from edge.perception.golden import verify
from edge.perception.model_file import ModelFile, parse_model_file
from edge.perception.providers import ProviderError
from protos.traffic_vision.v1 import common_pb2


def main() -> None:
    """Run until the frames end."""
    model_fd, frame_fd, memory_bytes = (int(argument) for argument in sys.argv[1:4])
    # What is beyond it is refused by malloc; the parent watches what is resident.
    resource.setrlimit(resource.RLIMIT_DATA, (2 * memory_bytes, 2 * memory_bytes))
    with suppress(OSError):  # should memory run out all the same, this process is the one to go
        Path("/proc/self/oom_score_adj").write_text("1000")
    # Libraries may print: what they say goes where errors go.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(document: dict[str, Any]) -> None:
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    try:
        seat = _open(model_fd)
    except TrafficVisionError as error:
        answer({"refused": str(error), "is_final": not isinstance(error, ProviderError)})
        return
    answer({"ready": True})
    for line in sys.stdin.buffer:
        answer(seat.look(json.loads(line), frame_fd))


def _open(model_fd: int) -> _Candidate:
    with os.fdopen(model_fd, "rb") as file:
        file.seek(0)
        asked = json.loads(file.readline())
        model = parse_model_file(file.read(), asked["origin"])
    cache = Path(asked["engine_cache"]) if asked["engine_cache"] else None
    options = DetectorOptions(
        providers=tuple(asked["providers"]), threads=asked["threads"], engine_cache=cache
    )
    detector = Detector(model, options)
    report = verify(model, detector)
    if not report.passed:
        raise InferenceError(report.reason)
    return _Candidate(model, detector)


class _Candidate:
    def __init__(self, model: ModelFile, detector: Detector) -> None:
        self._model = model
        self._detector = detector
        self._reference = _own_reference(model)
        self._monitors: dict[str, DriftMonitor] = {}

    def look(self, request: dict[str, Any], frame_fd: int) -> dict[str, Any]:
        height, width = request["shape"]
        with mmap.mmap(frame_fd, height * width * 3, prot=mmap.PROT_READ) as pixels:
            image = np.frombuffer(pixels, np.uint8).reshape(height, width, 3).copy()
        try:
            found = self._detector.detect(image)
        except InferenceError as error:
            return {"error": str(error)}
        active = np.array(request["boxes"], np.float32).reshape(-1, 6)
        agreed = compare(active, found.boxes, request["classes"], self._model.metadata.class_names)
        # With a reference or without: what it finds tells, once it is put in, what is usual.
        features = extract(
            image, found.boxes, class_names=self._model.metadata.class_names, embedding=found.embedding
        )
        return {
            "agreement": {
                name: [one.active, one.candidate, one.matched, one.score_difference]
                for name, one in agreed.items()
            },
            "inference_ms": found.stage_ns.inference / 1e6,
            "features": b64encode(features.astype("<f4").tobytes()).decode(),
            "drift": self._drift(request["camera"], request["time_ns"], features, moving=request["moving"]),
        }

    def _drift(self, camera: str, time_ns: int, features: npt.NDArray[np.float32], *, moving: bool) -> str:
        if self._reference is None:
            return ""
        if camera not in self._monitors:
            self._monitors[camera] = DriftMonitor(self._reference)
        monitor = self._monitors[camera]
        state = monitor.observe(time_ns, features, moving=moving)
        if state is None:
            return ""
        message = drift_state(
            camera,
            state,
            model_ref_of(self._model),
            monitor.reference.digest,
            lambda at_ns: common_pb2.Instant(monotonic_ns=at_ns),
        )
        return b64encode(message.SerializeToString()).decode()


def _own_reference(model: ModelFile) -> Reference | None:
    prior = model.metadata.drift_prior
    if prior is None:
        return None
    try:
        return fleet_prior(prior)
    except DriftReferenceError as error:
        print(f"the drift reference in the candidate is not used: {error}", file=sys.stderr)
        return None


if __name__ == "__main__":
    main()
