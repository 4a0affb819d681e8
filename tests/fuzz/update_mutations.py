"""Signed metadata, changed so that it says something else: by its bytes, and by what JSON makes of them."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata

from tests.fuzz.fuzzing import mutated

_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    -(2**63),
    1e308,
    0.5,
    "",
    "x" * 100_000,
    "\u0000",
    "\u202e\ufeffroot",
    "\ud800",
    "../../etc/passwd",
    "9999-12-31T23:59:59Z",
    "2000-01-01T00:00:00Z",
    "ed25519",
    [],
    {},
    [[]],
    {"": {}},
)
_DEPTH = 3_000


def mutated_metadata(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Metadata near that given, never the same bytes."""
    kinds: tuple[Callable[[Any], Any], ...] = (
        lambda document: _replaced(document, chance),
        lambda document: _dropped(document, chance),
        lambda document: _swapped(document, json.loads(chance.choice(others)), chance),
        lambda document: _signatures(document, chance),
        lambda document: _version(document, chance),
        lambda document: _renamed(document, chance),
    )
    kind = chance.randrange(len(kinds) + 4)
    if kind < len(kinds):
        changed = kinds[kind](json.loads(data))
        return json.dumps(changed, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    if kind == len(kinds):  # said twice: readers differ in which of them they take
        return data.replace(b'"version":', b'"version": 99, "version":', 1) or b"x"
    if kind == len(kinds) + 1:
        nested = b"[" * _DEPTH + b"]" * _DEPTH
        return data.replace(b'"signed":', b'"x":' + nested + b',"signed":', 1)
    if kind == len(kinds) + 2:
        return chance.choice([other for other in others if other != data])
    return mutated(data, chance, others)


def says_the_same(changed: bytes, data: bytes) -> bool:
    """Whether what is signed is what was signed, as TUF reads it: signatures are over a canonical form.

    So blanks say nothing, nor does a `spec_version` of null, in whose place python-tuf reads its own.
    """
    try:
        return Metadata.from_bytes(changed).signed.to_dict() == Metadata.from_bytes(data).signed.to_dict()
    except (RepositoryError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document: what holds it, and its key."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _replaced(document: Any, chance: random.Random) -> Any:
    holder, key = chance.choice(list(_places(document)))
    old = holder[key]
    choices = [value for value in _VALUES if value != old or type(value) is not type(old)]
    if isinstance(old, int):
        choices += [old + 1, old - 1, old * 2, float(old), str(old)]
    if isinstance(old, str) and old:
        at = chance.randrange(len(old))
        choices += [old[:at] + chr(chance.randrange(32, 0x2FF)) + old[at + 1 :], old + " ", old[:-1]]
    holder[key] = copy.deepcopy(chance.choice(choices))
    return document


def _dropped(document: Any, chance: random.Random) -> Any:
    holder, key = chance.choice(list(_places(document)))
    del holder[key]
    return document


def _swapped(document: Any, other: Any, chance: random.Random) -> Any:
    holder, key = chance.choice(list(_places(document)))
    theirs, where = chance.choice(list(_places(other)))
    holder[key] = theirs[where]
    return document


def _signatures(document: Any, chance: random.Random) -> Any:
    signatures = document["signatures"]
    kind = chance.randrange(4)
    if kind == 0:
        signatures.clear()
    elif kind == 1:
        del signatures[chance.randrange(len(signatures))]
    elif kind == 2:
        document["signatures"] = [signatures[0]] * 5
    else:
        for signature in signatures:
            signature["sig"] = chance.randbytes(64).hex()
    return document


def _version(document: Any, chance: random.Random) -> Any:
    document["signed"]["version"] += chance.choice((-1, 1, 2, 1000, 2**40))
    return document


def _renamed(document: Any, chance: random.Random) -> Any:
    holders = [(holder, key) for holder, key in _places(document) if isinstance(holder, dict)]
    holder, key = chance.choice(holders)
    holder[key + chance.choice(("\u0301", " ", "_", "\u0430"))] = holder.pop(key)
    return document
