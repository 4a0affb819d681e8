"""What values of the configuration are, and what every section is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from protos.release_facts import role_of_fleet

DEFAULT_LISTEN = "127.0.0.1:50071"

_HOST_PORT = re.compile(r"([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})")
_HTTP = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])(:(?P<port>\d{1,5}))?(/[A-Za-z0-9._~-]+)*/?")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?")
_SQLITE = "sqlite:///"


def absolute(path: Path, info: ValidationInfo) -> Path:
    """Give a path of the configuration's, which is relative to the folder that the file is in."""
    folder: Path = (info.context or {}).get("folder", Path())
    return (folder / path).absolute()


def _as_text(path: object) -> object:
    """A default is a path already, and a reader of JSON expects a text."""
    return str(path) if isinstance(path, Path) else path


def host_port(address: str) -> str:
    """Give an address of the form HOST:PORT; raises ValueError for any other."""
    found = _HOST_PORT.fullmatch(address)
    if found is None or int(found[2]) > 65535:
        raise ValueError('expected "HOST:PORT" (port 0: any free one)')
    return address


def host_and_port(address: str) -> tuple[str, int]:
    """Both parts of an address that is one."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def _http_url(url: str) -> str:
    found = _HTTP.fullmatch(url)
    if found is None or int(found["port"] or 0) > 65535:
        raise ValueError('expected "http[s]://HOST[:PORT][/PATH]", without a user or a password')
    return url.rstrip("/")


def _host(name: str) -> str:
    if not _HOST.fullmatch(name):
        raise ValueError("expected a host's name or IP address, without a port")
    return name


def database_url(url: str, info: ValidationInfo) -> str:
    """A relative path of SQLite's becomes absolute; what else an URL must be, SQLAlchemy says."""
    if url.startswith(_SQLITE) and len(url) > len(_SQLITE):
        return f"{_SQLITE}{absolute(Path(url.removeprefix(_SQLITE)), info)}"
    return url


def remote_url(url: str, info: ValidationInfo) -> str:
    """A path becomes absolute; an URL stays, and carries no password."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return str(absolute(Path(url), info))
    user, at, _ = rest.partition("/")[0].rpartition("@")
    if not scheme or (at and ":" in user):
        raise ValueError("expected a path or an URL without a password: those go into .dvc/config.local")
    return url


def weights_name(weights: str, info: ValidationInfo) -> str:
    """A file that is there becomes absolute; anything else is a name that Ultralytics may know."""
    path = absolute(Path(weights), info)
    return str(path) if path.is_file() else weights


def _fleet(name: str) -> str:
    role_of_fleet(name)
    return name


HostPort: TypeAlias = Annotated[str, AfterValidator(host_port)]
HttpUrl: TypeAlias = Annotated[str, AfterValidator(_http_url)]
Host: TypeAlias = Annotated[str, AfterValidator(_host)]
AbsolutePath: TypeAlias = Annotated[Path, BeforeValidator(_as_text), AfterValidator(absolute)]
Fleet: TypeAlias = Annotated[str, AfterValidator(_fleet)]
Count: TypeAlias = Annotated[int, Field(gt=0)]
Positive: TypeAlias = Annotated[float, Field(gt=0)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """What every section is: strict, closed and unchangeable."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, validate_default=True
    )
