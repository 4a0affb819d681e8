"""What Label Studio is started with. The standard library alone: its environment has nothing of ours."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from cloud.fleet.private_files import write_private_file
from edge.errors import TrafficVisionError

USER = "labels@localhost"
# The server's limit; a longer one is cut off, or leaves no user at all.
TOKEN_BYTES = 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server keeps things, and where it listens.

    Attributes:
        folder: absolute.
        port: on loopback.
    """

    folder: Path
    port: int

    @property
    def url(self) -> str:
        """Its address for people and programs on this machine."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def password(self) -> Path:
        """The file with the user's password."""
        return self.folder / "password"

    @property
    def token(self) -> Path:
        """The file with the token for labels.label_studio.token_file."""
        return self.folder / "token"

    def arguments(self) -> list[str]:
        """Of the command `label-studio`; secrets are not among them, which others on this machine can see."""
        return ["start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(self.port)]


def prepare(place: Place) -> tuple[dict[str, str], str]:
    """Make the folder, and at the first start the password and the token.

    Returns:
        The server's environment variables, and what people should know.

    Raises:
        TrafficVisionError: the folder cannot be written.
    """
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
        place.folder.chmod(0o700)
        first = not place.token.is_file()
        if first:
            write_private_file(place.password, f"{secrets.token_urlsafe(15)}\n".encode(), replace=False)
            write_private_file(place.token, f"{secrets.token_hex(TOKEN_BYTES)}\n".encode())
        password, token = place.password.read_text().strip(), place.token.read_text().strip()
    except OSError as error:
        raise TrafficVisionError(f"{place.folder}: cannot be used: {error.strerror}") from None
    return _environment(place, password, token), _told(place, password if first else "")


def _environment(place: Place, password: str, token: str) -> dict[str, str]:
    return {
        "LABEL_STUDIO_BASE_DATA_DIR": str(place.folder / "data"),
        "DJANGO_DB": "sqlite",
        # Used at the first start alone.
        "LABEL_STUDIO_USERNAME": USER,
        "LABEL_STUDIO_PASSWORD": password,
        "LABEL_STUDIO_USER_TOKEN": token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        # Nothing is sent home, and nothing asked for there.
        "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
        "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
        "LABEL_STUDIO_SENTRY_DSN": "",
        "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        # Other pages in the same browser, other names for this machine, and other files on it are none of
        # its business.
        "LABEL_STUDIO_CORS_ALLOW_ALL_ORIGINS": "false",
        "LABEL_STUDIO_ALLOWED_HOSTS": "127.0.0.1,localhost",
        "LABEL_STUDIO_SSRF_PROTECTION_ENABLED": "true",
        "LABEL_STUDIO_ENABLE_LOCAL_FILES_STORAGE": "false",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "false",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_DEBUG": "false",
        "LOG_LEVEL": "WARNING",
    }


def _told(place: Place, password: str) -> str:
    shown = (
        f"password  {password}   (shown this once; it is in {place.password})"
        if password
        else (f"password  in {place.password}")
    )
    return f"""Label Studio: {place.url}   (the first start takes a minute; Ctrl-C ends it)
user      {USER}
{shown}

For cloud.toml:

[labels]
services = ["label-studio"]
[labels.label_studio]
url = "{place.url}"
token_file = "{place.token}"
"""
