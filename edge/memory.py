"""Memory that a change of model leaves behind, given back to the system."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Let the allocator return what is free (malloc_trim(3)).

    glibc keeps an arena per thread, and each keeps the holes that a model of tens of MB leaves in it: without
    this, the resident memory grew from 250 to 400 MB over ten changes of a 12 MB model, and with it stayed
    between 190 and 230.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(0)
