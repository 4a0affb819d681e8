"""The keys of the TUF roles: who may sign what, and where each private key is.

    root-1, root-2, root-3    two of them sign a new root; keep them away from the server. Or as many, and so
                              many of them, as the repository was begun with
    targets                   delegates to the role that signs releases; keep it away from the server
    trainer, gate             both sign each release, so that neither alone can
    snapshot, timestamp       online: they only say which releases are current

A fleet with keys of its own has FLEET-trainer and FLEET-gate beside them.

A folder holds `keys.json` (public keys, and a URI for each private one) and the private keys as PEM files. A
URI is securesystemslib's: a file (`file2:...`, relative to the folder), or a token or service (`hsm:...`,
`awskms:...`), so moving a key into hardware is a change of its URI. `offline:` is a key that only another
machine can reach. A key that was exchanged stands under `retired`, so that it never comes back.

A PIN or passphrase, where a key wants one, is asked for on the terminal, or taken from the environment
variable TRAFFIC_VISION_KEY_SECRET.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import stat
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from securesystemslib.exceptions import UnsupportedLibraryError, UnverifiedSignatureError, VerificationError
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from cloud.datasets.files import write_file
from cloud.release.errors import ReleaseError

SCHEMA = 1
ROOT_KEYS = ("root-1", "root-2", "root-3")
ROOT_THRESHOLD = 2
RELEASE_KEYS = ("trainer", "gate")
OTHER_KEYS = ("targets", *RELEASE_KEYS, "snapshot", "timestamp")
NAMES = (*ROOT_KEYS, *OTHER_KEYS)

OFFLINE_URI = "offline:"  # no scheme of securesystemslib's: no machine reaches it by itself

_INDEX = "keys.json"
_ROOT_NAME = re.compile(r"root-\d+")  # no fleet's key: those end in its step
_FILE_SCHEME = CryptoSigner.SCHEME
_PROBE = b"traffic-vision: is this the private key of the public one?"


@dataclass(frozen=True, slots=True)
class RoleKey:
    """One key pair.

    Attributes:
        public: the public key; its `keyid` names it in metadata.
        uri: where the private key is, in securesystemslib's words.
    """

    public: Key
    uri: str


@dataclass(frozen=True, slots=True)
class RetiredKey:
    """A key that was exchanged for another: it signs nothing that counts any more.

    Attributes:
        name: that it had.
        keyid: its name in metadata.
        uri: where its private key was.
        at: when, ISO 8601.
        reason: why it was revoked; empty: it was rotated, and is not known to be in other hands.
    """

    name: str
    keyid: str
    uri: str
    at: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys of one repository, by the names at the top of this file.

    Attributes:
        folder: that relative file URIs begin at.
        keys: name -> key.
        retired: the keys that were exchanged, the oldest first.
    """

    folder: Path
    keys: dict[str, RoleKey]
    retired: tuple[RetiredKey, ...] = ()

    def public(self, name: str) -> Key:
        """Return a public key.

        Raises:
            ReleaseError: the ring has no key of that name.
        """
        return self._key(name).public

    def signer(self, name: str) -> Signer:
        """Reach for a private key.

        Raises:
            ReleaseError: there is no such key, or it is not where its URI says (an offline key, a token that
                is not plugged in).
        """
        return signer_at(self._key(name), self.folder, name)

    @property
    def root_names(self) -> list[str]:
        """The names of root's keys."""
        return [name for name in self.keys if _ROOT_NAME.fullmatch(name)]

    def name_of(self, keyid: str) -> str:
        """Return the name of a key in the ring; of a retired or strange one, its id's beginning."""
        found = [name for name, key in self.keys.items() if key.public.keyid == keyid]
        found += [f"{key.name} (retired)" for key in self.retired if key.keyid == keyid]
        return found[0] if found else keyid[:8]

    def release_key(self, step: str, fleet: str | None = None) -> str:
        """Return which key signs a fleet's releases: its own where it has one.

        Args:
            step: "trainer" or "gate".
            fleet: None for the releases of all vehicles without one.
        """
        own = f"{fleet}-{step}"
        return own if fleet is not None and own in self.keys else step

    def file_of(self, key: RoleKey | RetiredKey) -> Path | None:
        """Return the private key's file, where it is one."""
        scheme, _, path = key.uri.partition(":")
        return self.folder / path if scheme == _FILE_SCHEME else None

    def _key(self, name: str) -> RoleKey:
        if name not in self.keys:
            raise ReleaseError(f"there is no key '{name}' in {self.folder}; there are {', '.join(self.keys)}")
        return self.keys[name]


