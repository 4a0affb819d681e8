"""Group commit: what arrives while the disk is busy goes to the disk together.

One thread hands whole batches to `commit`, which makes them durable at the price of one wait for the disk;
then each item gets its answer. See DeWitt et al., "Implementation techniques for main memory database
systems", SIGMOD 1984, section 5.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

_LOG = logging.getLogger(__name__)

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class ClosedError(Exception):
    """Nothing is taken any more."""


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Item, Answer]):
    item: Item
    size_bytes: int
    answer: asyncio.Future[Answer]


class GroupCommit(Generic[Item, Answer]):
    """Collects items on an event loop and commits them, batch by batch, in a thread of its own."""

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Sequence[Answer]],
        *,
        name: str,
        waiting_limit_bytes: int,
        batch_limit: int,
    ) -> None:
        """Prepare; `run` does the work.

        Args:
            commit: takes a batch, returns an answer for each item, in order, once all of them are durable.
                Called from one thread, never twice at a time.
            name: of the thread.
            waiting_limit_bytes: what may wait; `submit` waits for room beyond it.
            batch_limit: items in a batch.
        """
        self._commit = commit
        self._limit_bytes = waiting_limit_bytes
        self._batch_limit = batch_limit
        self._waiting: deque[_Waiting[Item, Answer]] = deque()
        self._bytes = 0
        self._changed = asyncio.Condition()
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def submit(self, item: Item, size_bytes: int) -> asyncio.Future[Answer]:
        """Hand an item over, once there is room for it; its answer will be in the future.

        Raises:
            ClosedError: `close` was called.
        """
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._closed or not self._bytes or self._bytes + size_bytes <= self._limit_bytes
            )
            if self._closed:
                raise ClosedError
            answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._waiting.append(_Waiting(item, size_bytes, answer))
            self._bytes += size_bytes
            self._changed.notify_all()
            return answer

    async def run(self) -> None:
        """Commit what was submitted until `close`; what was submitted before that is still committed."""
        loop = asyncio.get_running_loop()
        try:
            while batch := await self._next_batch():
                items = [waiting.item for waiting in batch]
                try:
                    answers = await loop.run_in_executor(self._thread, self._commit, items)
                except Exception as error:  # noqa: BLE001 - the top of the committing thread
                    _LOG.exception("a batch of %d could not be committed", len(items))
                    self._fail(batch, error)
                else:
                    for waiting, answer in zip(batch, answers, strict=True):
                        if not waiting.answer.done():
                            waiting.answer.set_result(answer)
                async with self._changed:
                    self._bytes -= sum(waiting.size_bytes for waiting in batch)
                    self._changed.notify_all()
        finally:
            self._thread.shutdown()

    async def close(self) -> None:
        """Take nothing more; `run` ends after what is waiting."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def _next_batch(self) -> list[_Waiting[Item, Answer]]:
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting or self._closed)
            return [self._waiting.popleft() for _ in range(min(self._batch_limit, len(self._waiting)))]

    @staticmethod
    def _fail(batch: Sequence[_Waiting[Item, Answer]], error: Exception) -> None:
        for waiting in batch:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)
                waiting.answer.exception()  # a stream that is gone leaves nobody to look at it
