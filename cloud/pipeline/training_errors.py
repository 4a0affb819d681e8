"""What can keep a training from its end."""

from __future__ import annotations

from edge.errors import TrafficVisionError

# What CUDA's libraries say for want of memory, beside torch's own words.
_NO_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class TrainingError(TrafficVisionError):
    """A training cannot start or did not end with a checkpoint."""


def says_out_of_memory(error: BaseException | str) -> bool:
    """Tell whether a GPU had too little memory."""
    text = str(error).lower()
    return any(words.lower() in text for words in _NO_MEMORY)
