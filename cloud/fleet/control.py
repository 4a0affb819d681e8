"""The control streams: one for each connected vehicle, opened by its Hello."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from importlib.metadata import version as package_version
from time import time_ns

from cloud.config import LimitsConfig, ServeConfig
from cloud.fleet.admission import Caller, Standing
from cloud.fleet.assigner import Assigner
from cloud.fleet.group_commit import ClosedError, GroupCommit
from cloud.fleet.session_chain import Link, digest
from cloud.fleet.sessions import KNOCK_ID, Session, Sessions
from cloud.fleet.vehicle_records import Disconnected, IdentityInUse, Message, Record, problem_of
from protos import handshake
from protos.traffic_vision.v1 import fleet_pb2 as fleet

HELLO_TIMEOUT_S = 10.0
SILENT_HEARTBEATS = 3
KNOCK_S = 5.0  # for an instance to say that it lives; a vehicle waits 10 s for its Welcome
RETRY_AFTER_MS = 5_000
MAX_INSTANCE_ID = 64
MAX_MESSAGE_BYTES = 256_000

_LOG = logging.getLogger(__name__)


class _ProblemError(Exception):
    """The stream ends with this problem."""

    def __init__(self, code: fleet.ProblemCode, detail: str, retry_after_ms: int = 0) -> None:
        super().__init__(detail)
        self.response = fleet.ControlResponse(
            problem=fleet.Problem(
                code=code,
                detail=detail,
                retry_after_ms=retry_after_ms,
                protocol=handshake.supported(),
            )
        )


class ControlService:
    """Speaks with the vehicles. Everything here runs on the event loop.

    Attributes:
        release_counter: the newest that vehicles were nudged about.
    """

    def __init__(
        self,
        records: GroupCommit[Record, bool],
        serve: ServeConfig,
        limits: LimitsConfig,
        assigner: Assigner,
        sessions: Sessions,
        rival: Callable[[str, str, str | None], Awaitable[Session | None]],
        link: Callable[[str, fleet.Hello], Awaitable[Link]],
    ) -> None:
        """Take what vehicles are told, and who knows the rest.

        Args:
            records: where what they say goes.
            serve: how often they are heard from, and how many.
            limits: of what they send.
            assigner: knows which release each shall have.
            sessions: the open streams; filled from here.
            rival: gives the session of another instance of a vehicle; see `Admission.rival`.
            link: tells how a connection would follow the vehicle's last one.
        """
        self._records = records
        self._assigner = assigner
        assigner.listen(self.assign)
        self._serve = serve
        self._limits = limits
        self._sessions = sessions
        self._rival = rival
        self._link = link
        self.release_counter = 0
        self._stopping = False

    async def converse(
        self, caller: Caller, requests: AsyncIterator[fleet.ControlRequest]
    ) -> AsyncIterator[fleet.ControlResponse]:
        """Answer one stream, from Hello to its end."""
        try:
            hello = await self._hello(caller, requests)
            session = await self._connect(caller, hello)
        except _ProblemError as problem:
            _LOG.warning("%s at %s: refused: %s", caller.vehicle or "a caller", caller.peer, problem)
            yield problem.response
            return
        listening = asyncio.create_task(self._listen(session, requests))
        try:
            session.assigned = await self._assigner.of(session.vehicle)
            yield self._welcome(session, shows_tokens=hello.HasField("session_token"))
            if session.assigned is not None:
                yield fleet.ControlResponse(assignment=session.assigned)
            if self.release_counter > hello.status.model.release_counter:
                yield _nudge(self.release_counter)
            while (response := await session.outgoing.get()) is not None:
                yield response
        finally:
            listening.cancel()
            await self._disconnect(session)

    def nudge(self, release_counter: int) -> None:
        """Tell every connected vehicle, and those that come later, that there may be something new."""
        self.release_counter = release_counter
        for session in self._sessions:
            session.offer(_nudge(release_counter))

    def assign(self) -> None:
        """Tell each connected vehicle whose assignment is another one now."""
        for session in self._sessions:
            assignment = self._assigner.known(session.vehicle)
            if assignment is None or assignment == session.assigned:
                continue
            if session.offer(fleet.ControlResponse(assignment=assignment)):
                session.assigned = assignment

    def stop(self) -> None:
        """End every stream, and take no more."""
        self._stopping = True
        for session in self._sessions:
            session.end(_shutting_down().response)

    async def _hello(self, caller: Caller, requests: AsyncIterator[fleet.ControlRequest]) -> fleet.Hello:
        if caller.standing is Standing.REVOKED:
            raise _ProblemError(
                fleet.PROBLEM_CODE_REVOKED, f"{caller.vehicle} or its certificate was revoked"
            )
        if caller.standing is Standing.UNKNOWN:
            raise _ProblemError(fleet.PROBLEM_CODE_UNKNOWN_VEHICLE, "not enrolled here")
        if caller.standing is Standing.ENDED:
            raise _ProblemError(fleet.PROBLEM_CODE_UNKNOWN_VEHICLE, caller.standing.value)
        try:
            first = await asyncio.wait_for(anext(requests), HELLO_TIMEOUT_S)
        except (StopAsyncIteration, asyncio.TimeoutError):
            raise _ProblemError(fleet.PROBLEM_CODE_MALFORMED, "no Hello came") from None
        _check_size(first)
        if first.WhichOneof("message") != "hello":
            raise _ProblemError(fleet.PROBLEM_CODE_MALFORMED, "the first message was no Hello")
        hello = first.hello
        if handshake.agree(handshake.supported(), hello.protocol) is None:
            raise _ProblemError(
                fleet.PROBLEM_CODE_PROTOCOL,
                f"protocol {hello.protocol.oldest} to {hello.protocol.newest} is not spoken here",
            )
        if not 0 < len(hello.instance_id) <= MAX_INSTANCE_ID or not hello.instance_id.isprintable():
            raise _ProblemError(fleet.PROBLEM_CODE_MALFORMED, "hello.instance_id: empty or too long")
        return hello

    async def _connect(self, caller: Caller, hello: fleet.Hello) -> Session:
        await self._make_way(caller, hello)
        if self._stopping:
            raise _shutting_down()
        earlier = self._sessions.of(caller.vehicle)
        if earlier is not None:  # of the same daemon, or of one that is gone
            earlier.end()
        elif len(self._sessions) >= self._serve.max_vehicles:
            raise _ProblemError(
                fleet.PROBLEM_CODE_OVERLOADED, "as many vehicles as are served at a time", RETRY_AFTER_MS
            )
        session = Session(caller.vehicle, hello.instance_id, caller.peer, caller.certificate)
        self._sessions.enter(session)
        try:
            if not await self._submit(_record_of(session, hello), hello.ByteSize()):
                raise _ProblemError(fleet.PROBLEM_CODE_REVOKED, f"{caller.vehicle} was revoked")
        except ClosedError:
            self._sessions.leave(session)
            raise _shutting_down() from None
        except BaseException:
            self._sessions.leave(session)
            raise
        _LOG.info("%s: connected from %s, daemon %s", caller.vehicle, caller.peer, hello.daemon_version)
        return session

    async def _make_way(self, caller: Caller, hello: fleet.Hello) -> None:
        """Refuse who comes beside another instance that lives.

        Who shows the token that was given last is the vehicle, back before its old stream was given up, or a
        copy of its disk: the old one is asked whether it still lives, and gives way where it says nothing.
        """
        while (rival := await self._rival(caller.vehicle, hello.instance_id, None)) is not None:
            rival.meets(hello.instance_id, caller.peer)
            follows = bool(hello.session_token) and (
                await self._link(caller.vehicle, hello) is Link.CONTINUES
            )
            if not follows or await rival.answers(KNOCK_S):
                raise _ProblemError(
                    fleet.PROBLEM_CODE_IDENTITY_IN_USE,
                    Standing.IN_USE.value,
                    int(2000 * self._serve.heartbeat_interval_s),
                )
            if self._sessions.of(caller.vehicle) is rival:  # it is the one that the token was given to
                _LOG.info("%s: back from %s before its old stream ended", caller.vehicle, caller.peer)
                rival.rival = None
                return

    async def _report(self, twice: IdentityInUse, vehicle: str) -> None:
        """Write down that an identity is on two computers: both were heard from."""
        _LOG.error(
            "%s: the identity is used twice: %s is connected, %s came from %s",
            vehicle,
            twice.connected,
            twice.refused or "another",
            twice.peer,
        )
        await self._record(vehicle, twice)

    async def _listen(self, session: Session, requests: AsyncIterator[fleet.ControlRequest]) -> None:
        """Take what a vehicle says until it ends, falls silent or breaks the contract."""
        silent_s = SILENT_HEARTBEATS * self._serve.heartbeat_interval_s
        try:
            while True:
                request = await asyncio.wait_for(anext(requests), silent_s)
                session.hears()
                if (twice := session.to_report()) is not None:
                    await self._report(twice, session.vehicle)
                await self._take(session, request)
        except StopAsyncIteration:
            await session.outgoing.put(None)  # after the receipts that are still on their way
        except asyncio.TimeoutError:
            _LOG.warning("%s: silent for %.0f s", session.vehicle, silent_s)
            session.end()
        except _ProblemError as problem:
            _LOG.warning("%s: %s", session.vehicle, problem)
            session.end(problem.response)
        except ClosedError:
            session.end(_shutting_down().response)
        except Exception:  # noqa: BLE001 - the top of this stream's task
            _LOG.exception("%s: the control stream failed", session.vehicle)
            session.end()

    async def _take(self, session: Session, request: fleet.ControlRequest) -> None:
        _check_size(request)
        kind = request.WhichOneof("message")
        if kind is None:
            return  # a newer vehicle's
        if kind == "hello":
            raise _ProblemError(fleet.PROBLEM_CODE_MALFORMED, "a second Hello")
        message: Message = getattr(request, kind)
        if isinstance(message, fleet.CommandResult) and message.command_id == KNOCK_ID:
            return
        if isinstance(message, fleet.DriftEvent) and (problem := problem_of(message)):
            raise _ProblemError(fleet.PROBLEM_CODE_MALFORMED, problem)
        if not await self._record(session.vehicle, message):
            raise _ProblemError(fleet.PROBLEM_CODE_REVOKED, f"{session.vehicle} was revoked")
        if isinstance(message, fleet.DriftEvent):
            receipt = fleet.DriftEventReceipt(drift_event_id=message.id)
            await session.outgoing.put(fleet.ControlResponse(drift_event_receipt=receipt))

    async def _record(self, vehicle: str, message: Message) -> bool:
        size = 0 if isinstance(message, (Disconnected, IdentityInUse)) else message.ByteSize()
        return await self._submit(Record(vehicle, message), size)

    async def _submit(self, record: Record, size_bytes: int) -> bool:
        return await (await self._records.submit(record, size_bytes))

    async def _disconnect(self, session: Session) -> None:
        self._sessions.leave(session)
        if self._sessions.of(session.vehicle) is None:  # else a newer one is connected
            _LOG.info("%s: disconnected", session.vehicle)
            with suppress(ClosedError):
                await self._record(session.vehicle, Disconnected(session.instance_id))

    def _welcome(self, session: Session, *, shows_tokens: bool) -> fleet.ControlResponse:
        welcome = fleet.Welcome(
            protocol_version=handshake.NEWEST_PROTOCOL,
            protocol=handshake.supported(),
            server_version=package_version("traffic-vision"),
            server_wall_ns=time_ns(),
            heartbeat_interval_ms=int(1000 * self._serve.heartbeat_interval_s),
            sample_limit_bytes=self._limits.sample_bytes,
            samples_in_flight_limit=self._limits.in_flight,
            assigns_releases=session.assigned is not None,
            session_token=session.token if shows_tokens else b"",
        )
        return fleet.ControlResponse(welcome=welcome)


def _record_of(session: Session, hello: fleet.Hello) -> Record:
    return Record(session.vehicle, hello, session.peer, digest(session.token))


def _check_size(request: fleet.ControlRequest) -> None:
    size_bytes = request.ByteSize()
    if size_bytes > MAX_MESSAGE_BYTES:
        raise _ProblemError(
            fleet.PROBLEM_CODE_MALFORMED, f"{size_bytes} bytes, at most {MAX_MESSAGE_BYTES} are taken"
        )


def _nudge(release_counter: int) -> fleet.ControlResponse:
    return fleet.ControlResponse(update_nudge=fleet.UpdateNudge(release_counter=release_counter))


def _shutting_down() -> _ProblemError:
    return _ProblemError(fleet.PROBLEM_CODE_SHUTTING_DOWN, "the server stops", RETRY_AFTER_MS)
