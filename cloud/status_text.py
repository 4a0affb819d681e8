"""The cloud's status as tables for a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from datetime import datetime

from rich import box
from rich.console import Console
from rich.table import Table

from cloud.fleet.rollout_report import PinLine, RolloutLine
from cloud.status import DriftLine, Status


def to_text(status: Status, width: int | None = None) -> str:
    """Lay the status out.

    Args:
        status: what to show.
        width: of the terminal, columns; None: as wide as it is.
    """
    return _laid_out(_tables(status), width)


def rollouts_to_text(
    rollouts: Sequence[RolloutLine], pins: Sequence[PinLine], width: int | None = None
) -> str:
    """Lay the rollouts and pins out, as `to_text` does."""
    return _laid_out(_rollout_tables(rollouts, pins), width)


def _laid_out(tables: Iterable[_Table], width: int | None) -> str:
    console = Console(file=io.StringIO(), width=width or Console().width, highlight=False)
    for title, columns, rows in tables:
        if not rows:
            console.print(f"{title}: none\n")
            continue
        table = Table(
            title=f"{title} ({len(rows)})", title_justify="left", title_style="bold", box=box.SIMPLE
        )
        for column, first in zip(columns, rows[0], strict=True):
            table.add_column(column, justify="right" if isinstance(first, int) else "left")
        for row in rows:
            table.add_row(*(_cell(value) for value in row))
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip()


_Row = Sequence[str | int | datetime | None]
_Table = tuple[str, Sequence[str], Sequence[_Row]]


def _rollout_tables(rollouts: Sequence[RolloutLine], pins: Sequence[PinLine]) -> Iterable[_Table]:
    yield (
        "rollouts",
        ("release", "fleet", "model", "state", "stage", "since", "vehicles", "judged", "next"),
        [
            (
                line.release,
                line.fleet,
                line.model,
                line.state,
                line.stage,
                line.since,
                ", ".join(f"{count} {outcome}" for outcome, count in sorted(line.outcomes.items())),
                ", ".join(f"{count} {name}" for name, count in line.figures.items()),
                line.next,
            )
            for line in rollouts
        ],
    )
    if pins:
        yield (
            "pins",
            ("vehicle", "release", "until", "reason"),
            [(pin.vehicle, pin.release, pin.until, pin.reason) for pin in pins],
        )


def _tables(status: Status) -> Iterable[_Table]:
    yield (
        "vehicles",
        ("name", "state", "last seen", "model", "phase", "release", "drift", "samples"),
        [
            (
                line.name,
                line.state,
                line.last_seen,
                line.model,
                line.phase,
                line.release_counter,
                line.drift,
                line.samples,
            )
            for line in status.vehicles
        ],
    )
    yield (
        "trials",
        ("vehicle", "how it is doing"),
        [(line.name, line.trial) for line in status.vehicles if line.trial],
    )
    unsigned = [(line.name, line.signature) for line in status.vehicles if line.signature]
    if unsigned:
        yield "models that nobody signed", ("vehicle", "what it says"), unsigned
    yield (
        "newest drift",
        ("received", "vehicle", "camera", "verdict", "what has changed", "mAP50, estimated", "samples"),
        [
            (
                line.received,
                line.vehicle,
                line.camera,
                f"{line.verdict} ({line.kind.replace('_', ' ')})" if line.kind else line.verdict,
                _change(line),
                "" if line.estimated_map50_change is None else f"{line.estimated_map50_change:+.3f}",
                line.samples,
            )
            for line in status.drift
        ],
    )
    yield (
        "samples",
        ("state", "samples", "MB"),
        [(line.state, line.samples, round(line.jpeg_bytes / 1e6)) for line in status.samples],
    )
    yield (
        "newest runs",
        ("run", "started", "ended", "state", "dataset", "candidate", "verdict", "why"),
        [
            (
                line.id,
                line.started,
                line.ended,
                line.state,
                line.dataset_version,
                line.candidate,
                line.verdict,
                line.detail,
            )
            for line in status.runs
        ],
    )
    yield (
        "newest releases",
        ("release", "created", "model", "sha256", "verdict"),
        [
            (line.counter, line.created, line.model, line.sha256[:12], line.verdict)
            for line in status.releases
        ],
    )
    yield from _rollout_tables(status.rollouts, status.pins)


def _change(line: DriftLine) -> str:
    """Of an alarm, what the vehicle says; else what it looked at."""
    if line.kind and line.explanation:
        return line.explanation
    return ", ".join(part for part in (line.strongest, line.context) if part)


def _cell(value: str | int | datetime | None) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone():%Y-%m-%d %H:%M:%S}"
    if isinstance(value, int):
        return f"{value:,}"
    # A vehicle's text is no markup.
    return (value or "").replace("[", r"\[")
