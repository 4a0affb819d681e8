"""A judgement for a terminal: the power first, then figures, rules, verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloud.pipeline.gate import BETTER, NO_REGRESSION, NOT_WORSE

_FIGURES = (
    "slice",
    "images",
    "drives",
    "boxes",
    "classes",
    "detects",
    "champion",
    "challenger",
    "difference",
)
_WORDS = {
    NOT_WORSE: "not worse than {bound:+.3f}",
    BETTER: "better than {bound:+.3f}",
    NO_REGRESSION: "not shown to be worse than {bound:+.3f}",
}


def to_text(judgement: Mapping[str, Any]) -> str:
    """Lay a judgement (its JSON) out."""
    rows = [list(_FIGURES), *(_row(figures) for figures in judgement["slices"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    power = [power_text(judgement["power"], judgement["targets"])] if judgement.get("power") else []
    lines += [f"{rule_text(rule)}: {rule['verdict']} ({rule['why']})" for rule in judgement["rules"]]
    return "\n".join([*power, *lines, f"verdict: {judgement['verdict']}"])


def power_text(power: Mapping[str, Any], targets: list[str]) -> str:
    """Say in a sentence what the holdout can show."""
    where = " and ".join(targets) or "no slice"
    needed = power["needed_drives"]
    unknown = [rule["slice"] for rule in power["rules"] if rule["spread"] is None]
    if needed is not None:
        more = f"{needed:,} drives are enough"
    elif unknown:
        more = f"how many would be enough is not known: too little of {' and '.join(unknown)}"
    else:
        more = "no number of drives would be enough"
    return (
        f"power: a candidate that is better by {power['effect']:.3f} on {where} and as good elsewhere is "
        f"released in at least {power['power']:.0%} of holdouts like this one of {power['drives']:,} drives "
        f"({more})"
    )


def rule_text(rule: Mapping[str, Any]) -> str:
    """Say in words what a rule demands."""
    words = _WORDS.get(rule["rule"])
    if words is None:
        return f"{rule['slice']}: {rule['rule']}, bound {rule['bound']:g} {rule.get('unit', '')}".rstrip()
    return f"{rule['slice']}: {words.format(bound=rule['bound'])}"


def _row(figures: Mapping[str, Any]) -> list[str]:
    judged = not figures["too_little"]
    interval = f" ({figures['low']:+.3f} to {figures['high']:+.3f})" if judged else ""
    return [
        figures["name"],
        *(f"{figures[key]:,}" for key in ("images", "drives", "boxes")),
        str(len(figures["classes"])),
        *(f"{figures[key]:.3f}" if judged else "-" for key in ("detectable", "champion", "challenger")),
        f"{figures['difference']:+.3f}{interval}" if judged else figures["too_little"],
    ]
