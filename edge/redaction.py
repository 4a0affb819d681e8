"""Passwords stay out of what people and files get to read: logs, errors, status."""

from __future__ import annotations

import re

# The user's part of a URL (RFC 3986, section 3.2.1), up to the last @ before the path; or up to the last @ of
# all, where a colon is before it: people write a / in a password as it is.
_USERINFO = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)(?:[^\s'\"]*:[^\s'\"]*|[^/\s'\"]*)@")
# Cameras without it take user and password in the query, or in the path ("/user=admin_password=x_channel=1").
_NAMED = re.compile(
    r"((?<![a-zA-Z])(?:[a-z]+[-_])?(?:password|passwd|passphrase|pass|pwd|pw|token|secret|api_?key|auth)=)"
    r"[^&;/\s'\"]+",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """The text without its credentials: `***` for each URL's user and password, and each `password=...`."""
    return _NAMED.sub(r"\1***", _USERINFO.sub(r"\1***@", text))