def signer_at(key: RoleKey, folder: Path, name: str) -> Signer:
    """Reach for the private key of `key`; relative files begin at `folder`, and `name` is for the message.

    Raises:
        ReleaseError: it is not where its URI says.
    """
    scheme, _, path = key.uri.partition(":")
    try:
        if scheme == _FILE_SCHEME:
            # Not by the URI itself: CryptoSigner takes paths apart at `?` and `#`.
            return CryptoSigner(_load_private(folder / path), _sslib(key.public))
        return Signer.from_priv_key_uri(key.uri, key.public, partial(_secret, key.uri))
    except (OSError, ValueError, TypeError, UnsupportedLibraryError) as error:
        raise ReleaseError(
            f"the private key '{name}' is not at {key.uri}: {error}; bring it there"
        ) from error


def check_private(key: RoleKey, folder: Path, name: str) -> None:
    """Let the private key sign something, and hold it against the public one.

    Raises:
        ReleaseError: it is not where its URI says, does not sign, or is another key.
    """
    signer = signer_at(key, folder, name)
    try:
        key.public.verify_signature(signer.sign(_PROBE), _PROBE)
    except (UnverifiedSignatureError, VerificationError) as error:
        raise ReleaseError(f"what is at {key.uri} is not the private key of '{name}': {error}") from None
    except Exception as error:  # a signer's own errors are of any kind, so its documentation says
        raise ReleaseError(f"the private key '{name}' at {key.uri} does not sign: {error!r}") from error


def new_key(folder: Path, name: str, generation: int) -> RoleKey:
    """Make a key pair (Ed25519) in a file of its own; one that a run which was cut left there is used.

    Args:
        folder: the ring's.
        name: of the key.
        generation: 1 for the first key of this name, which has no number in its file's name.

    Raises:
        ReleaseError: a file is there that is no private key.
        OSError: it cannot be written.
    """
    path = folder / (f"{name}.pem" if generation == 1 else f"{name}-{generation}.pem")
    return RoleKey(_kept_or_new(path).public_key, f"{_FILE_SCHEME}:{path.name}")


def given_key(folder: Path, uri: str | None, public_file: Path | None) -> RoleKey:
    """Take a key that was made elsewhere.

    Args:
        folder: the ring's; relative file URIs begin there.
        uri: where the private key is; None: where only another machine reaches it.
        public_file: the public key, PEM; may be left out where the private one is a file that is at hand.

    Raises:
        ReleaseError: neither says what the public key is, or a file is no key.
    """
    uri = uri or OFFLINE_URI
    scheme, _, path = uri.partition(":")
    if not scheme or ":" not in uri:
        raise ReleaseError(
            f"{uri!r} is no URI of a key, such as file2:/media/stick/root-1.pem or hsm:2?label=x"
        )
    if public_file is None:
        if scheme != _FILE_SCHEME:
            raise ReleaseError(f"the public key of {uri} is not known: give it as a PEM file")
        return RoleKey(_read_pem(folder / path).public_key, uri)
    try:
        public = SSlibKey.from_crypto(load_pem_public_key(public_file.read_bytes()))
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ReleaseError(f"{public_file} is no public key in PEM that can sign metadata: {error}") from None
    return RoleKey(public, uri)


def move_key(ring: KeyRing, name: str, uri: str, check: bool = True) -> KeyRing:
    """Say that a private key is elsewhere now; the file that it was in is left to its owner.

    Args:
        ring: the keys.
        name: of the key.
        uri: where it is now.
        check: let it sign there first; without, where this machine does not reach it.

    Raises:
        ReleaseError: there is no such key, or it is not there.
        OSError: the index cannot be written.
    """
    ring.public(name)
    moved = RoleKey(ring.keys[name].public, uri)
    if ":" not in uri:
        raise ReleaseError(
            f"{uri!r} is no URI of a key, such as file2:/media/stick/root-1.pem or {OFFLINE_URI}"
        )
    if check:
        check_private(moved, ring.folder, name)
    changed = replace(ring, keys={**ring.keys, name: moved})
    save_keys(changed)
    return changed


