"""A progress bar for people, silent for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def progress_bar(what: str, unit: str = "image") -> Callable[[Iterable[Any]], Iterable[Any]]:
    """Make a wrapper that shows on standard error how far an iteration is, if that is a terminal."""

    def wrap(items: Iterable[Any]) -> Iterable[Any]:
        from tqdm import tqdm

        # disable=None: tqdm itself finds out whether its file is a terminal.
        return tqdm(items, desc=what, unit=unit, disable=None, leave=False)

    return wrap
