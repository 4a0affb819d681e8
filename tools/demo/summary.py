"""The last word in the terminal: the figures beside what was promised."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tools.demo.story import Story
from tools.demo.view import gate_table

_WORDS = {True: ("kept", "green"), False: ("MISSED", "bold red"), None: ("not measured", "yellow")}


def print_summary(console: Console, story: Story, folder: Path) -> None:
    """Print the gate's table, and the figures where there is a whole report.

    Args:
        console: to print on.
        story: how it went.
        folder: with the report.
    """
    if "validate" in story.stages:
        console.print(gate_table(story.stages["validate"]))
    report = json.loads((folder / "report.json").read_text())
    if not report.get("complete", True):
        console.print(Text(f"the loop did not close; what there is: {folder}", style="bold red"))
        return
    console.print(promises_table(report))
    for line in other_figures(report):
        console.print(Text(line))
    console.print(Text(f"report: {folder / 'report.html'}"))


def promises_table(report: Mapping[str, Any]) -> Table:
    """What a report (its JSON) says of each promise."""
    table = Table(title="the demonstration", title_justify="left")
    for heading in ("what", "asked for", "seen", ""):
        table.add_column(heading)
    for promise in report["promises"]:
        word, style = _WORDS[promise["kept"]]
        table.add_row(promise["what"], promise["asked"], promise["seen"], Text(word, style=style))
    return table


def other_figures(report: Mapping[str, Any]) -> list[str]:
    """Lines of what is shown and not promised."""
    before, after = report["baseline"], report["candidate"]
    lines = [
        f"mAP50 by {name}: {_interval(before, name)} -> {_interval(after, name)}" for name in ("day", "night")
    ]
    swap, samples, wall = report["swap"], report["samples"], report["wall"]
    lines.append(
        f"gaps around the swap: {_ms(swap['worst_gap_ms'])} at worst, {_ms(swap['median_gap_ms'])} median"
    )
    lines.append(f"samples: {samples['shipped']} shipped, {samples['stored']} stored")
    share = wall["share_neither_training_nor_evaluation"]
    lines.append(f"wall time: {wall['seconds'] / 60:.1f} min, {share:.0%} neither training nor evaluation")
    return lines


def _interval(model: Mapping[str, Any], name: str) -> str:
    value, low, high = (model[f"{name}_map50{end}"] for end in ("", "_low", "_high"))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _ms(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f} ms"
