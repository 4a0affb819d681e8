"""An evaluation as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud.pipeline.evaluation_coco import Score

if TYPE_CHECKING:
    from cloud.pipeline.evaluation import Evaluation


def to_text(evaluation: Evaluation) -> str:
    """Lay out the whole, then each slice beside the others: AP50 with the number of boxes."""
    overall = evaluation.overall
    lines = []
    if evaluation.model:
        lines.append("model  {name} {version} ({precision}), sha256 {sha256:.12}".format(**evaluation.model))
    if evaluation.data:
        lines.append("data   {path}, {images:,} images of {drives:,} drives".format(**evaluation.data))
    lines += [""] if lines else []
    rows = [["class", "boxes", "AP50", "AP50-95"], ["all", f"{overall.boxes:,}", *_both(overall)]]
    rows += [
        [name, f"{score.boxes:,}", _number(score.ap50), _number(score.ap)]
        for name, score in overall.classes.items()
    ]
    lines += _table(rows)
    for key, values in evaluation.slices.items():
        scores = list(values.values())
        rows = [[key, *(f"{value} AP50 (boxes)" for value in values)]]
        rows.append(["images", *(f"{score.images:,}" for score in scores)])
        rows.append(["all", *(_with_boxes(score.map50, score.boxes) for score in scores)])
        rows.append(["all, AP50-95", *(_number(score.map50_95) for score in scores)])
        for name in overall.classes:
            of_class = [score.classes[name] for score in scores]
            rows.append([name, *(_with_boxes(score.ap50, score.boxes) for score in of_class)])
        lines += ["", *_table(rows)]
    notes = []
    if evaluation.only_in_data:
        left = ", ".join(f"{name} ({count:,})" for name, count in evaluation.only_in_data.items())
        notes.append(f"not judged, the model does not know them: {left}")
    if evaluation.only_in_model:
        names = evaluation.only_in_model
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        notes.append(f"not judged, no labelled boxes: {', '.join(names[:8])}{more}")
    if evaluation.refusals:
        left = ", ".join(f"{reason} ({count:,})" for reason, count in evaluation.refusals.items())
        notes.append(f"refused: {left}")
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _both(score: Score) -> tuple[str, str]:
    return _number(score.map50), _number(score.map50_95)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _with_boxes(value: float | None, boxes: int) -> str:
    return f"{_number(value)} ({boxes:,})"


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
