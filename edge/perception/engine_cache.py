"""Engines that a provider built of a model, kept between starts: sealed with a key of this vehicle's.

TensorRT builds an engine for a minute to ten, so it is kept. What is kept is code for the GPU that nobody
signed, derived here of a file that was: so it is bound to that file's digest, and to all that went into it,
by a MAC.

    folder/key                  32 bytes, mode 0600, made at first use; never leaves this machine
    folder/NAME.engines         MAC, what the engines were built of and with, the files of the provider

NAME is the digest of what they were built of and with: the model file, the provider and its options, ONNX
Runtime, the device and its driver (its documentation of TensorRT's caches names these as what makes an engine
unfit; of them the provider checks the device's compute capability alone).

The MAC is HMAC-SHA256 (RFC 2104). Its key is not the vehicle's certificate's: that one is renewed each month,
and a vehicle without a cloud has none.

TensorRT's provider reads and writes a folder by itself. So that the bytes that were checked are the bytes
that it reads, it is given a private folder, new each time and open to this user alone, with what was checked
in memory; what it leaves there is sealed, and the folder removed. To embed the engine in an ONNX file
(`EPContext`) would do without a folder, and has changed its defaults between the releases that are supported
here (1.23 on).

No GPU has run this: it was tested with files that a test writes in the provider's place.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edge.files import atomic_write, lock

MAX_BYTES = 1 << 30  # of all that is kept; what was used longest ago goes first
KEY_BYTES = 32
SUFFIX = ".engines"

_PRIVATE = "traffic-vision-engines-"
_MARK = b"traffic-vision engines 1\n"
_MAC_BYTES = 32
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,250}")
_DEVICE = (  # what names the GPU and its driver where there is one, on a PC and on a Jetson
    "/proc/driver/nvidia/version",
    "/proc/driver/nvidia/gpus/*/information",
    "/proc/device-tree/model",
    "/etc/nv_tegra_release",
)

logger = logging.getLogger(__name__)


def device_identity(root: Path = Path("/")) -> dict[str, str]:
    """What this machine says of its GPU and driver: digests of the files that say it; empty without one."""
    found = {}
    for pattern in _DEVICE:
        for path in sorted(root.glob(pattern.lstrip("/"))):
            with suppress(OSError):
                found[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@contextmanager
def engines(folder: Path, made_of: Mapping[str, Any], max_bytes: int = MAX_BYTES) -> Iterator[Path | None]:
    """Give a private folder with the engines that were kept, for a session that is made meanwhile.

    None where not even that folder can be made.

    What does not check is removed, told once, and built anew. A disk that is full or broken costs the time of
    a build, never a start. Where the session fails, nothing is kept.

    Args:
        folder: of what is kept; made where it is missing.
        made_of: all that decides what an engine is; of JSON's types.
        max_bytes: of all that is kept.
    """
    name = hashlib.sha256(_canonical(made_of)).hexdigest()[:32]
    sealed = folder / f"{name}{SUFFIX}"
    try:
        private, held = _private()
    except OSError as error:
        logger.warning("engines can be neither kept nor used: %s", error)
        yield None
        return
    try:
        key, before = None, b""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            key = _key(folder)
            before = _restored(sealed, key, made_of, private, max_bytes)
        except OSError as error:
            logger.warning("engines in %s cannot be used, they are built anew: %s", folder, error)
        yield private
        if key is not None:
            try:
                _keep(sealed, key, made_of, private, before, max_bytes)
            except OSError as error:
                logger.warning("engines cannot be kept in %s: %s", folder, error)
    finally:
        shutil.rmtree(private, ignore_errors=True)
        os.close(held)


def seal(key: bytes, made_of: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """Write files with their MAC as one document; `unseal` reads back the same."""
    header = _canonical(
        {"made_of": dict(made_of), "files": [[name, len(files[name])] for name in sorted(files)]}
    )
    body = b"".join([len(header).to_bytes(8, "big"), header, *(files[name] for name in sorted(files))])
    return _MARK + _mac(key, body) + body


def unseal(key: bytes, made_of: Mapping[str, Any], document: bytes) -> dict[str, bytes]:
    """The files in a document, by name.

    Raises:
        ValueError: it was not sealed with this key, or is of something else; the message says which.
    """
    begin = len(_MARK) + _MAC_BYTES
    body = document[begin:]
    if document[: len(_MARK)] != _MARK or not hmac.compare_digest(
        document[len(_MARK) : begin], _mac(key, body)
    ):
        raise ValueError("not what this vehicle sealed")
    length = int.from_bytes(body[:8], "big")
    header = json.loads(body[8 : 8 + length])
    if header["made_of"] != json.loads(_canonical(made_of)):
        raise ValueError("of another model, program or device")
    files, at = {}, 8 + length
    for name, size in header["files"]:
        files[name] = body[at : at + size]
        at += size
    return files


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, _MARK + body, "sha256")


def _private() -> tuple[Path, int]:
    """Make a folder that is open to this user alone (mode 0700), and a descriptor that holds it.

    What a process that was killed has left there goes first: nobody holds it.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_PRIVATE}*"):
        with suppress(OSError):  # another user's
            descriptor = _hold(left)
            shutil.rmtree(left, ignore_errors=True)
            os.close(descriptor)
    private = Path(tempfile.mkdtemp(prefix=_PRIVATE))
    return private, _hold(private)


