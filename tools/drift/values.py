"""Values of a reference's own frames, beside its file: what an exact test needs.

`NAME.values.npz` beside NAME.json holds, for each context and feature, values an autocorrelation time apart:
as good as independent, which is what the textbook's test asks for.
"""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.drift import Reference
from edge.errors import TrafficVisionError
from edge.files import atomic_write

MOST_VALUES = 2_000  # of a feature in a context
_MOST_BYTES = 64_000_000
_DIGEST, _KEYS = "reference_sha256", "keys"

# What numpy and zipfile raise of bytes that are not theirs.
_DAMAGED = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, RuntimeError, SyntaxError, TypeError,
    ValueError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip

Array = npt.NDArray[np.float32]


class ValuesError(TrafficVisionError):
    """A file of values that cannot be read or is of another reference."""


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """Thinned values of a reference's frames.

    Attributes:
        of: by context and feature, `float32[n]` each, all finite.
    """

    of: Mapping[tuple[str, str], Array]

    def beside(self, others: Values | None) -> Values:
        """These and the other contexts' of another."""
        return Values({**(others.of if others else {}), **self.of})


def values_path(reference: Path) -> Path:
    """Where the values of a reference's file are: `day.json` has `day.values.npz` beside it."""
    return reference.with_name(f"{reference.stem}.values.npz")


def values_of(reference: Reference, drives: Sequence[npt.NDArray[np.floating]]) -> Values:
    """Thin the drives that a reference of one context was made of.

    Args:
        reference: whose autocorrelation times are gone by.
        drives: `float[n, F]` each, its features in their order.
    """
    context = reference.contexts[0]
    return Values(
        {
            (context.name, feature.name): thinned([drive[:, column] for drive in drives], feature.tau)
            for column, feature in enumerate(context.features)
            if feature.tails
        }
    )


def thinned(drives: Sequence[npt.NDArray[np.floating]], tau: float) -> Array:
    """Values an autocorrelation time apart; of more than MOST_VALUES, as many evenly over all of it.

    Args:
        drives: `float[n]` each, consecutive frames; NaN where not to be had.
        tau: autocorrelation time, frames.
    """
    step = max(1, math.ceil(tau))
    kept = np.concatenate([np.asarray(drive, np.float32)[::step] for drive in drives])
    kept = kept[np.isfinite(kept)]
    if len(kept) > MOST_VALUES:
        kept = kept[np.linspace(0, len(kept) - 1, MOST_VALUES).round().astype(np.int64)]
    return np.asarray(kept, np.float32)


def save_values(values: Values, reference: Reference, path: Path) -> None:
    """Write them, whole or not at all; they belong to that reference.

    Raises:
        ValuesError: the file cannot be written.
    """
    buffer = io.BytesIO()
    head = {
        _DIGEST: np.array(reference.digest),
        _KEYS: np.array(json.dumps([list(key) for key in values.of])),
    }
    arrays = {str(number): array for number, array in enumerate(values.of.values())}
    np.savez_compressed(buffer, **head, **arrays)  # type: ignore[arg-type]
    try:
        atomic_write(path, buffer.getvalue())
    except OSError as error:
        raise ValuesError(f"cannot write the values {str(path)!r}: {error.strerror}") from None


def load_values(path: Path, reference: Reference) -> Values:
    """Read what is beside a reference; nothing in the file is trusted.

    Raises:
        ValuesError: it is not there, is no such file, or belongs to another reference.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValuesError(f"{str(path)!r} is too large for a file of values")
        with np.load(path, allow_pickle=False) as file:
            sizes = sum(info.file_size for info in file.zip.infolist())
            if sizes > _MOST_BYTES:
                raise ValuesError(f"{str(path)!r} is too large for a file of values")
            found = {name: file[name] for name in file.files}
    except OSError as error:
        raise ValuesError(f"cannot read the values {str(path)!r}: {error.strerror or error}") from None
    except _DAMAGED as error:
        raise ValuesError(f"{str(path)!r} is not a file of values: {error}") from None
    if str(found.pop(_DIGEST, "")) != reference.digest:
        raise ValuesError(
            f"{str(path)!r} belongs to another reference: make both anew with `traffic-vision drift fit`"
        )
    try:
        keys = json.loads(str(found.pop(_KEYS)))
        arrays = [found[str(number)] for number in range(len(keys))]
        values = {
            (str(context), str(feature)): array
            for (context, feature), array in zip(keys, arrays, strict=True)
        }
    except (ValueError, KeyError, TypeError):
        raise ValuesError(f"{str(path)!r} is not a file of values: its keys do not fit its arrays") from None
    for array in values.values():
        if array.ndim != 1 or array.dtype != np.float32 or not np.isfinite(array).all():
            raise ValuesError(f"{str(path)!r} is not a file of values: not all of it is numbers")
    return Values(values)


def values_beside(path: Path, reference: Reference) -> tuple[Values | None, str]:
    """The values beside a reference's file, or None and why there are none."""
    try:
        return load_values(values_path(path), reference), ""
    except ValuesError as error:
        return None, str(error)
