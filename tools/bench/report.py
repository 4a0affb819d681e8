"""What a benchmark prints: one JSON object, or tables for people."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """A value and what it is held to. The unit is in the name.

    Attributes:
        name: what was measured.
        value: how much.
        target: the limit.
        at_least: the value must reach the target; otherwise it must not exceed it.
    """

    name: str
    value: float
    target: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the value is on the right side of the target, or on it."""
        return self.value >= self.target if self.at_least else self.value <= self.target

    def to_json(self) -> dict[str, Any]:
        """`name`, `value`, `target` and `met`; `at_least` where that is what is asked."""
        fields = {"name": self.name, "value": self.value, "target": self.target, "met": self.met}
        return {**fields, "at_least": True} if self.at_least else fields

    def to_text(self) -> str:
        """One line."""
        verdict = "met" if self.met else "MISSED"
        side = "at least" if self.at_least else "at most"
        return f"{verdict:<7} {self.name}: {self.value:g} (target: {side} {self.target:g})"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows for people: a title, the columns' names and values; the first column is text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]

    def to_text(self) -> str:
        """Columns aligned, numbers to the hundredth."""
        cells = [list(self.columns), *([_cell(value) for value in row] for row in self.rows)]
        widths = [max(len(row[index]) for row in cells) for index in range(len(self.columns))]
        lines = [
            "  ".join(
                cell.ljust(width) if index == 0 else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        ]
        return "\n".join([self.title, *(f"  {line}" for line in lines)])


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one benchmark.

    Attributes:
        bench: its name.
        figures: what was measured, as JSON values; units are in the names.
        targets: what it is held to.
        tables: the same for people.
        notes: lines for people below the tables.
    """

    bench: str
    figures: Mapping[str, Any]
    targets: Sequence[Target]
    tables: Sequence[Table]
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """One JSON object: `bench`, `machine`, `figures`, `targets`."""
        return {
            "bench": self.bench,
            "machine": machine(),
            "figures": dict(self.figures),
            "targets": [target.to_json() for target in self.targets],
        }

    def to_text(self) -> str:
        """Tables, notes and one line a target."""
        parts = [table.to_text() for table in self.tables]
        if self.notes:
            parts.append("\n".join(self.notes))
        parts.append("\n".join(target.to_text() for target in self.targets))
        return "\n\n".join(parts)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": _cpu(), "cores": cores, "system": platform.system(), "python": platform.python_version()}


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cell(value: str | float | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.2f}"
