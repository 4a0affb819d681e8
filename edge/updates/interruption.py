"""A transfer is left as soon as something else comes first, also while it waits for bytes that do not come.

Reading a gRPC stream blocks until a message or the call's deadline. Only a cancel from another thread ends it
before, so one looks whether there is cause to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import grpc

from edge.updates.errors import PutOffError

LOOK_S = 0.25  # between two looks; a chunk that comes is a look of its own

Interrupted = Callable[[], bool]  # from any thread; it returns soon and never raises


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
def cancelled_if(interrupted: Interrupted, call: Cancellable, kept: Callable[[], str]) -> Iterator[None]:
    """Cancel the call once it is interrupted, and at the end in any case.

    Args:
        interrupted: whether something else comes first.
        call: that the body reads from.
        kept: what becomes of what has arrived, for people.

    Raises:
        PutOffError: the body's reading was ended by this.
    """
    over, left = threading.Event(), threading.Event()

    def look() -> None:
        while not over.wait(LOOK_S):
            if interrupted():
                left.set()
                call.cancel()
                return

    watcher = threading.Thread(target=look, name="interruption", daemon=True)
    if interrupted is not never:
        watcher.start()
    try:
        yield
    except grpc.RpcError:
        if not left.is_set():
            raise
        raise put_off(kept()) from None
    finally:
        over.set()
        call.cancel()
        if watcher.ident is not None:
            watcher.join()
