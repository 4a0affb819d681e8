"""A channel whose certificate can change while it is in use: gRPC reads it once, when a channel is made."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc

from protos.handshake import INSTANCE_METADATA


class RenewableChannel(grpc.Channel):
    """Hands each new call to the channel of the newest certificate. From any thread.

    The fleet's service has streams alone, and no more is here.
    """

    def __init__(self, open_one: Callable[[], grpc.Channel], instance_id: str = "") -> None:
        """Open the first.

        Args:
            open_one: opens a channel with the certificate as it is now, and raises where it can't.
            instance_id: each call says it: by it the cloud knows a call over a new connection, while that of
                the control stream still stands, from one of a copy of the identity. Empty: none says any.
        """
        self._open_one = open_one
        self._metadata = ((INSTANCE_METADATA, instance_id),) if instance_id else ()
        self._lock = threading.Lock()
        self._current = open_one()
        self._closed = False

    def renew(self) -> None:
        """Open one with the certificate as it is now; calls under way are cut, for their callers to repeat.

        Raises:
            ChannelError: it cannot be opened; the one before stays.
        """
        fresh = self._open_one()
        with self._lock:
            old, self._current = (fresh, self._current) if self._closed else (self._current, fresh)
        old.close()

    def unary_stream(self, method: str, *arguments: Any, **more: Any) -> Any:
        """See grpc.Channel."""
        return lambda *call, **options: self._call("unary_stream", method, arguments, more, call, options)

    def stream_stream(self, method: str, *arguments: Any, **more: Any) -> Any:
        """See grpc.Channel."""
        return lambda *call, **options: self._call("stream_stream", method, arguments, more, call, options)

    def unary_unary(self, method: str, *arguments: Any, **more: Any) -> Any:
        """Stubs ask for it only where a service has such a method."""
        raise NotImplementedError(f"{method}: of the fleet's service, streams alone are served")

    def stream_unary(self, method: str, *arguments: Any, **more: Any) -> Any:
        """Stubs ask for it only where a service has such a method."""
        raise NotImplementedError(f"{method}: of the fleet's service, streams alone are served")

    def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None:
        """Nobody does."""
        raise NotImplementedError("the state of a channel that changes is nobody's business")

    def unsubscribe(self, callback: Any) -> None:
        """Nobody does."""
        raise NotImplementedError("the state of a channel that changes is nobody's business")

    def close(self) -> None:
        """Cut every call, and take no more. May be called twice."""
        with self._lock:
            self._closed = True
            self._current.close()

    def __enter__(self) -> RenewableChannel:
        """Itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()

    def _call(
        self,
        kind: str,
        method: str,
        arguments: tuple[Any, ...],
        more: dict[str, Any],
        call: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        options["metadata"] = (*(options.get("metadata") or ()), *self._metadata)
        # A stream begins without waiting, so that this is held for no time that counts; without it, a call
        # could begin on a channel that `renew` has just closed.
        with self._lock:
            if self._closed:
                # In gRPC's words: itself, it dies of a method's first call on a closed channel (1.85).
                raise ValueError("Cannot invoke RPC on closed channel!")
            return getattr(self._current, kind)(method, *arguments, **more)(*call, **options)
