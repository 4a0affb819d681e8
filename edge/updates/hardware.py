"""What releases are made for: the names that a release and a vehicle must have one of in common."""

from __future__ import annotations

import platform
from collections.abc import Iterable

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}  # other systems' names for the same
_PROVIDERS = {"tensorrt": "trt"}
_SUFFIX = "executionprovider"


def hardware_ids(providers: Iterable[str], machine: str | None = None) -> tuple[str, ...]:
    """Name what a vehicle can run: one id for each execution provider, e.g. `x86_64-cpu`, `aarch64-trt`.

    Args:
        providers: as the configuration has them; `cuda` and `CUDAExecutionProvider` are the same.
        machine: the processor's architecture; this machine's unless given.
    """
    found = (machine or platform.machine()).lower()
    architecture = _MACHINES.get(found, found)
    names = (name.lower().removesuffix(_SUFFIX) for name in providers)
    return tuple(dict.fromkeys(f"{architecture}-{_PROVIDERS.get(name, name)}" for name in names))
