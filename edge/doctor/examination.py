"""All subjects, one after the other; what one cannot do is a finding of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge.config import EdgeConfig, load_config
from edge.doctor import (
    addresses,
    cameras,
    certificates,
    clock,
    cloud,
    disk,
    drift,
    heat,
    memory,
    model,
    service,
    tuf_root,
)
from edge.doctor.finding import Finding, failure, ok
from edge.errors import TrafficVisionError

Subject = Callable[[EdgeConfig], list[Finding]]

# What is quick and explains the rest comes first.
SUBJECTS: dict[str, Subject] = {
    "providers": model.providers,
    "model": model.model,
    "drift": drift.drift,
    "cameras": cameras.cameras,
    "disk": disk.disk,
    "memory": memory.memory,
    "clock": clock.clock,
    "certificates": certificates.certificates,
    "cloud": cloud.cloud,
    "updates": tuf_root.tuf_root,
    "addresses": addresses.addresses,
    "heat": heat.heat,
    "service": service.service,
}


def examine(path: Path, subjects: dict[str, Subject] | None = None) -> list[Finding]:
    """Look at everything that the configuration in `path` needs."""
    try:
        config = load_config(path)
    except TrafficVisionError as error:
        return [
            failure("configuration", str(error), "put it right and check again: nothing else was looked at")
        ]
    findings = [ok("configuration", f"{path}: vehicle {config.vehicle}, state in {config.state_folder}")]
    for name, subject in (SUBJECTS if subjects is None else subjects).items():
        try:
            findings += subject(config)
        except Exception as error:  # noqa: BLE001 - a subject's boundary: none stops the others
            said = str(error) if isinstance(error, TrafficVisionError) else f"{type(error).__name__}: {error}"
            findings.append(failure(name, said, f"the look at {name} itself failed"))
    return findings
