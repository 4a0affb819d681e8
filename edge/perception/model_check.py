"""The check of a new model, in a process of its own (`model_child`).

What it took there is what the model will take here: by the rules of `onnx_rules` no picture makes a later run
ask for more than the first.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge.errors import TrafficVisionError
from edge.perception import providers
from edge.perception.child_limits import MEMORY_BYTES, RUN_S, hold, limits_for
from edge.perception.detector import WARM_RUNS, Detector, DetectorOptions
from edge.perception.golden import verify
from edge.perception.model_child import ModelRefusedError, ask_child, question, took_too_much
from edge.perception.model_file import ModelFile, parse_model_file
from edge.perception.providers import ProviderError

_ON_THE_CPU = ("CPUExecutionProvider",)
# What ONNX Runtime says where an allocation failed.
_NO_MEMORY = ("bad_alloc", "allocate memory", "bfc_arena", "out of memory")


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What the child found out about a model that passed.

    Attributes:
        load_s: seconds to load and warm it.
        golden_frames: that were verified.
    """

    load_s: float
    golden_frames: int


def check_in_child(
    model: ModelFile,
    options: DetectorOptions,
    *,
    timeout_s: float,
    stopping: threading.Event,
    memory_bytes: int = MEMORY_BYTES,
    run_s: float = RUN_S,
) -> CheckReport:
    """Load the model on the options' providers, warm it, and verify its golden frames, in a child process.

    Args:
        model: the model file.
        options: how it will run. Golden frames are verified at the model's own thresholds.
        timeout_s: after which the child is killed and the model refused.
        stopping: once set, the child is killed and the model refused.
        memory_bytes: that the child may take; less where the machine has less left.
        run_s: that one inference on a CPU may take.

    Raises:
        ModelRefusedError: it does not load, does not find what it must, or the check did not end well.
    """
    asked = {**asdict(options), "engine_cache": options.engine_cache and str(options.engine_cache)}
    limits = limits_for(memory_bytes, timeout_s, run_s)
    about = {"origin": str(model.path or model.metadata.name), "options": asked}
    answer = ask_child(
        "edge.perception.model_check", about, model.data, limits, timeout_s=timeout_s, stopping=stopping
    )
    if answer["reason"]:
        raise ModelRefusedError(answer["reason"], is_final=answer["is_final"])
    return CheckReport(float(answer["load_s"]), int(answer["golden_frames"]))


def main() -> None:
    """Run the child: a JSON line and the model's bytes on standard input, a JSON line on standard output."""
    about, limits = question()
    options = _options(about["options"])
    is_cpu = not _off_the_cpu(options)
    hold(limits, hard_memory=is_cpu)
    answer: dict[str, Any] = {"reason": "", "is_final": True, "load_s": 0.0, "golden_frames": 0}
    try:
        data = sys.stdin.buffer.read()
        answer |= _check(data, about["origin"], options, limits.run_s if is_cpu else None)
    except (TrafficVisionError, MemoryError) as error:
        if _is_memory(error):
            answer |= {"reason": took_too_much(limits), "is_final": not limits.is_machines}
        else:
            answer |= {"reason": str(error), "is_final": not isinstance(error, ProviderError)}
    print(json.dumps(answer), flush=True)


def _options(asked: dict[str, Any]) -> DetectorOptions:
    cache = asked["engine_cache"]
    return DetectorOptions(
        **{**asked, "providers": tuple(asked["providers"]), "engine_cache": Path(cache) if cache else None}
    )


def _off_the_cpu(options: DetectorOptions) -> bool:
    try:
        return providers.resolve(options.providers) != _ON_THE_CPU
    except ProviderError:  # the check itself says so
        return True


def _check(data: bytes, origin: str, options: DetectorOptions, run_s: float | None) -> dict[str, Any]:
    own = replace(options, score_threshold=None, iou_threshold=None, max_detections=None, multi_label=False)
    model = parse_model_file(data, origin)
    started = time.perf_counter()
    # Of another provider the first run may be the build of an engine, so only the parent's clock holds it.
    with _within(run_s and run_s * WARM_RUNS, f"to load it and run it {WARM_RUNS} times"):
        detector = Detector(model, own)
    load_s = time.perf_counter() - started
    with _within(run_s and run_s * max(1, len(model.metadata.golden)), "for its golden frames"):
        report = verify(model, detector)
    errors = [frame.error for frame in report.frames if frame.error]
    if any(_says_no_memory(error) for error in errors):
        raise MemoryError
    return {"reason": report.reason, "load_s": load_s, "golden_frames": len(report.frames)}


@contextmanager
def _within(seconds: float | None, what: str) -> Iterator[None]:
    """End the child with its answer where this takes longer: a run cannot be interrupted."""
    began = time.process_time()

    def end() -> None:
        # A machine that is busy or was asleep says nothing of the model.
        is_final = time.process_time() - began > (seconds or 0) / 2
        reason = f"it is too slow: {seconds:g} s are not enough {what}"
        print(json.dumps({"reason": reason, "is_final": is_final}), flush=True)
        os._exit(0)

    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _is_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError) or _says_no_memory(str(error)):
            return True
        error = error.__cause__
    return False


def _says_no_memory(text: str) -> bool:
    return any(words in text.lower() for words in _NO_MEMORY)


if __name__ == "__main__":
    main()
