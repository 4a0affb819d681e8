"""Label Studio's REST interface: tokens of both kinds, and what its answers mean."""

from __future__ import annotations

import logging
import stat
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx

from cloud.labeling.service import LabelServiceError, ServiceAwayError

# For people, with any kind of trouble.
_SHOWN_CHARACTERS = 300
_TOO_MANY_REQUESTS = 429

_LOG = logging.getLogger(__name__)

File = tuple[str, bytes, str]  # name, content, media type


class NotThereError(LabelServiceError):
    """The server answers, and has no such thing."""


class RefusedTokenError(LabelServiceError):
    """The server answers, and does not take the token."""


def read_token(path: Path) -> str:
    """Read a token from a file that holds nothing else.

    Raises:
        LabelServiceError: it cannot be read, or holds something else. The message never shows what.
    """
    try:
        token = path.read_text("ascii").strip()
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            _LOG.warning("%s: others on this machine may read this token: chmod 600", path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise LabelServiceError(
            f"labels.label_studio.token_file {str(path)!r} cannot be read: {reason}; put a token of Label "
            "Studio there (its page Account & Settings makes one, and so does `make label-studio`), chmod 600"
        ) from None
    if not token or not token.isprintable() or " " in token:
        raise LabelServiceError(
            f"labels.label_studio.token_file {str(path)!r}: expected one token and nothing else"
        )
    return token


def is_personal(token: str) -> bool:
    """Tell a personal access token, which is a JSON Web Token, from a legacy one, which is 40 hex digits."""
    return token.count(".") == 2


class LabelStudioClient:
    """One server, with one user's token. A context manager; answers are plain JSON."""

    def __init__(self, url: str, token: str, timeout_s: float) -> None:
        """Connect to nothing yet.

        Args:
            url: of the server, without a slash at its end; it may lie under a path.
            token: of either kind.
            timeout_s: of one request.
        """
        self.url = url
        auth = _PersonalToken(url, token) if is_personal(token) else _LegacyToken(token)
        self._http = httpx.Client(auth=auth, timeout=timeout_s, headers={"Accept": "application/json"})

    def __enter__(self) -> LabelStudioClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def version(self) -> str:
        """Ask which release the server is; raises as `get` does, for a server of another kind too."""
        answer = self.get("/api/version")
        release = answer.get("release") if isinstance(answer, dict) else None
        if not isinstance(release, str):
            raise _other_server(self.url)
        return release

    def get(self, path: str, query: Mapping[str, Any] | Sequence[tuple[str, Any]] = ()) -> Any:
        """Get JSON.

        Args:
            path: from the server's address on, with a slash at its beginning.
            query: parameters.

        Raises:
            ServiceAwayError: nothing answers, or it is overloaded or broken.
            RefusedTokenError: the token is not taken, or may not do this.
            NotThereError: there is no such thing.
            LabelServiceError: it does not want this, or is no Label Studio.
        """
        return self._ask("GET", path, params=dict(query) if isinstance(query, Mapping) else list(query))

    def post(self, path: str, body: Any = None, *, files: Mapping[str, File] | None = None) -> Any:
        """Post JSON or files; raises as `get` does."""
        if files is not None:
            return self._ask("POST", path, files=files)
        return self._ask("POST", path, json=body)

    def patch(self, path: str, body: Any) -> Any:
        """Change something; raises as `get` does."""
        return self._ask("PATCH", path, json=body)

    def delete(self, path: str) -> None:
        """Remove something; one that is not there is as good. Raises as `get` does."""
        with suppress(NotThereError):
            self._ask("DELETE", path)

    @property
    def path_prefix(self) -> str:
        """The path that the server lies under; empty at a host's root."""
        return urlsplit(self.url).path

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        try:
            answer = self._http.request(method, f"{self.url}{path}", **options)
        except httpx.HTTPError as error:
            raise _away(self.url, type(error).__name__) from None
        _judge(self.url, answer, f"{method} {path.partition('?')[0]}")
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError:
            raise _other_server(self.url) from None


class _LegacyToken(httpx.Auth):
    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Token {self._token}"
        yield request


class _PersonalToken(httpx.Auth):
    """Exchanges a personal access token for one that is good for minutes, anew whenever that is over."""

    requires_response_body = True

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token, self._access = url, token, ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if not self._access:
            yield from self._refresh()
        request.headers["Authorization"] = f"Bearer {self._access}"
        answer = yield request
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            yield from self._refresh()
            request.headers["Authorization"] = f"Bearer {self._access}"
            yield request

    def _refresh(self) -> Generator[httpx.Request, httpx.Response, None]:
        path = "/api/token/refresh"
        answer = yield httpx.Request("POST", f"{self._url}{path}", json={"refresh": self._token})
        if answer.status_code == httpx.codes.BAD_REQUEST:  # of another server, or cut short
            raise _refused(self._url, answer.status_code)
        _judge(self._url, answer, f"POST {path}")
        try:
            self._access = str(answer.json()["access"])
        except (ValueError, KeyError, TypeError):
            raise LabelServiceError(
                f"{self._url} gives nothing for a personal access token, which Label Studio 1.18 and newer "
                "do: correct labels.label_studio.url, or use a legacy token"
            ) from None


def _judge(url: str, answer: httpx.Response, what: str) -> None:
    """Raise what an answer means, unless it is a good one."""
    status = answer.status_code
    if answer.is_success:
        return
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise _refused(url, status)
    if status == httpx.codes.NOT_FOUND:
        raise NotThereError(f"{url}: {what}: there is no such thing: is labels.label_studio.url right?")
    if answer.is_server_error or status == _TOO_MANY_REQUESTS:
        raise _away(url, f"{what}: {status} {answer.reason_phrase}")
    if answer.is_redirect:
        raise LabelServiceError(
            f"{url} sends elsewhere, to {_shown(answer.headers.get('Location', ''))}: "
            "set labels.label_studio.url to where it is"
        )
    raise LabelServiceError(f"{url}: {what}: {status} {answer.reason_phrase}: {_shown(answer.text)}")


def _away(url: str, reason: str) -> ServiceAwayError:
    return ServiceAwayError(
        f"Label Studio at {url} does not answer ({reason}): start it (`make label-studio` does on this "
        "machine), or correct labels.label_studio.url"
    )


def _other_server(url: str) -> LabelServiceError:
    return LabelServiceError(f"{url} answers, but not as Label Studio does: correct labels.label_studio.url")


def _refused(url: str, status: int) -> RefusedTokenError:
    return RefusedTokenError(
        f"Label Studio at {url} refuses the token in labels.label_studio.token_file ({status}): put a "
        f"new one there from {url}/user/account; it must be of a user who may manage projects, and of a kind "
        "that the organization allows (its page Organization, API Tokens Settings)"
    )


def _shown(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= _SHOWN_CHARACTERS else f"{plain[:_SHOWN_CHARACTERS]}..."
