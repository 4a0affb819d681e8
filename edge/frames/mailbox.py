"""One slot between a camera and the frame loop: the newest wins.

A queue would let the age of what is looked at grow whenever inference is slower than the camera.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class MailboxClosed(Exception):  # noqa: N818 - a state of the box, no fault of anyone's
    """Nothing more is taken in; what was offered stays with the caller."""


class Mailbox(Generic[T]):
    """A slot for one item. Any thread may put, wait and close; one thread takes."""

    def __init__(self, condition: threading.Condition | None = None) -> None:
        """An empty mailbox.

        Args:
            condition: shared with others, so that one thread can wait for several; None for one of its own.
        """
        self._condition = condition or threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> T | None:
        """Put an item in; returns the one that it displaced, if that had not been taken.

        Raises:
            MailboxClosed: the item was not taken in.
        """
        with self._condition:
            if self._closed:
                raise MailboxClosed
            displaced, self._item = self._item, item
            self._condition.notify_all()
        return displaced

    def take(self, timeout_s: float) -> T | None:
        """Take the item out; None where none came in time, or the mailbox is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._item is not None or self._closed, timeout_s)
            return self._take()

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait until the item was taken; False where it was not in time. A closed mailbox is empty."""
        with self._condition:
            return self._condition.wait_for(lambda: self._item is None, timeout_s)

    def close(self) -> T | None:
        """Take in nothing more; returns what nobody took. May be called twice."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
            return self._take()

    def _take(self) -> T | None:
        item, self._item = self._item, None
        if item is not None:
            self._condition.notify_all()
        return item


class MailboxRow(Generic[T]):
    """The mailboxes of all cameras, taken from in turn: a fast camera cannot starve a slow one."""

    def __init__(self, names: Sequence[str]) -> None:
        """A mailbox for each name."""
        self._condition = threading.Condition()
        self.boxes: dict[str, Mailbox[T]] = {name: Mailbox(self._condition) for name in names}
        self._order = list(names)
        self._woken = False

    def take(self, timeout_s: float) -> tuple[str, T] | None:
        """Take from the next mailbox that holds something, after the one that was served last.

        Returns None where nothing came in time, or where `wake` was called first.
        """
        deadline = time.monotonic() + timeout_s
        with self._condition:
            while not self._woken:
                for place, name in enumerate(self._order):
                    item = self.boxes[name]._take()
                    if item is not None:
                        self._order = [*self._order[place + 1 :], *self._order[: place + 1]]
                        return name, item
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return None
                self._condition.wait(left_s)
            self._woken = False
            return None

    def pause(self, timeout_s: float) -> None:
        """Take nothing for so long, or until `wake` is called."""
        with self._condition:
            self._condition.wait_for(lambda: self._woken, timeout_s)
            self._woken = False

    def wake(self) -> None:
        """Let the present or next `take` or `pause` return at once."""
        with self._condition:
            self._woken = True
            self._condition.notify_all()
