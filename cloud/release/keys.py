"""The keys of the TUF roles: who may sign what, and where each private key is.

    root-1, root-2, root-3    two of them sign a new root; keep them away from the server
    targets                   delegates to the role that signs releases; keep it away from the server
    trainer, gate             both sign each release, so that neither alone can
    snapshot, timestamp       online: they only say which releases are current

A folder holds `keys.json` (public keys, and a URI for each private one) and the private keys as PEM files. A
URI is securesystemslib's: a file (`file2:...`, relative to the folder), or a token or service (`hsm:...`,
`awskms:...`), so moving a key into hardware is a change of its URI.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from cloud.datasets.files import write_file
from cloud.release.errors import ReleaseError

SCHEMA = 1
ROOT_KEYS = ("root-1", "root-2", "root-3")
ROOT_THRESHOLD = 2
RELEASE_KEYS = ("trainer", "gate")
NAMES = (*ROOT_KEYS, "targets", *RELEASE_KEYS, "snapshot", "timestamp")

_INDEX = "keys.json"
_FILE_SCHEME = CryptoSigner.SCHEME


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
class KeyRing:
    """The keys of one repository, by the names at the top of this file.

    Attributes:
        folder: that relative file URIs begin at.
        keys: name -> key.
    """

    folder: Path
    keys: dict[str, RoleKey]

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
        key = self._key(name)
        scheme, _, path = key.uri.partition(":")
        try:
            if scheme == _FILE_SCHEME:
                # Not by the URI itself: CryptoSigner takes paths apart at `?` and `#`.
                private = load_pem_private_key((self.folder / path).read_bytes(), None)
                return CryptoSigner(private, _sslib(key.public))
            return Signer.from_priv_key_uri(key.uri, key.public)
        except (OSError, ValueError, TypeError, UnsupportedLibraryError) as error:
            raise ReleaseError(
                f"the private key '{name}' is not at {key.uri}: {error}; bring it there"
            ) from error

    def _key(self, name: str) -> RoleKey:
        if name not in self.keys:
            raise ReleaseError(f"there is no key '{name}' in {self.folder}; there are {', '.join(self.keys)}")
        return self.keys[name]


def create_keys(folder: Path) -> KeyRing:
    """Make a key pair (Ed25519) for each name, private keys with mode 0600. Keys that are there are kept.

    Raises:
        ReleaseError: a key file or the index is there and cannot be read.
        OSError: the folder cannot be written.
    """
    if (folder / _INDEX).exists():
        return load_keys(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = {}
    for name in NAMES:
        path = folder / f"{name}.pem"
        # A run that was cut may have left some: each is used, none is overwritten.
        signer = _read_pem(path) if path.exists() else _new_pem(path)
        keys[name] = RoleKey(signer.public_key, f"{_FILE_SCHEME}:{path.name}")
    ring = KeyRing(folder, keys)
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
        keys = {
            name: RoleKey(Key.from_dict(entry["keyid"], dict(entry["public"])), str(entry["uri"]))
            for name, entry in document["keys"].items()
        }
    except FileNotFoundError:
        raise ReleaseError(f"there are no keys in {folder}: `traffic-vision cloud init` makes them") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReleaseError(f"{path} is no index of keys: {error!r}") from None
    return KeyRing(folder, keys)


def save_keys(ring: KeyRing) -> None:
    """Write the index: after a key went elsewhere or came anew."""
    document = {
        "schema": SCHEMA,
        "keys": {
            name: {"keyid": key.public.keyid, "public": key.public.to_dict(), "uri": key.uri}
            for name, key in ring.keys.items()
        },
    }
    write_file(ring.folder / _INDEX, json.dumps(document, indent=1))


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
        return CryptoSigner(load_pem_private_key(path.read_bytes(), None))
    except (OSError, ValueError, TypeError) as error:
        raise ReleaseError(f"{path} is no private key: {error}") from None


def _sslib(key: Key) -> SSlibKey:
    if not isinstance(key, SSlibKey):
        raise ValueError(f"{key.keytype} keys cannot be in a file")
    return key
