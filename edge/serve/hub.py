"""From one producer to many clients, none of which can hold the producer up or make memory grow."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Delivery(Generic[T]):
    """One item for one client.

    Attributes:
        sequence: counts the items meant for this client from 0, the dropped ones included.
        dropped: items between the delivery before this one and this one, because the client was slow.
        item: what was published.
    """

    sequence: int
    dropped: int
    item: T


class Subscription(Generic[T]):
    """One client's queue. Full, it drops its oldest: a client that is slow gets the newest."""

    def __init__(self, accepts: Callable[[T], bool], limit: int, leave: Callable[[Subscription[T]], None]):
        """Made by `Hub.subscribe`."""
        self._accepts = accepts
        self._limit = limit
        self._leave = leave
        self._condition = threading.Condition()
        self._queue: deque[tuple[int, T]] = deque()
        self._made = 0
        self._delivered = 0  # sequence that would follow without a gap
        self._closed = False

    def offer(self, item: T) -> None:
        """Queue an item if the client wants it. For the hub."""
        with self._condition:
            if self._closed or not self._accepts(item):
                return
            if len(self._queue) == self._limit:
                self._queue.popleft()
            self._queue.append((self._made, item))
            self._made += 1
            self._condition.notify()

    def next(self, timeout_s: float) -> Delivery[T] | None:
        """The next item; None where none came in time, or the subscription has ended."""
        with self._condition:
            self._condition.wait_for(lambda: self._queue or self._closed, timeout_s)
            if not self._queue:
                return None
            sequence, item = self._queue.popleft()
            dropped = sequence - self._delivered
            self._delivered = sequence + 1
            return Delivery(sequence, dropped, item)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come; what is queued still does."""
        with self._condition:
            return self._closed and not self._queue

    def close(self) -> None:
        """End it, from either side; what is queued can still be had. May be called twice."""
        self._leave(self)
        with self._condition:
            self._closed = True
            self._condition.notify_all()


class Hub(Generic[T]):
    """Passes each published item to every client that wants it."""

    def __init__(self, *, retain: Callable[[T], Hashable] | None = None) -> None:
        """Without clients.

        Args:
            retain: a key of an item; the last item of each key is given to a new client at once. None: a
                client gets what is published after it came.
        """
        self._retain = retain
        self._retained: dict[Hashable, T] = {}
        self._lock = threading.Lock()
        self._subscriptions: set[Subscription[T]] = set()
        self._closed = False

    def subscribe(self, *, limit: int, accepts: Callable[[T], bool] = lambda item: True) -> Subscription[T]:
        """Let a client in.

        Args:
            limit: items that wait for it at most.
            accepts: whether the client wants an item; called once an item, in order, on the publisher's
                thread, so it has to be quick.
        """
        subscription: Subscription[T] = Subscription(accepts, limit, self._drop)
        with self._lock:
            for item in self._retained.values():
                subscription.offer(item)
            if not self._closed:
                self._subscriptions.add(subscription)
                return subscription
        subscription.close()
        return subscription

    def publish(self, item: T) -> None:
        """Pass an item on. Never waits for a client."""
        with self._lock:
            if self._retain is not None:
                self._retained[self._retain(item)] = item
            for subscription in self._subscriptions:
                subscription.offer(item)

    def retained(self) -> tuple[T, ...]:
        """The last item of each key."""
        with self._lock:
            return tuple(self._retained.values())

    def close(self) -> None:
        """End every subscription, and those that come. May be called twice."""
        with self._lock:
            self._closed = True
            subscriptions = tuple(self._subscriptions)
        for subscription in subscriptions:
            subscription.close()

    @property
    def clients(self) -> int:
        """How many there are."""
        with self._lock:
            return len(self._subscriptions)

    def _drop(self, subscription: Subscription[T]) -> None:
        with self._lock:
            self._subscriptions.discard(subscription)