def _hold(folder: Path) -> int:
    descriptor = lock(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    if os.fstat(descriptor).st_uid != os.geteuid():
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "another user's", str(folder))
    return descriptor


def _key(folder: Path) -> bytes:
    path = folder / "key"
    with suppress(FileNotFoundError):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            # Whoever may write to the folder could put a key of their own there.
            is_private = not status.st_mode & 0o077 and status.st_uid == os.geteuid()
            key = file.read(KEY_BYTES + 1)
        if is_private and len(key) == KEY_BYTES:
            return key
        logger.warning("%s is no key that only this user can read: another one is made", path)
    key = secrets.token_bytes(KEY_BYTES)
    atomic_write(path, key, mode=0o600)
    return key


def _restored(sealed: Path, key: bytes, made_of: Mapping[str, Any], private: Path, max_bytes: int) -> bytes:
    """Put what was kept into the private folder; its document, empty where there is none that checks."""
    try:
        if sealed.stat().st_size > max_bytes:
            raise ValueError(f"{sealed.stat().st_size} bytes, at most {max_bytes} are kept")
        document = sealed.read_bytes()
        files = unseal(key, made_of, document)
    except FileNotFoundError:
        return b""
    except (ValueError, KeyError, TypeError) as error:
        logger.warning(
            "%s is removed, and the engines built anew: %s", sealed, error, extra={"event": "engines_refused"}
        )
        sealed.unlink(missing_ok=True)
        return b""
    try:
        for name, data in files.items():
            (private / name).write_bytes(data)
    except OSError:
        for path in private.iterdir():  # half an engine is none
            path.unlink()
        raise
    with suppress(OSError):
        os.utime(sealed)  # used now
    return document


def _keep(
    sealed: Path, key: bytes, made_of: Mapping[str, Any], private: Path, before: bytes, max_bytes: int
) -> None:
    files = {
        path.name: path.read_bytes()
        for path in private.iterdir()
        if path.is_file() and not path.is_symlink() and _FILE.fullmatch(path.name)
    }
    document = seal(key, made_of, files)
    if not files or document == before:
        return
    if len(document) > max_bytes:
        logger.warning("engines of %d bytes are not kept, at most %d are", len(document), max_bytes)
        return
    others = sorted(sealed.parent.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime)
    others = [path for path in others if path != sealed]
    taken = sum(path.stat().st_size for path in others) + len(document)
    for path in others:
        if taken <= max_bytes:
            break
        taken -= path.stat().st_size
        path.unlink(missing_ok=True)
    atomic_write(sealed, document, mode=0o600)
