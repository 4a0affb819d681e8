"""The live view: the story as tables for a terminal, and its lines where there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cloud.pipeline.running import STAGES
from cloud.pipeline.training import EpochReport
from cloud.store.states import VerdictKind
from tools.charts.svg import clock
from tools.demo.plan import Scene
from tools.demo.record import DriftPoint
from tools.demo.story import Line, Story

_BAR = 30  # cells
_LINES = 8
_SHOWN = ("", "timeofday")  # kinds of slices; of others only what was not passed
_STYLES = {"alarm": "bold red", "stable": "green", "learning": "yellow", "uncalibrated": "green"}


class Screen:
    """The whole screen; drawn anew from the story whenever rich asks for it."""

    def __init__(self, story: Story, scene: Scene) -> None:
        """Of a story on a scene."""
        self._story = story
        self._scene = scene

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        yield render(self._story, self._scene)


def line_text(line: Line) -> str:
    """A line of the story, for pipes and logs."""
    return f"{clock(line.at_s):>5}  {line.text}"


def render(story: Story, scene: Scene) -> RenderableType:
    """The story at this moment."""
    with story.changed:
        parts = [
            _head(story, scene),
            Panel(_vehicle(story, scene), title="vehicle", title_align="left"),
            Panel(_drift(story.drift[-1:]), title=_drift_title(story.drift[-1:]), title_align="left"),
            Panel(_cloud(story), title="cloud", title_align="left"),
        ]
        parts += [Text(line_text(line), style="dim", no_wrap=True) for line in story.lines[-_LINES:]]
        return Group(*parts)


def _head(story: Story, scene: Scene) -> RenderableType:
    return Text(f"{clock(story.elapsed_s()):>5}  {scene.mode} demonstration: {story.phase}", style="bold")


def _vehicle(story: Story, scene: Scene) -> RenderableType:
    now, frames = story.vehicle, story.vehicle.frames
    grid = Table.grid(padding=(0, 2))
    link = "connected" if now.connected else "not connected"
    grid.add_row(
        Text(f"{scene.light(story.drive_s):5s}", style="bold"),
        f"{story.drive_s:.0f} s of drive",
        f"{now.fps:.0f} frames/s",
        f"{frames.get('published', 0)} of {frames.get('captured', 0)} published",
        f"{now.resident_mb:.0f} MB",
    )
    swap = story.vehicle_log.get("model_swapped")
    gap = f"swapped in {swap['gap_ns'] / 1e6:.1f} ms" if swap else ""
    grid.add_row("model", now.model, now.phase.replace("_", " "), gap, f"cloud: {link}")
    return grid


def _drift_title(latest: Sequence[DriftPoint]) -> Text:
    if not latest:
        return Text("drift")
    point = latest[0]
    context = f"  like {point.context}" if point.context else "  like nothing known"
    return Text(f"drift: {point.verdict}{context}", style=_STYLES.get(point.verdict, ""))


def _drift(latest: Sequence[DriftPoint]) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    for point in latest:
        for name in sorted(point.ks):
            alarming = name in point.alarming
            grid.add_row(
                Text(name),
                ProgressBar(
                    total=1.0,
                    completed=point.ks[name],
                    width=_BAR,
                    complete_style="red" if alarming else "green",
                ),
                f"D {point.ks[name]:.2f}",
                Text("ALARM", style="bold red") if alarming else Text(""),
            )
    return grid


def _cloud(story: Story) -> RenderableType:
    parts: list[RenderableType] = []
    if story.phase_key == "baseline" and story.fine_tuning:
        parts.append(_epoch(story.fine_tuning[-1]))
    parts.append(_samples(story))
    for name, (done, of) in story.tasks.items():
        parts.append(_progress(name, done, of))
    if story.stage or story.stages:
        parts.append(_stages(story))
    if story.stage == "train" and story.training:
        parts.append(_epoch(story.training[-1]))
    elif story.stage and "of" in story.stage_facts:
        parts.append(_stage_progress(story.stage, story.stage_facts))
    if "validate" in story.stages:
        parts.append(gate_table(story.stages["validate"]))
    if story.retrain is not None:
        parts.append(Text(f"retrain {story.retrain.get('state')}: {story.retrain.get('why')}", style="bold"))
    return Group(*parts)


def _samples(story: Story) -> Text:
    counts = story.samples
    return Text(
        f"samples: {story.vehicle.spooled} waiting on the vehicle, {counts.get('stored', 0)} in the cloud, "
        f"{counts.get('drift', 0)} of them of drift, {counts.get('labeled', 0)} labelled, "
        f"{counts.get('excluded', 0)} refused"
    )


def _stages(story: Story) -> Text:
    text = Text("retrain: ")
    for stage in STAGES:
        style = "green" if stage in story.stages else "bold yellow" if stage == story.stage else "dim"
        seconds = f" {story.stages[stage]['seconds']:.0f} s" if stage in story.stages else ""
        text.append(f"{stage}{seconds}  ", style=style)
    return text


def _epoch(epoch: EpochReport) -> RenderableType:
    facts = f"loss {epoch.loss:.3f}  mAP50 {epoch.map50:.3f}  about {epoch.remaining_s:.0f} s left"
    return _progress("epochs", epoch.epoch, epoch.epochs, facts)


def _stage_progress(stage: str, facts: Mapping[str, Any]) -> RenderableType:
    done = next((facts[key] for key in ("images", "pictures", "checked") if key in facts), 0)
    return _progress(f"{stage} {facts.get('model', '')}".rstrip(), int(done), int(facts["of"]))


def _progress(name: str, done: int, of: int, facts: str = "") -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    numbers = f"{done} of {of}" if of else ""
    bar = ProgressBar(total=max(of, 1), completed=done, width=_BAR)
    grid.add_row(Text(name), bar if of else Text("..."), numbers, facts)
    return grid


def gate_table(judgement: Mapping[str, Any]) -> Table:
    """The gate's judgement (its JSON) as a table."""
    table = Table(title=f"gate: {judgement['verdict']}", title_justify="left")
    for heading in ("slice", "drives", "champion", "challenger", "difference", "at least", "rule"):
        table.add_column(heading)
    rules = {rule["slice"]: rule for rule in judgement["rules"]}
    for figures in judgement["slices"]:
        rule = rules.get(figures["name"])
        passed = rule is None or rule["verdict"] == VerdictKind.PASS.value
        if passed and figures.get("kind", "") not in _SHOWN:
            continue
        said = f"{rule['rule']}: {rule['verdict']}" if rule else ""
        cells = [figures["name"], str(figures["drives"])]
        if figures["too_little"]:
            cells += ["-"] * 4
            said = said or figures["too_little"]
        else:
            cells += [f"{figures[key]:.3f}" for key in ("champion", "challenger")]
            cells += [f"{figures[key]:+.3f}" for key in ("difference", "low")]
        table.add_row(*map(Text, cells), Text(said, style=_verdict_style(rule)))
    return table


def _verdict_style(rule: Mapping[str, Any] | None) -> str:
    if rule is None:
        return ""
    return {"pass": "green", "fail": "bold red"}.get(str(rule["verdict"]), "yellow")
