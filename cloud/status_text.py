"""The cloud's status as tables for a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from datetime import datetime

from rich import box
from rich.console import Console
from rich.table import Table

from cloud.status import Status


def to_text(status: Status, width: int | None = None) -> str:
    """Lay the status out.

    Args:
        status: what to show.
        width: of the terminal, columns; None: as wide as it is.
    """
    console = Console(file=io.StringIO(), width=width or Console().width, highlight=False)
    for title, columns, rows in _tables(status):
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


def _tables(status: Status) -> Iterable[tuple[str, Sequence[str], Sequence[_Row]]]:
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
    yield (
        "newest drift",
        ("received", "vehicle", "camera", "verdict", "context", "strongest feature", "samples"),
        [
            (
                line.received,
                line.vehicle,
                line.camera,
                line.verdict,
                line.context,
                line.strongest,
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
        ("run", "started", "ended", "state", "dataset", "candidate", "verdict"),
        [
            (
                line.id,
                line.started,
                line.ended,
                line.state,
                line.dataset_version,
                line.candidate,
                line.verdict,
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


def _cell(value: str | int | datetime | None) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone():%Y-%m-%d %H:%M:%S}"
    if isinstance(value, int):
        return f"{value:,}"
    # A vehicle's text is no markup.
    return (value or "").replace("[", r"\[")
