"""Each camera's own drift reference: how far its commissioning is."""

from __future__ import annotations

from pathlib import Path

from edge.config import EdgeConfig
from edge.doctor.finding import Finding, ok, warning
from edge.drift import rows
from edge.drift.own import FILE_NAME, Own
from edge.drift.progress import overview
from edge.drift.recommission import WISH
from edge.drift.reference import DriftReferenceError


def drift(config: EdgeConfig) -> list[Finding]:
    """How far the commissioning of each camera is, as its folder says; it changes nothing there."""
    if config.drift is None or not config.drift.commission_hours:
        return []
    folder = config.state_folder / "drift"
    return [
        _camera(camera.name, folder / camera.name, config.drift.commission_hours) for camera in config.cameras
    ]


def _camera(camera: str, folder: Path, asked_hours: float) -> Finding:
    subject = f"drift of {camera}"
    if (folder / WISH).exists():
        return ok(subject, "it will be commissioned anew within a minute, or as the daemon starts")
    try:
        own: Own | None = Own.load(folder / FILE_NAME)
    except FileNotFoundError:
        own = None
    except DriftReferenceError as error:
        return warning(subject, str(error), "the daemon makes it anew, of days of driving")
    hours: dict[tuple[str, str], float] = {}
    # The present model's rows are the latest.
    model = "" if own is None else own.model
    for segment in rows.read(folder):
        model = segment.head.model
        key = (segment.head.context, model)
        hours[key] = hours.get(key, 0.0) + len(segment.times) / segment.head.rate_hz / 3600
    return ok(subject, overview(hours, own, model, asked_hours) or "not commissioned yet, nothing seen")
