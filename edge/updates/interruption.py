"""A transfer is left as soon as there is cause to, also while it waits for bytes that do not come.

Reading a gRPC stream blocks until a message or the call's deadline. Only a cancel from another thread ends it
before, so one looks whether there is cause to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import grpc

from edge.updates.errors import PutOffError, UpdateError

LOOK_S = 0.25  # between two looks; a chunk that comes is a look of its own

Interrupted = Callable[[], bool]  # from any thread; it returns soon and never raises
Cause = Callable[[], UpdateError | None]  # to end a transfer now; from any thread, like the above


class Cancellable(Protocol):
    """What a call is here."""

    def cancel(self) -> object:
        """End it; reading from it raises."""


def never() -> bool:
    """Nothing comes first: for a program that does one thing only."""
    return False


def put_off(kept: str) -> PutOffError:
    """Make the error; `kept` says what becomes of what has arrived, for people."""
    return PutOffError(f"put off, since something else comes first: {kept}")


@contextmanager
def cancelled_for(cause: Cause, call: Cancellable) -> Iterator[None]:
    """Cancel the call once there is cause to, and at the end in any case.

    Args:
        cause: what there is, looked for four times a second.
        call: that the body reads from.

    Raises:
        UpdateError: the cause that ended the body's reading.
    """
    over = threading.Event()
    found: list[UpdateError] = []

    def look() -> None:
        while not over.wait(LOOK_S):
            error = cause()
            if error is not None:
                found.append(error)
                call.cancel()
                return

    watcher = threading.Thread(target=look, name="transfer-watch", daemon=True)
    watcher.start()
    try:
        yield
    except grpc.RpcError:
        if not found:
            raise
        raise found[0] from None
    finally:
        over.set()
        call.cancel()
        watcher.join()