def open_to_others(path: Path) -> bool:
    """Say whether a private key's file can be read by more than its owner."""
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def create_keys(folder: Path, root_files: Sequence[Path] = ()) -> KeyRing:
    """Make a key pair (Ed25519) for each name, private keys with mode 0600. Keys that are there are kept.

    Args:
        folder: for the keys.
        root_files: where root's private keys shall be, one each, elsewhere; none: in the folder.

    Raises:
        ReleaseError: a key file or the index is there and cannot be read, or has other root keys.
        OSError: the folder cannot be written.
    """
    root_uris = [f"{_FILE_SCHEME}:{path.absolute()}" for path in root_files]
    if (folder / _INDEX).exists():
        ring = load_keys(folder)
        if root_uris and root_uris != [ring.keys[name].uri for name in ring.root_names]:
            raise ReleaseError(
                f"{folder} has root keys: `keys rotate` and `keys move` exchange and move them"
            )
        return ring
    if len(set(root_uris)) < len(root_uris):
        raise ReleaseError("one file holds one of root's keys")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    elsewhere = {
        f"root-{number}": RoleKey(_kept_or_new(path).public_key, uri)
        for number, (path, uri) in enumerate(zip(root_files, root_uris, strict=True), start=1)
    }
    here = OTHER_KEYS if elsewhere else NAMES
    ring = KeyRing(folder, {**elsewhere, **{name: new_key(folder, name, 1) for name in here}})
    save_keys(ring)
    return ring


def load_keys(folder: Path) -> KeyRing:
    """Read the index. Private keys are looked for only when they are to sign.

    Raises:
        ReleaseError: there is no readable index.
    """
    path = folder / _INDEX
    try:
        document: Any = json.loads(path.read_bytes())
        if document["schema"] != SCHEMA:
            raise ReleaseError(f"{path} has schema {document['schema']!r}, this program reads {SCHEMA}")
        return ring_from(folder, document)
    except FileNotFoundError:
        raise ReleaseError(f"there are no keys in {folder}: `traffic-vision cloud init` makes them") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReleaseError(f"{path} is no index of keys: {error!r}") from None


def save_keys(ring: KeyRing) -> None:
    """Write the index: after a key went elsewhere or came anew."""
    document = {"schema": SCHEMA, **ring_document(ring)}
    write_file(ring.folder / _INDEX, json.dumps(document, indent=1))


def ring_document(ring: KeyRing) -> dict[str, Any]:
    """Return a ring as JSON has it; `ring_from` reads it back."""
    return {
        "keys": {
            name: {"keyid": key.public.keyid, "public": key.public.to_dict(), "uri": key.uri}
            for name, key in ring.keys.items()
        },
        "retired": [asdict(key) for key in ring.retired],
    }


def ring_from(folder: Path, document: dict[str, Any]) -> KeyRing:
    """Read what `ring_document` made.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is no such document.
    """
    keys = {
        str(name): RoleKey(Key.from_dict(entry["keyid"], dict(entry["public"])), str(entry["uri"]))
        for name, entry in document["keys"].items()
    }
    return KeyRing(folder, keys, tuple(RetiredKey(**entry) for entry in document.get("retired", ())))


def _kept_or_new(path: Path) -> CryptoSigner:
    """None is ever overwritten: whatever is there may have signed something."""
    return _read_pem(path) if path.exists() else _new_pem(path)


def _new_pem(path: Path) -> CryptoSigner:
    signer = CryptoSigner.generate_ed25519()
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # never readable to others
    with os.fdopen(handle, "wb") as file:
        file.write(signer.private_bytes)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return signer


def _read_pem(path: Path) -> CryptoSigner:
    try:
        return CryptoSigner(_load_private(path))
    except (OSError, ValueError, TypeError) as error:
        raise ReleaseError(f"{path} is no private key: {error}") from None


def _load_private(path: Path) -> Any:
    data = path.read_bytes()
    try:
        return load_pem_private_key(data, None)
    except TypeError:  # it is encrypted
        return load_pem_private_key(data, _secret(f"{_FILE_SCHEME}:{path}", "passphrase").encode())


@cache
def _secret(uri: str, what: str) -> str:
    """Return the PIN or passphrase of a key; asked for once, since tokens lock themselves after a few tries.

    Raises:
        ValueError: nobody is there who could be asked.
    """
    given = os.environ.get("TRAFFIC_VISION_KEY_SECRET")
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise ValueError(f"it wants a {what}: set TRAFFIC_VISION_KEY_SECRET, or run this on a terminal")
    return getpass.getpass(f"{what} for {uri}: ")


def _sslib(key: Key) -> SSlibKey:
    if not isinstance(key, SSlibKey):
        raise ValueError(f"{key.keytype} keys cannot be in a file")
    return key
