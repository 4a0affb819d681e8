"""One slot between a camera and the frame loop: the newest wins.

A queue would let the age of what is looked at grow whenever inference is slower than the camera. While the
model is changed, which takes processor time from an inference that does keep up, a few frames may wait
behind each other instead, for a moment: none is lost to a stall that the backlog outlasts.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")

# What may wait in one mailbox while frames are kept. Bounds memory: 22 MB of 1280x720.
BACKLOG_ITEMS = 8
BACKLOG_S = 0.5  # of the oldest; more, and newest wins again
# A camera that displaced a frame so shortly ago is faster than the loop: a backlog would only age.
_OUTRUN_S = 1.0
_DRAIN_S = 1.0  # in which what a change held up is still taken


class MailboxClosed(Exception):  # noqa: N818 - a state of the box, no fault of anyone's
    """Nothing more is taken in; what was offered stays with the caller."""


class Mailbox(Generic[T]):
    """A slot for one item, or a short backlog. Any thread may put, wait and close; one thread takes."""

    def __init__(
        self,
        condition: threading.Condition | None = None,
        *,
        keeps: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """An empty mailbox.

        Args:
            condition: shared with others, so that one thread can wait for several; None for one of its own.
            keeps: whether a backlog is allowed now; asked under the condition.
            clock: monotonic seconds.
        """
        self._condition = condition or threading.Condition()
        self._keeps = keeps
        self._clock = clock
        self._items: deque[tuple[float, T]] = deque()  # with the moment of each, oldest first
        self._outrun_at = -_OUTRUN_S
        self._closed = False

    def put(self, item: T) -> list[T]:
        """Put an item in; returns those that it displaced, which had not been taken: at most one, but after a
        backlog that was too long or too old.

        Raises:
            MailboxClosed: the item was not taken in.
        """
        with self._condition:
            if self._closed:
                raise MailboxClosed
            now = self._clock()
            displaced: list[T] = []
            if self._items and not self._has_room(now):
                displaced = self._clear()
                self._outrun_at = now
            self._items.append((now, item))
            self._condition.notify_all()
        return displaced

    def take(self, timeout_s: float) -> T | None:
        """Take the oldest item out; None where none came in time, or the mailbox is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._items or self._closed, timeout_s)
            return self._take()

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait until all was taken; False where it was not in time. A closed mailbox is empty."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._items, timeout_s)

    def close(self) -> list[T]:
        """Take in nothing more; returns what nobody took. May be called twice."""
        with self._condition:
            self._closed = True
            left = self._clear()
            self._condition.notify_all()
            return left

    def _has_room(self, now: float) -> bool:
        return (
            self._keeps()
            and len(self._items) < BACKLOG_ITEMS
            and now - self._items[0][0] <= BACKLOG_S
            and now - self._outrun_at >= _OUTRUN_S
        )

    def _clear(self) -> list[T]:
        items = [item for _, item in self._items]
        self._items.clear()
        return items

    def _take(self) -> T | None:
        if not self._items:
            return None
        _, item = self._items.popleft()
        self._condition.notify_all()
        return item


class MailboxRow(Generic[T]):
    """The mailboxes of all cameras, taken from in turn: a fast camera cannot starve a slow one."""

    def __init__(self, names: Sequence[str]) -> None:
        """A mailbox for each name."""
        self._condition = threading.Condition()
        self.boxes: dict[str, Mailbox[T]] = {
            name: Mailbox(self._condition, keeps=self._keeps) for name in names
        }
        self._order = list(names)
        self._woken = False
        self._keepers = 0
        self._kept_until = 0.0  # monotonic seconds

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

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Let items wait behind each other, and a moment longer. From any thread; may be nested.

        A box whose items are displaced all the time goes on as before: there a backlog would gain nothing.
        """
        with self._condition:
            self._keepers += 1
        try:
            yield
        finally:
            with self._condition:
                self._keepers -= 1
                self._kept_until = time.monotonic() + _DRAIN_S

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

    def _keeps(self) -> bool:
        return self._keepers > 0 or time.monotonic() < self._kept_until
