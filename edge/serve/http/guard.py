"""Who may ask: the rules alone, on a request's method, path and headers.

A loopback address is open to programs of this machine, and to what their user's browser is led to do: a page
from elsewhere may post to it across sites, or take a name for itself that resolves to 127.0.0.1 (DNS
rebinding). So the Host must name loopback, and a browser's Origin must be ours. With a token, every request
brings it: as a bearer (RFC 6750), or in a browser as the cookie of a session that was opened with it.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

from edge.errors import TrafficVisionError

logger = logging.getLogger(__name__)

COOKIE = "traffic_vision_session"
SESSION_S = 30 * 24 * 3600
MIN_TOKEN_LENGTH = 16  # of random letters and digits: more than can be tried
MAX_TOKEN_LENGTH = 1024

# What holds no secret: whether it lives, how to log in, and what the page is made of.
_OPEN = re.compile(r"/healthz|/login|/|/page/[a-z0-9.-]+")
_LOOPBACK_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_SAFE_METHODS = frozenset({"GET", "HEAD"})


class TokenError(TrafficVisionError):
    """The token file cannot be used; the message says why, and never what is in it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP status, and why in words."""

    status: int
    reason: str


def read_token(path: Path) -> str:
    """Read the token: one line of printable ASCII.

    Raises:
        TokenError: it cannot be read, or is no token.
    """
    try:
        data, mode = path.read_bytes(), path.stat().st_mode
    except OSError as error:
        raise TokenError(f"http.token_file {str(path)!r} cannot be read: {error.strerror}") from None
    token = data.strip()
    if not re.fullmatch(rb"[\x21-\x7e]{%d,%d}" % (MIN_TOKEN_LENGTH, MAX_TOKEN_LENGTH), token):
        raise TokenError(
            f"http.token_file {str(path)!r} holds no token: expected one line of {MIN_TOKEN_LENGTH} to"
            f" {MAX_TOKEN_LENGTH} letters, digits and signs; `openssl rand -hex 32` makes one"
        )
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        logger.warning(
            "every user of this machine can read the token in %s: chmod 600 keeps it to the daemon's",
            path,
            extra={"event": "token_readable"},
        )
    return token.decode()


class Guard:
    """The rules of one server."""

    def __init__(self, token: str | None, *, is_loopback: bool) -> None:
        """For an address.

        Args:
            token: that requests must bring; None: none needed.
            is_loopback: whether the address is; then the Host must be, too.
        """
        self._token = None if token is None else token.encode()
        self._is_loopback = is_loopback

    @property
    def needs_token(self) -> bool:
        """Whether requests must bring one."""
        return self._token is not None

    def refusal(self, method: str, path: str, headers: Mapping[str, str], now_s: float) -> Refusal | None:
        """Why a request is not answered; None: it is.

        Args:
            method: of the request.
            path: of its URL.
            headers: by lower-case name.
            now_s: Unix time, for sessions.
        """
        host = headers.get("host", "")
        if self._is_loopback and not _LOOPBACK_HOST.fullmatch(host):
            return Refusal(421, "this address is served to programs of this machine, by its loopback names")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return Refusal(403, "requests from pages of other origins are not answered")
        # Browsers send no Origin with what a page embeds; this they do send (Fetch Metadata).
        is_visit = method in _SAFE_METHODS and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not is_visit:
            return Refusal(403, "requests from pages of other origins are not answered")
        if _OPEN.fullmatch(path) or self.is_known(headers, now_s):
            return None
        return Refusal(401, "this needs the token: Authorization: Bearer TOKEN")

    def is_known(self, headers: Mapping[str, str], now_s: float) -> bool:
        """Whether a request brings the token or a session, or needs neither."""
        if self._token is None:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.is_token(given.strip()):
            return True
        try:
            cookies: SimpleCookie = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return COOKIE in cookies and self._is_session(cookies[COOKIE].value, now_s)

    def is_token(self, given: str) -> bool:
        """Whether that is the token, in a time that tells nothing of how much of it is right."""
        return self._token is not None and hmac.compare_digest(self._token, given.encode())

    def session(self, now_s: float) -> str:
        """A session's cookie: its end, and a proof by the token. It outlives the daemon, not the token."""
        end = str(int(now_s) + SESSION_S)
        return f"{end}.{self._proof(end)}"

    def _is_session(self, value: str, now_s: float) -> bool:
        end, _, proof = value.partition(".")
        if not re.fullmatch(r"\d{1,15}", end, re.ASCII):
            return False
        is_ours = hmac.compare_digest(self._proof(end).encode(), proof.encode())
        return is_ours and now_s < int(end) <= now_s + SESSION_S

    def _proof(self, end: str) -> str:
        assert self._token is not None
        return hmac.new(
            self._token, f"traffic-vision session until {end}".encode(), hashlib.sha256
        ).hexdigest()
