"""The upload streams: many messages under way, an answer for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeAlias, TypeVar

from cloud.fleet.admission import NotServedError, Standing
from cloud.fleet.group_commit import ClosedError, GroupCommit
from cloud.fleet.ingest import RETRY_AFTER_MS, Answer, Upload
from protos.traffic_vision.v1 import fleet_pb2 as fleet

MAX_ECHOED_ID = 64

_Message = TypeVar("_Message", fleet.Sample, fleet.FeatureSeries)
# None: the stream has ended.
_Waiting: TypeAlias = "asyncio.Queue[tuple[str, asyncio.Future[Answer]] | None]"

_STOPPING = Answer(
    fleet.UPLOAD_OUTCOME_DEFERRED,
    fleet.REFUSAL_REASON_STORE_UNAVAILABLE,
    "the server stops",
    RETRY_AFTER_MS,
)


class UploadStream(Generic[_Message]):
    """One stream of one vehicle. No more is read from it than may wait for an answer."""

    def __init__(self, vehicle: str, commits: GroupCommit[Upload, Answer], in_flight_limit: int) -> None:
        """Take who sends, where it goes, and how many may be without an answer."""
        self._vehicle = vehicle
        self._commits = commits
        self._waiting: _Waiting = asyncio.Queue(in_flight_limit)

    async def answers(self, messages: AsyncIterator[_Message]) -> AsyncIterator[tuple[str, Answer]]:
        """Give each message's id with its answer, in the order in which they came.

        Raises:
            NotServedError: the vehicle is not, or no longer, served here.
        """
        receiving = asyncio.create_task(self._receive(messages))
        try:
            while (waiting := await self._waiting.get()) is not None:
                identity, future = waiting
                answer = await future
                if not answer.served:
                    raise NotServedError(Standing.REVOKED)
                yield identity, answer
            await receiving  # what broke the stream is told to its caller
        finally:
            receiving.cancel()

    async def _receive(self, messages: AsyncIterator[_Message]) -> None:
        try:
            async for message in messages:
                identity, size_bytes = message.id[:MAX_ECHOED_ID], message.ByteSize()
                try:
                    future = await self._commits.submit(Upload(self._vehicle, message), size_bytes)
                except ClosedError:
                    future = asyncio.get_running_loop().create_future()
                    future.set_result(_STOPPING)
                await self._waiting.put((identity, future))
        finally:
            await self._waiting.put(None)
