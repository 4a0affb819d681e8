"""What one part of `bench drift` found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tools.bench.report import Table, Target


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures as JSON values, what they are held to, and the same for people; see `tools.bench.report`."""

    figures: Mapping[str, Any]
    targets: Sequence[Target] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
