"""What is done with the slots of a vehicle in the whole life of updates, step by step.

In place of gRPC a stub in this process reads the repository's files, so that the process may fork.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from cloud.release import serving
from edge.updates.client import UpdateClient, UpdateResult
from edge.updates.inbox import ROLLBACK, Inbox
from edge.updates.models import SlotModels
from edge.updates.roll_back import LAST_GOOD, grant
from edge.updates.slots import Slots

BY_BUNDLE = 6  # the release that no network brings; another root comes with it

Action = Callable[["Slots", "Client"], Any]


class _RpcError(grpc.RpcError, grpc.Call):
    """An RPC's end, as gRPC raises it."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(code)
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "on purpose"

    def _none(self, *_: object) -> Any:
        raise AssertionError("no vehicle asks for it")

    # grpc.Call, by which an error's status is known, is abstract in all of these.
    initial_metadata = trailing_metadata = is_active = time_remaining = cancel = add_callback = _none


class _Call:
    """The client's end of a stream."""

    def __init__(self, chunks: Iterator[Any], cut_after: int | None) -> None:
        self._chunks, self._left = chunks, cut_after

    def __iter__(self) -> _Call:
        return self

    def __next__(self) -> Any:
        if self._left == 0:
            raise _RpcError(grpc.StatusCode.UNAVAILABLE)
        if self._left is not None:
            self._left -= 1
        try:
            return next(self._chunks)
        except serving.NoSuchFileError:
            raise _RpcError(grpc.StatusCode.NOT_FOUND) from None

    def cancel(self) -> None:
        """Nothing runs."""


class Stub:
    """The fleet service's two file streams, over a repository's folder, without a network."""

    def __init__(self, folder: Path, cut_after: int | None = None) -> None:
        self._folder, self._cut_after = folder, cut_after

    def FetchMetadata(self, request: Any, timeout: float) -> _Call:
        return _Call(serving.fetch_metadata(self._folder, request), None)

    def FetchTarget(self, request: Any, timeout: float) -> _Call:
        return _Call(serving.fetch_target(self._folder, request), self._cut_after)


@dataclass(frozen=True)
class Step:
    """One thing that is done with the slots.

    Attributes:
        name: for people.
        cloud: how many releases there are.
        action: takes open slots and a client.
        cut: its transfer of a file breaks after a chunk.
    """

    name: str
    cloud: int
    action: Action
    cut: bool = False

    @property
    def is_check(self) -> bool:
        """It looks for a release, and another look brings it on."""
        return self.action in (check, install, install_unsigned)


class Client(UpdateClient):
    """One that has a stick at hand, and a model of its own."""

    stick: Path
    own: Path


def check(slots: Slots, client: Client) -> UpdateResult:
    """A look for releases."""
    return client.check()


def install(slots: Slots, client: Client) -> UpdateResult:
    """A bundle by hand."""
    return client.install(client.stick)


def drop_candidate(slots: Slots, client: Client) -> None:
    """The candidate failed its check."""
    candidate = slots.candidate()
    if candidate is not None:
        slots.mark_bad(candidate.digest, "on purpose")


def lose_active(slots: Slots, client: Client) -> None:
    """The disk broke the active slot."""
    slots.lose(slots.state.active, "on purpose")


def wish(slots: Slots, client: Client) -> None:
    """A command beside the daemon leaves its wish."""
    inbox_of(slots).wish(LAST_GOOD, ROLLBACK)


def granted(slots: Slots, client: Client) -> None:
    """As the daemon does with what lies in its inbox."""
    inbox = inbox_of(slots)
    given = inbox.next()
    if given is not None:
        inbox.answer(given, grant(given, SlotModels(slots), None))


def install_unsigned(slots: Slots, client: Client) -> UpdateResult:
    """A model that nobody signed, by hand."""
    return client.install_unsigned(client.own)


def inbox_of(slots: Slots) -> Inbox:
    return Inbox(slots.staging.parent.parent)


def raise_floors(slots: Slots, client: Client) -> None:
    """As a look does that finds a later time."""
    slots.raise_floors(release=5, clock_s=slots.state.clock_floor_s + 60)


STEPS = (
    Step("first start", 1, lambda slots, client: slots.boot()),
    Step("cut download", 1, check, cut=True),
    Step("resumed download", 1, check),
    Step("activate", 1, lambda slots, client: slots.activate()),
    Step("start in probation", 1, lambda slots, client: slots.boot()),
    Step("pause", 1, lambda slots, client: slots.pause(10, 20)),
    Step("confirm", 1, lambda slots, client: slots.confirm()),
    Step("second release, another root", 2, check),
    Step("activate the second", 2, lambda slots, client: slots.activate()),
    Step("revert", 2, lambda slots, client: slots.revert("on purpose")),
    Step("third release", 3, check),
    Step("fourth release in its place", 4, check),
    Step("mark bad", 4, drop_candidate),
    Step("fifth release", 5, check),
    Step("activate the fifth", 5, lambda slots, client: slots.activate()),
    Step("start with the fifth", 5, lambda slots, client: slots.boot()),
    Step("confirm the fifth", 5, lambda slots, client: slots.confirm()),
    Step("start with a confirmed one", 5, lambda slots, client: slots.boot()),
    Step("excuse it", 5, lambda slots, client: slots.excuse_start()),
    Step("start with it again", 5, lambda slots, client: slots.boot()),
    Step("run well", 5, lambda slots, client: slots.ran_well()),
    Step("raise floors", 5, raise_floors),
    Step("lose the active slot", 5, lose_active),
    Step("fifth release again", 5, check),
    Step("activate it", 5, lambda slots, client: slots.activate()),
    Step("confirm it", 5, lambda slots, client: slots.confirm()),
    Step("roll back by hand", 5, lambda slots, client: slots.roll_back("on purpose")),
    Step("sixth release, a bundle with another root", BY_BUNDLE, install),
    Step("activate the sixth", BY_BUNDLE, lambda slots, client: slots.activate()),
    Step("confirm the sixth", BY_BUNDLE, lambda slots, client: slots.confirm()),
    Step("one that nobody signed", BY_BUNDLE, install_unsigned),
    Step("activate what nobody signed", BY_BUNDLE, lambda slots, client: slots.activate()),
    Step("confirm what nobody signed", BY_BUNDLE, lambda slots, client: slots.confirm()),
    Step("wish a rollback", BY_BUNDLE, wish),
    Step("grant the wish", BY_BUNDLE, granted),
)
