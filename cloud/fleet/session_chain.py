"""Whether who connects is who connected last: the rule of the session tokens. No network, no database.

At each connection the cloud gives a new random token, which the vehicle keeps and shows at the next (a
rolling code). Of two copies of an identity at most one can show what the cloud gave last, so the other is
found at its own next connection, though the two were never there at the same time.

A vehicle that shows the token before the last has lost the last one: its power failed between getting it and
having it on disk. A copy that was made before then shows the same, so that this one connection proves
nothing, and the next one of the other copy does. A vehicle confirms what is on its disk; from then on, and as
soon as it shows the last one, the token before is worth nothing.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chain:
    """What the cloud knows of a vehicle's tokens: their SHA-256, hex.

    Attributes:
        kept: the last one that the vehicle is known to have kept; None: it has kept none yet.
        given: one that it was given after that and may have kept or lost; None: there is none.
    """

    kept: str | None = None
    given: str | None = None


class Link(enum.Enum):
    """How a connection follows the one before; of those that break the chain, what to tell people."""

    BEGINS = "the first"
    CONTINUES = "the same"
    UNKNOWN = "a session token that is not the last one"
    EMPTY = "no session token, though one was given"
    SILENT = "a daemon that keeps no session tokens, after one that did"

    @property
    def is_broken(self) -> bool:
        """Tell whether another copy of the identity was connected, or the vehicle's state was lost."""
        return self not in (Link.BEGINS, Link.CONTINUES)


def digest(token: bytes) -> str:
    """Give what a token is known by. It is random enough that no salt is needed."""
    return hashlib.sha256(token).hexdigest()


def judge(chain: Chain, shown: str | None) -> Link:
    """Tell how a connection follows the one before.

    Args:
        chain: as it was left.
        shown: `digest` of what the vehicle shows; empty: it has none; None: it says nothing of tokens.
    """
    if chain == Chain():
        return Link.BEGINS
    if shown:
        return Link.CONTINUES if shown in (chain.kept, chain.given) else Link.UNKNOWN
    if chain.kept is None:
        return Link.CONTINUES
    return Link.SILENT if shown is None else Link.EMPTY


def connected(shown: str | None, fresh: str) -> Chain:
    """Give the chain after a connection that was let in, however it followed the one before.

    One that broke the chain begins another: it is told once, not at each connection of a vehicle whose state
    was lost; and of two copies the other one breaks it again.

    Args:
        shown: as of `judge`.
        fresh: `digest` of the token that it is given, if it says anything of tokens.
    """
    return Chain(shown or None, None if shown is None else fresh)


def confirmed(chain: Chain, token: str) -> Chain:
    """Give the chain after the vehicle said what it has on disk; of an older connection it says nothing."""
    return Chain(token) if token == chain.given else chain
