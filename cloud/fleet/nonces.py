"""Nonces that are good once, for a while, at the process that gave them. Only spent ones cost memory."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from time import monotonic_ns

VALID_S = 60.0
_TIME_BYTES, _RANDOM_BYTES = 8, 16


class Nonces:
    """Gives and takes back. For one thread at a time."""

    def __init__(self, valid_s: float = VALID_S, clock_ns: Callable[[], int] = monotonic_ns) -> None:
        """With a key of its own: what another process gave is none here.

        Args:
            valid_s: how long one is good.
            clock_ns: never backward.
        """
        self._key = secrets.token_bytes(32)
        self._valid_ns = round(valid_s * 1e9)
        self._clock_ns = clock_ns
        self._spent: dict[bytes, int] = {}  # until when each must be remembered, oldest first

    def make(self) -> bytes:
        """Give one."""
        body = self._clock_ns().to_bytes(_TIME_BYTES, "big") + secrets.token_bytes(_RANDOM_BYTES)
        return body + self._mac(body)

    def spend(self, nonce: bytes) -> bool:
        """Tell whether it is good, and let it be so no more."""
        now_ns = self._clock_ns()
        self._forget(now_ns)
        body, mac = nonce[: _TIME_BYTES + _RANDOM_BYTES], nonce[_TIME_BYTES + _RANDOM_BYTES :]
        if not hmac.compare_digest(mac, self._mac(body)) or nonce in self._spent:
            return False
        if now_ns - int.from_bytes(body[:_TIME_BYTES], "big") > self._valid_ns:
            return False
        self._spent[nonce] = now_ns + self._valid_ns
        return True

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, hashlib.sha256)

    def _forget(self, now_ns: int) -> None:
        while self._spent and next(iter(self._spent.values())) < now_ns:
            del self._spent[next(iter(self._spent))]
