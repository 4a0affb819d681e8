"""The demonstration's report: a page for people, the figures for programs, and both model files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from cloud.datasets.files import write_file
from edge.errors import TrafficVisionError
from tools.demo.findings import WAYS_OUT, Findings, find, finite, score, stage_keys
from tools.demo.page import page
from tools.demo.promises import promises
from tools.demo.record import SLICES, DemoRecord, ModelRecord

PAGE, FIGURES = "report.html", "report.json"
BASELINE, CANDIDATE = "baseline.onnx", "candidate.onnx"


class ReportError(TrafficVisionError):
    """No report can be made of the record; the message says why."""


def write_report(record: DemoRecord, folder: Path) -> Path:
    """Write the report; files of an earlier one are replaced, others in the folder stay.

    All is made before the first file is written; each appears whole, and the page, which shows the others,
    last.

    Args:
        record: of the run.
        folder: is made if it is not there.

    Returns:
        The page.

    Raises:
        ReportError: a model file cannot be read, or is not the one that the record is of.
        FileError: the folder cannot be written.
    """
    found = find(record)
    files = {
        BASELINE: _model_bytes(record.baseline),
        CANDIDATE: _model_bytes(record.candidate),
        FIGURES: (json.dumps(to_json(record, found), indent=2, allow_nan=False) + "\n").encode(),
        # What is no Unicode, such as a broken file name, is shown by its escape.
        PAGE: page(record, found).encode("utf-8", "backslashreplace"),
    }
    for name, data in files.items():
        write_file(folder / name, data)
    return folder / PAGE


def to_json(record: DemoRecord, found: Findings) -> dict[str, Any]:
    """The figures as JSON values; what was not measured, or is no number, is null."""
    swap, alarms = record.swap, found.alarms
    return {
        "mode": record.mode,
        "machine": record.machine,
        "promises": [promise.to_json() for promise in promises(record, found)],
        "baseline": _model_json(record.baseline, BASELINE),
        "candidate": _model_json(record.candidate, CANDIDATE),
        "night_gain": finite(found.night_gain),
        "frames": {way: record.frames.get(way, 0) for way in ("captured", *WAYS_OUT)},
        "swap": {
            "frames_lost": swap.frames_lost,
            "worst_gap_ms": found.gaps.worst_ms,
            "median_gap_ms": found.gaps.median_ms,
            "gap_ms": finite(swap.gap_ms),
            "exchange_us": finite(swap.exchange_us),
            "drive_s": finite(swap.drive_s),
            "frame_before": swap.frame_before,
            "frame_after": swap.frame_after,
        },
        "drift": {
            "false_alarms_by_day": len(alarms.by_day),
            "alarm_after_s": finite(found.alarm_after_s),
            "alarms_at_night_after_swap": len(alarms.after_swap),
            "judged_by_day_s": finite(found.judged_by_day_s),
            "learning_s_after_swap": finite(found.learning_s),
            "judged_s_after_swap": finite(found.judged_s),
            "night_from_s": finite(record.night_from_s),
            "alarms": [
                {
                    "begin_s": finite(span.begin_s),
                    "end_s": finite(span.end_s),
                    "model": span.model,
                    "features": list(span.features),
                }
                for group in (alarms.by_day, alarms.at_night, alarms.after_swap)
                for span in group
            ],
        },
        "samples": {"shipped": None, "stored": None, **record.samples},
        "timings": stage_keys(record.timings),
        "wall": {
            "seconds": found.wall_s,
            "share_neither_training_nor_evaluation": found.other_share,
            "training_and_evaluation": [name for name in record.timings if name in record.train_and_evaluate],
        },
        "training": [
            {"epoch": epoch, "loss": finite(loss), "map50": finite(map50)}
            for epoch, (loss, map50) in enumerate(record.training, 1)
        ],
        "edge": {name: finite(value) for name, value in record.edge.items()},
        "gate": _without_nan(record.gate),
        "lineage": record.lineage,
    }


def _model_json(model: ModelRecord, file: str) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "name": model.name,
        "version": model.version,
        "sha256": model.sha256,
        "file": file,
    }
    for name in SLICES:
        known = score(model, name)
        figures |= {
            f"{name}_map50": known.map50 if known else None,
            f"{name}_map50_low": finite(known.low) if known else None,
            f"{name}_map50_high": finite(known.high) if known else None,
            f"{name}_images": known.images if known else None,
            f"{name}_drives": known.drives if known else None,
        }
    return figures


def _model_bytes(model: ModelRecord) -> bytes:
    """Read a model file; the report says whose figures it has, so it must be that file."""
    try:
        data = model.path.read_bytes()
    except OSError as error:
        raise ReportError(f"cannot read the model file {str(model.path)!r}: {error.strerror}") from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != model.sha256:
        raise ReportError(
            f"{str(model.path)!r} was changed: its SHA-256 is {digest[:12]}, and the figures are of"
            f" {model.sha256[:12]}"
        )
    return data


def _without_nan(value: Any) -> Any:
    """JSON values with null for every number that is none."""
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    return [_without_nan(each) for each in value] if isinstance(value, list | tuple) else value
