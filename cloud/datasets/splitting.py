"""Splits that put a whole drive on one side, and leave it there when data is added."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping

from cloud.datasets.dataset import DatasetError

FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}

_SPLIT_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
# Keys of data.yaml that mean something else, and files of the folder.
_RESERVED = {"path", "names", "nc", "download", "channels", "kpt_shape", "flip_idx", "classes"}


def check_split_name(name: str) -> None:
    """Refuse a name that cannot be a list's and a key's of data.yaml.

    Raises:
        DatasetError: the name is not a lower-case word, or has another meaning there.
    """
    if not _SPLIT_NAME.match(name) or name in _RESERVED:
        raise DatasetError(f"split name {name!r} must be a lower-case word, such as train, val or test")


def parse_fractions(text: str) -> dict[str, float]:
    """Read "train=0.8,val=0.1,test=0.1".

    Raises:
        DatasetError: it is not of that form, a name cannot be a split's, or the fractions do not add up to 1.
    """
    fractions: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (word.strip() for word in part.partition("="))
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not name or name in fractions or not 0 <= number <= 1:
            raise DatasetError(f"fractions {text!r}: {part!r} is not NAME=PART, a part from 0 to 1")
        check_split_name(name)
        fractions[name] = number
    if not math.isclose(sum(fractions.values()), 1, abs_tol=1e-6):
        raise DatasetError(f"fractions {text!r} add up to {sum(fractions.values()):g}: make them 1")
    return fractions


def split_of_drive(drive: str, fractions: Mapping[str, float], salt: str = "") -> str:
    """Choose a drive's split from its name alone.

    The first 64 bits of SHA-256(salt, drive) are a number from 0 to 1; the fractions, in their order,
    divide that range. So a drive's side depends on no other drive.

    Args:
        drive: its name.
        fractions: split name to its part of all drives; they add up to 1.
        salt: another one gives another split of the same drives.
    """
    digest = hashlib.sha256(f"{salt}\0{drive}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    end = 0.0
    for name, fraction in fractions.items():
        end += fraction
        if place < end:
            return name
    return [name for name, fraction in fractions.items() if fraction > 0][-1]
