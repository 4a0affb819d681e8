"""The last word in the terminal: the figures beside their targets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tools.demo.plan import ALARM_WITHIN_S, DAY_LOSS, NIGHT_GAIN, RESIDENT_MB
from tools.demo.story import Story
from tools.demo.view import gate_table

# Of wall time; what the training and the judging of models cost is theirs.
_MODEL_WORK = ("train", "validate", "evaluation")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: its name and value for people, what it is held to, and whether it is kept."""

    name: str
    value: str
    target: str = ""
    met: bool | None = None


def figures(report: Mapping[str, Any]) -> list[Figure]:
    """The figures of a report (its JSON) beside their targets.

    On real pictures the night must be better and the day within its interval; there are too few of them for
    the simulation's bounds.
    """
    before, after = report["baseline"], report["candidate"]
    day, night = ((before[f"{name}_map50"], after[f"{name}_map50"]) for name in ("day", "night"))
    if report["mode"] == "simulated":
        night_target, night_met = f"at least x{NIGHT_GAIN:g}", night[1] >= NIGHT_GAIN * night[0]
        day_target, day_met = f"at most {DAY_LOSS:g} less", day[1] >= day[0] - DAY_LOSS
    else:
        night_target, night_met = "more", night[1] > night[0]
        day_target, day_met = "not shown to be less", day[1] >= day[0] - DAY_LOSS
    swap, drift, timings = report["swap"], report["drift"], report["timings"]
    alarm_s = drift["alarm_after_s"]
    found = [
        Figure("night mAP50", f"{night[0]:.3f} -> {night[1]:.3f}", night_target, night_met),
        Figure("day mAP50", f"{day[0]:.3f} -> {day[1]:.3f}", day_target, day_met),
        Figure("frames lost by the swap", str(swap["frames_lost"]), "0", swap["frames_lost"] == 0),
        Figure(
            "gaps around the swap",
            f"{swap['worst_gap_ms']:.1f} ms at worst, {swap['median_gap_ms']:.1f} median",
        ),
        Figure("alarms by day", str(drift["false_alarms_by_day"]), "0", drift["false_alarms_by_day"] == 0),
        Figure(
            "alarm after dusk",
            "none" if alarm_s is None else f"{alarm_s:.0f} s of drive",
            f"within {ALARM_WITHIN_S:.0f} s",
            alarm_s is not None and alarm_s <= ALARM_WITHIN_S,
        ),
        Figure(
            "alarms at night under the new model",
            str(drift["alarms_at_night_after_swap"]),
            "0",
            drift["alarms_at_night_after_swap"] == 0,
        ),
        Figure("samples stored", str(report["samples"]["stored"])),
    ]
    peak = report.get("edge", {}).get("peak_resident_mb")
    if peak:
        found.append(
            Figure(
                "memory of the daemon", f"{peak:.0f} MB", f"under {RESIDENT_MB:.0f} MB", peak < RESIDENT_MB
            )
        )
    total = timings["total_s"]
    rest = 1 - sum(timings.get(f"{name}_s", 0.0) for name in _MODEL_WORK) / total
    found.append(Figure("wall time", f"{total / 60:.1f} min, {rest:.0%} neither training nor evaluation"))
    return found


def print_summary(console: Console, story: Story, folder: Path) -> None:
    """Print the gate's table, and the figures where there is a whole report."""
    if "validate" in story.stages:
        console.print(gate_table(story.stages["validate"]))
    report = json.loads((folder / "report.json").read_text())
    if not report.get("complete", True):
        console.print(Text(f"the loop did not close; what there is: {folder}", style="bold red"))
        return
    table = Table(title="the demonstration", title_justify="left")
    for heading in ("figure", "measured", "target", ""):
        table.add_column(heading)
    for figure in figures(report):
        word = {None: "", True: "met", False: "MISSED"}[figure.met]
        table.add_row(
            figure.name,
            figure.value,
            figure.target,
            Text(word, style="green" if figure.met else "bold red"),
        )
    console.print(table)
    console.print(f"report: {folder / 'report.html'}")
