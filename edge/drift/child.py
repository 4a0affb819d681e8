"""A reference made in a process of its own: a fit takes more of a core than the frame loop can spare.

The child writes nothing but its answer, and one that is killed leaves all as it was.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from typing import Any

from edge.drift.reference import DriftReferenceError, Reference
from edge.errors import TrafficVisionError
from edge.perception.child_limits import hold, limits_for
from edge.perception.model_child import ModelRefusedError, ask_child, question, took_too_much

MEMORY_BYTES = 1_000_000_000


def ask_for_reference(
    module: str,
    about: dict[str, Any],
    data: bytes = b"",
    *,
    what: str,
    timeout_s: float,
    stopping: threading.Event,
) -> Reference:
    """Have a child process make a reference.

    Args:
        module: its `main` calls `answer_with`.
        about: JSON values that say what is asked for.
        data: on the child's standard input.
        what: it is that the child does, in errors.
        timeout_s: after which the child is killed.
        stopping: once set, the child is killed.

    Raises:
        DriftReferenceError: the child says that there is none, or came to no end.
    """
    limits = limits_for(MEMORY_BYTES, timeout_s)
    about = {**about, "what": what}
    try:
        answer = ask_child(module, about, data, limits, timeout_s=timeout_s, stopping=stopping, what=what)
    except ModelRefusedError as error:
        raise DriftReferenceError(str(error)) from None
    if answer.get("reason"):
        raise DriftReferenceError(str(answer["reason"]))
    return Reference.from_bytes(str(answer.get("reference")).encode())


def answer_with(made: Callable[[dict[str, Any]], Reference]) -> None:
    """Answer as the child, by a JSON line on standard output.

    Args:
        made: of what is asked for; the data are what is left of standard input.
    """
    about, limits = question()
    hold(limits, hard_memory=True)
    answer: dict[str, Any] = {"reason": "", "reference": ""}
    try:
        answer["reference"] = made(about).to_bytes().decode()
    except TrafficVisionError as error:
        answer["reason"] = str(error)
    except MemoryError:
        answer["reason"] = took_too_much(limits, about["what"])
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
