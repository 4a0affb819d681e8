"""Passwords stay out of what people and files get to read: logs, errors, status."""

from __future__ import annotations

import re

_HIDDEN = "***"
# Cut into words, each of which is looked at once: hostile text of any length takes time in proportion.
_WORD = re.compile(r"[^\s'\"]+")
# Cameras without a user in the URL take it in the query, or in the path ("/user=admin_password=x_channel=1").
_NAMED = re.compile(
    r"((?<![a-zA-Z])(?:[a-z]+[-_])?(?:password|passwd|passphrase|pass|pwd|pw|token|secret|api_?key|auth)=)"
    r"[^&;/\s'\"]+",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """The text without its credentials: `***` for each URL's user and password, and each `password=...`."""
    if "@" in text:
        text = _WORD.sub(lambda word: _without_user(word.group()), text)
    return _NAMED.sub(rf"\1{_HIDDEN}", text) if "=" in text else text


def _without_user(word: str) -> str:
    """Hide the user's part of a URL (RFC 3986, section 3.2.1), and of what was meant as one.

    Where a colon is before the last @, all up to that is hidden: people write a / in a password as it is.
    """
    at = word.rfind("@")
    colon = word.find(":", 0, at) if at > 0 else -1
    if colon < 0:
        return word
    is_url = word.startswith("://", colon)
    start = colon + 3 if is_url else word.rfind("=", 0, colon) + 1
    before = word[start:at]
    if ":" in before or (is_url and "/" not in before):
        return f"{word[:start]}{_HIDDEN}{word[at:]}"
    user, found, _ = before.partition("@")
    if is_url and found and "/" not in user:
        return f"{word[:start]}{_HIDDEN}{word[start + len(user) :]}"
    return word
