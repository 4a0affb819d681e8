"""Passwords stay out of what people and files get to read: logs, errors, status."""

from __future__ import annotations

import re

# The user's part of a URL (RFC 3986, section 3.2.1), up to the last @ before the path.
_USERINFO = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s'\"]*@")


def redact(text: str) -> str:
    """The text with the user and password of every URL in it replaced by `***`."""
    return _USERINFO.sub(r"\1***@", text)
