"""What the daemon logs of frames, kept from the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def only_errors_logged() -> Iterator[None]:
    """Tell only errors: what else the daemon logs of frames stands in the outputs."""
    logger = logging.getLogger("edge")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
