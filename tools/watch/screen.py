"""The live screen: the view as tables for a terminal."""

from __future__ import annotations

from collections import Counter

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edge.drift.explaining import label
from protos.traffic_vision.v1 import common_pb2
from protos.trials import trial_lines
from tools.watch.view import View
from tools.watch.words import camera_cells, device_verdict, map50_words, told_verdict

_MOST_OBJECTS = 12  # of one frame
_MOST_FEATURES = 5
_STYLES = {
    common_pb2.DRIFT_VERDICT_ALARM: "bold red",
    common_pb2.DRIFT_VERDICT_STABLE: "green",
    common_pb2.DRIFT_VERDICT_LEARNING: "yellow",
}


def render(view: View, address: str) -> RenderableType:
    """The whole screen at one moment."""
    with view.lock:
        parts: list[RenderableType] = [_head(view, address)]
        if view.status is not None:
            parts.append(_cameras(view.status))
            parts += _trials(view.status.model)
        parts += [_frame(view.frames[camera]) for camera in sorted(view.frames)]
        parts += [_drift(view.drift[camera]) for camera in sorted(view.drift)]
        return Group(*parts)


def _head(view: View, address: str) -> Text:
    if view.trouble:
        return Text(f"{address}: {view.trouble}; trying again", style="bold red")
    status = view.status
    if status is None:
        return Text(address)
    model = status.model.active
    text = (
        f"{address}  up {status.uptime_ns / 1e9:.0f} s  {status.resident_bytes / 1e6:.0f} MB"
        f"  model {model.name} {model.version} {model.sha256[:12]}"
    )
    if status.spool.limit_bytes:
        text += f"  spool {status.spool.samples} samples, {status.spool.used_bytes / 1e6:.1f} MB"
    if len(status.drift) > 1:
        text += f"  drift of all cameras: {device_verdict(status.device_drift)}"
    return Text(text, style="bold")


def _trials(model: common_pb2.ModelState) -> list[Panel]:
    lines = trial_lines(model)
    return [Panel(Text("\n".join(lines)), title="the next model", title_align="left")] if lines else []


def _cameras(status: common_pb2.VehicleStatus) -> Table:
    table = Table(expand=True)
    for heading in (
        "camera",
        "state",
        "frames/s in / out",
        "age p50 / p99, ms",
        "published",
        "left otherwise",
        "",
    ):
        table.add_column(heading)
    for camera in status.cameras:
        table.add_row(*(Text(cell) for cell in camera_cells(camera)))
    return table


def _frame(found: common_pb2.FrameDetections) -> Panel:
    table = Table.grid(padding=(0, 2))
    for box in found.detections[:_MOST_OBJECTS]:
        corners = f"({box.x1_px:.0f}, {box.y1_px:.0f}, {box.x2_px:.0f}, {box.y2_px:.0f})"
        table.add_row(Text(box.class_name), f"{box.score:.2f}", corners)
    counts = Counter(box.class_name for box in found.detections)
    told = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"
    frame = found.frame
    title = (
        f"{frame.camera}  frame {frame.sequence}  {frame.captured.monotonic_ns / 1e9:.2f} s"
        f"  {found.times.inference_ns / 1e6:.1f} ms  {told}"
    )
    return Panel(table, title=Text(title), title_align="left")


def _drift(state: common_pb2.DriftState) -> Panel:
    table = Table.grid(padding=(0, 2))
    for feature in state.features[:_MOST_FEATURES]:
        shift = f"{feature.shift_sigma:+.1f} sigma" if feature.HasField("shift_sigma") else ""
        table.add_row(
            Text(label(feature.name)),
            f"D {feature.ks_d:.2f}",
            f"over {feature.window_s:.0f} s",
            shift,
            Text(feature.context),
        )
    parts = (state.camera, f"drift: {told_verdict(state)}", map50_words(state))
    title = Text("  ".join(part for part in parts if part))
    # A title that is too long is cut off.
    told = Group(Text(state.explanation), table) if state.explanation else table
    return Panel(told, title=title, title_align="left", border_style=_STYLES.get(state.verdict, "none"))
