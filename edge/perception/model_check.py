"""The check of a new model, in a process of its own.

A model that hangs, crashes ONNX Runtime or takes all memory takes this child along and nothing else; and a
child at low priority leaves the frame loop both its core and the interpreter's lock, as a thread would not.
The child gets the very bytes that will be loaded, by its standard input, and is held to limits of memory and
time (`child_limits`). What it took is what the model will take here: by the rules of `onnx_rules` no picture
makes a later run ask for more than the first.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge.errors import TrafficVisionError
from edge.machine.priority import lower
from edge.perception import providers
from edge.perception.child_limits import (
    MEMORY_BYTES,
    RUN_S,
    ChildLimits,
    hold,
    limits_for,
    resident_bytes_of,
)
from edge.perception.detector import WARM_RUNS, Detector, DetectorOptions
from edge.perception.golden import verify
from edge.perception.model_file import ModelFile, parse_model_file
from edge.perception.providers import ProviderError

_POLL_S = 0.05
_ON_THE_CPU = ("CPUExecutionProvider",)
# What ONNX Runtime says where an allocation failed.
_NO_MEMORY = ("bad_alloc", "allocate memory", "bfc_arena", "out of memory")


class ModelRefused(TrafficVisionError):  # noqa: N818 - what it says, and no fault of the program
    """A model that must not come near the frames; the message says why.

    Attributes:
        is_final: the model itself failed, and would fail again. False: the check came to no end, or it was
            the machine that failed.
    """

    def __init__(self, message: str, *, is_final: bool = True) -> None:
        super().__init__(message)
        self.is_final = is_final


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
        ModelRefused: it does not load, does not find what it must, or the check did not end well.
    """
    asked = {**asdict(options), "engine_cache": options.engine_cache and str(options.engine_cache)}
    limits = limits_for(memory_bytes, timeout_s, run_s)
    header = json.dumps(
        {"origin": str(model.path or model.metadata.name), "options": asked, "limits": asdict(limits)}
    ).encode()
    command = [sys.executable, "-m", "edge.perception.model_check"]
    # The child imports what this process imports.
    paths = os.pathsep.join(path for path in sys.path if path)
    # A file in memory, not a pipe: nothing has to be written while the child is waited for.
    with open(os.memfd_create("model"), "w+b") as given:  # noqa: PTH123 - a descriptor has no path
        given.write(header + b"\n" + model.data)
        given.seek(0)
        child = subprocess.Popen(
            command,
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
        )
        lower(child.pid)
    with child:
        out, err = _communicate(child, timeout_s, stopping, limits)
    answer = _last_json(out)
    if child.returncode != 0 or answer is None:
        said = err.decode(errors="replace").strip().splitlines()
        reason = f"its check died ({_ended(child.returncode)})" + (f": {said[-1][:300]}" if said else "")
        # SIGKILL comes from outside: the kernel out of memory, or somebody by hand.
        raise ModelRefused(reason, is_final=child.returncode != -signal.SIGKILL)
    if answer["reason"]:
        raise ModelRefused(answer["reason"], is_final=answer["is_final"])
    return CheckReport(float(answer["load_s"]), int(answer["golden_frames"]))


def _communicate(
    child: subprocess.Popen[bytes], timeout_s: float, stopping: threading.Event, limits: ChildLimits
) -> tuple[bytes, bytes]:
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            try:
                return child.communicate(timeout=_POLL_S)
            except subprocess.TimeoutExpired:  # what it read so far, it keeps
                pass
            if stopping.is_set():
                raise ModelRefused("its check was broken off: the daemon stops", is_final=False)
            if resident_bytes_of(child.pid) > limits.memory_bytes:
                raise ModelRefused(_took_too_much(limits), is_final=not limits.is_machines)
            if time.monotonic() > deadline:
                raise ModelRefused(f"its check took longer than {timeout_s:g} s", is_final=False)
    finally:
        if child.poll() is None:
            child.kill()


def _last_json(out: bytes) -> dict[str, Any] | None:
    # Libraries may print, so the answer is the last line.
    lines = out.decode(errors="replace").strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _ended(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _took_too_much(limits: ChildLimits) -> str:
    whose = "that is what this machine has left" if limits.is_machines else "the limit of its check"
    return f"it takes more than {limits.memory_bytes / 1e6:.0f} MB of memory, {whose}"


def main() -> None:
    """Run the child: a JSON line and the model's bytes on standard input, a JSON line on standard output."""
    header = json.loads(sys.stdin.buffer.readline())
    limits = ChildLimits(**header["limits"])
    options = _options(header["options"])
    is_cpu = not _off_the_cpu(options)
    hold(limits, hard_memory=is_cpu)
    answer: dict[str, Any] = {"reason": "", "is_final": True, "load_s": 0.0, "golden_frames": 0}
    try:
        data = sys.stdin.buffer.read()
        answer |= _check(data, header["origin"], options, limits.run_s if is_cpu else None)
    except (TrafficVisionError, MemoryError) as error:
        if _is_memory(error):
            answer |= {"reason": _took_too_much(limits), "is_final": not limits.is_machines}
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
