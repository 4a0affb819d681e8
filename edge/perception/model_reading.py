"""Reading a model file beside running frames, in a process of its own.

Protobuf parses a file in one call under the interpreter's lock, 131 ms for 200 MB, and the rules for graphs
are Python: the frame loop would wait for both. The child reads and judges, and says what the file says of
itself.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.perception.child_limits import MEMORY_BYTES, hold, limits_for
from edge.perception.metadata import MetadataError, from_json, to_json
from edge.perception.model_child import ModelRefusedError, ask_child, question, took_too_much
from edge.perception.model_file import ModelFile, ModelFileError, parse_model_file

APART_BYTES = 1 << 20  # what is smaller takes less time to read than a process to start
TIMEOUT_S = 60.0
_REMEMBERED = 3  # a vehicle's slots: what was staged is read again as it is put in, and when it is taken back


class _Known:
    """What the last files said of themselves, by their digest: the same bytes say the same again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[str, ModelFile] = OrderedDict()  # without their bytes

    def get(self, digest: str, data: bytes, path: Path | None) -> ModelFile | None:
        with self._lock:
            known = self._files.get(digest)
            if known is None:
                return None
            self._files.move_to_end(digest)
        return replace(known, data=data, path=path)

    def add(self, model: ModelFile) -> None:
        with self._lock:
            self._files[model.digest] = replace(model, data=b"", path=None)
            while len(self._files) > _REMEMBERED:
                self._files.popitem(last=False)


_known = _Known()


def read_apart(
    data: bytes,
    origin: str,
    path: Path | None = None,
    *,
    stopping: threading.Event,
    memory_bytes: int = MEMORY_BYTES,
) -> ModelFile:
    """As `parse_model_file`, without holding up other threads. The last few files are not read again.

    Args:
        data: the bytes of the file.
        origin: where they came from, for messages.
        path: the file they came from, if any; kept in the result.
        stopping: once set, the rest is not left to a child.
        memory_bytes: that the child may take.

    Raises:
        ModelFileError: for any bytes that are no model file, with the reason.
    """
    if len(data) < APART_BYTES:
        return parse_model_file(data, origin, path)
    digest = hashlib.sha256(data).hexdigest()
    known = _known.get(digest, data, path)
    if known is not None:
        return known
    limits = limits_for(memory_bytes, TIMEOUT_S)
    try:
        answer = ask_child(__name__, {"origin": origin}, data, limits, timeout_s=TIMEOUT_S, stopping=stopping)
    except ModelRefusedError as error:
        if error.is_final:
            raise ModelFileError(f"{origin}: {error}") from None
        answer = None
    except OSError:  # no process can be started
        answer = None
    if answer is None or answer["is_machines"]:  # that says nothing of the model
        return parse_model_file(data, origin, path)
    if answer["reason"]:
        raise ModelFileError(answer["reason"])
    try:
        metadata = from_json(answer["metadata"])
    except MetadataError as error:
        raise ModelFileError(f"{origin}: {error}") from None
    height, width = answer["input_hw"]
    first, second, third = answer["output_shape"]
    model = ModelFile(metadata, data, digest, (height, width), (first, second, third), answer["opset"], path)
    _known.add(model)
    return model


def main() -> None:
    """Run the child."""
    about, limits = question()
    hold(limits, hard_memory=True)
    answer: dict[str, Any] = {"reason": "", "is_machines": False}
    try:
        model = parse_model_file(sys.stdin.buffer.read(), about["origin"])
        answer |= {
            "metadata": to_json(model.metadata),
            "input_hw": model.input_hw,
            "output_shape": model.output_shape,
            "opset": model.opset,
        }
    except ModelFileError as error:
        answer["reason"] = str(error)
    except MemoryError:
        answer |= {"reason": f"{about['origin']}: {took_too_much(limits)}", "is_machines": limits.is_machines}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
