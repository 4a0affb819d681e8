from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.serve.http.guard import COOKIE, SESSION_S, Guard, TokenError, read_token

TOKEN = "a-token-that-nobody-guesses"
NOW = 1_800_000_000.0
LOOPBACK = Guard(None, is_loopback=True)
FAR = Guard(TOKEN, is_loopback=False)
LOCAL = {"host": "127.0.0.1:8080"}

text = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=60)


def status(guard: Guard, headers: dict[str, str], path: str = "/metrics", method: str = "GET") -> int:
    refusal = guard.refusal(method, path, headers, NOW)
    return 200 if refusal is None else refusal.status


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "LOCALHOST:8080"]
)
def test_loopback_answers_to_its_own_names(host: str) -> None:
    assert status(LOOPBACK, {"host": host}) == 200


@pytest.mark.parametrize(
    "host", ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8080", "10.0.0.1", "[::2]"]
)
def test_a_name_that_was_made_to_resolve_to_loopback_is_refused(host: str) -> None:
    assert status(LOOPBACK, {"host": host}) == 421
    assert status(LOOPBACK, {"host": host}, "/healthz") == 421


@given(text)
def test_no_host_beside_loopback_passes(host: str) -> None:
    known = host.lower().rpartition(":")[0] or host.lower()
    if known not in ("localhost", "127.0.0.1", "[::1]") and host.lower() not in ("localhost", "127.0.0.1"):
        assert status(LOOPBACK, {"host": host}) == 421


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_only_our_own_origin_is_answered(method: str) -> None:
    assert status(LOOPBACK, {**LOCAL, "origin": "http://127.0.0.1:8080"}, "/detect", method) == 200
    for origin in ("null", "http://evil.example", "http://127.0.0.1:3000", "http://localhost:8080", ""):
        assert status(LOOPBACK, {**LOCAL, "origin": origin}, "/detect", method) == 403


def test_what_pages_of_other_origins_embed_is_refused_and_links_to_us_are_not() -> None:
    for site in ("cross-site", "same-site"):  # another port of this machine is the same site
        embedded = {**LOCAL, "sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
        assert status(LOOPBACK, embedded, "/live/front") == 403
        visit = {**LOCAL, "sec-fetch-site": site, "sec-fetch-mode": "navigate"}
        assert status(LOOPBACK, visit, "/") == 200
        assert status(LOOPBACK, visit, "/reload", "POST") == 403
    assert status(LOOPBACK, {**LOCAL, "sec-fetch-site": "same-origin"}, "/live/front") == 200


def test_the_token_is_asked_for_everywhere_but_at_the_door() -> None:
    for path in (
        "/metrics",
        "/readyz",
        "/detect",
        "/reload",
        "/overview",
        "/live/front",
        "/openapi.json",
        "//",
    ):
        assert status(FAR, {"host": "car.local"}, path) == 401
        assert status(FAR, {"host": "car.local", "authorization": f"Bearer {TOKEN}"}, path) == 200
    for path in ("/healthz", "/", "/login", "/page/live.js"):
        assert status(FAR, {"host": "car.local"}, path) == 200


@given(text)
def test_nothing_beside_the_token_opens(given_token: str) -> None:
    if given_token.strip() != TOKEN:
        for header in (f"Bearer {given_token}", given_token, f"Basic {given_token}"):
            assert status(FAR, {"host": "car", "authorization": header}) == 401
        assert status(FAR, {"host": "car", "cookie": f"{COOKIE}={given_token}"}) == 401
        assert status(FAR, {"host": "car", "cookie": given_token}) == 401


def test_a_session_opens_until_it_ends_and_outlives_the_daemon_but_not_the_token() -> None:
    session = FAR.session(NOW)
    cookie = {"host": "car", "cookie": f"theme=dark; {COOKIE}={session}"}
    assert TOKEN not in session
    again = Guard(TOKEN, is_loopback=False)
    assert again.refusal("GET", "/metrics", cookie, NOW + SESSION_S - 1) is None
    assert again.refusal("GET", "/metrics", cookie, NOW + SESSION_S) is not None
    assert (
        Guard("another-token-for-it", is_loopback=False).refusal("GET", "/metrics", cookie, NOW) is not None
    )


@given(st.integers(0, 10**14), text)
def test_nobody_makes_a_session_up(end: int, proof: str) -> None:
    assert not FAR.is_known({"cookie": f"{COOKIE}={end}.{proof}"}, NOW)
    real = FAR.session(NOW).partition(".")[2]
    assert not FAR.is_known({"cookie": f"{COOKIE}={int(NOW) + SESSION_S + 1}.{real}"}, NOW)


def test_a_token_file_holds_one_long_line_and_errors_do_not_tell_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    assert read_token(path) == TOKEN and not caplog.records
    path.chmod(0o644)
    assert read_token(path) == TOKEN and "chmod 600" in caplog.text
    for bad in (b"", b"short", b"two lines\nof it are none", b"\xff" * 40, b"x" * 2000):
        path.write_bytes(bad)
        with pytest.raises(TokenError, match="expected one line of 16") as error:
            read_token(path)
        assert "short" not in str(error.value)
    with pytest.raises(TokenError, match="cannot be read"):
        read_token(tmp_path / "none")
