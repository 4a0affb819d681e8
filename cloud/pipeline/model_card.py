"""A candidate's model card, as Markdown and as one HTML file: what it is, how it did, where it comes from.

The idea and the headings are those of M. Mitchell et al., Model Cards for Model Reporting, FAT* 2019.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from cloud.datasets import canonical
from cloud.datasets.files import write_file
from cloud.pipeline.card_pictures import Shown
from cloud.pipeline.gate_slices import OVERALL
from cloud.pipeline.gate_text import power_text, rule_text
from cloud.store.states import VerdictKind
from edge.perception.model_file import ModelFile

MARKDOWN, HTML = "model_card.md", "model_card.html"
NOTHING = "–"

_LEFT_OUT = {
    "trained_on": "were left out, for their drives were trained on",
    "missing": "were left out, for their picture files are missing",
}
# What Markdown or the HTML in it would take for its own.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~])")


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card is made of.

    Attributes:
        model, champion: the files.
        judgement: the gate's, as JSON values.
        holdout: counts: images, drives, and what was left out by reason.
        lineage: as `cloud.pipeline.lineage.lineage` gives it.
        wins, losses: pictures.
    """

    model: ModelFile
    champion: ModelFile
    judgement: Mapping[str, Any]
    holdout: Mapping[str, int]
    lineage: Mapping[str, Any]
    wins: Sequence[Shown]
    losses: Sequence[Shown]


def write_card(folder: Path, facts: CardFacts) -> None:
    """Write `model_card.md`, `model_card.html` and the pictures that the first one shows.

    Args:
        folder: is made; what is there of these names is written anew.
        facts: what the card tells.
    """
    for shown in (*facts.wins, *facts.losses):
        write_file(folder / shown.name, shown.jpeg)
    write_file(folder / MARKDOWN, to_markdown(facts))
    write_file(folder / HTML, to_html(facts))


def to_markdown(facts: CardFacts) -> str:
    """The card as Markdown; its pictures are files beside it."""
    return _environment().get_template("model_card.md.jinja").render(_values(facts))


def to_html(facts: CardFacts) -> str:
    """The card as one HTML file: no script, nothing fetched, light and dark."""
    return _environment().get_template("model_card.html.jinja").render(_values(facts))


def markdown_text(value: object) -> str:
    """Any text as words of Markdown, in one line: nothing in it is markup."""
    return _MARKDOWN.sub(r"\\\1", " ".join(str(value).split()))


def limits_of(facts: CardFacts) -> list[str]:
    """Say what the card's figures do not tell."""
    judgement, metadata = facts.judgement, facts.model.metadata
    limits = []
    if judgement.get("power"):
        limits.append(f"Its {power_text(judgement['power'], judgement['targets'])}.")
    whole = next((each for each in judgement["slices"] if each["name"] == OVERALL), None)
    names = [canonical(name) for name in metadata.class_names]
    missing = [name for name in names if whole is None or name not in whole["classes"]]
    if missing:
        limits.append(f"Not judged, for the holdout has too few boxes of them: {', '.join(missing)}.")
    small = [f"{each['name']} ({each['too_little']})" for each in judgement["slices"] if each["too_little"]]
    if small:
        limits.append(f"Slices too small to be judged: {', '.join(small)}.")
    open_rules = [
        rule_text(rule) for rule in judgement["rules"] if rule["verdict"] == VerdictKind.INCONCLUSIVE.value
    ]
    if open_rules:
        limits.append(f"Undecided: {'; '.join(open_rules)}.")
    height, width = facts.model.input_hw
    limits += [
        f"Of conditions that the holdout's {facts.holdout['drives']:,} drives do not have, nothing is known.",
        f"It sees pictures as {width}x{height} pixels, and tells what scores above "
        f"{metadata.score_threshold:g}.",
        "It is no safety function: do not let a vehicle's motion depend on it.",
    ]
    return limits


def _values(facts: CardFacts) -> dict[str, Any]:
    return {
        "facts": facts,
        "model": facts.model.metadata,
        "judgement": facts.judgement,
        "lineage": facts.lineage,
        "holdout": facts.holdout,
        "left_out": [
            f"{facts.holdout[name]:,} {why}" for name, why in _LEFT_OUT.items() if facts.holdout.get(name)
        ],
        "limits": limits_of(facts),
        "power": power_text(facts.judgement["power"], facts.judgement["targets"])
        if facts.judgement.get("power")
        else "",
        "samples": sum(len(group["ids"]) for group in facts.lineage["samples"]),
    }


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cloud.pipeline", "."),
        # Markdown is escaped by its own filter, md.
        autoescape=select_autoescape(["html.jinja"], disabled_extensions=["md.jinja"], default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    environment.filters["grouped"] = lambda number: f"{number:,}"
    environment.filters["rule"] = rule_text
    environment.filters["md"] = markdown_text
    environment.filters["uri"] = _data_uri
    return environment


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def _figure(value: float | None, decimals: int = 3, sign: str = "") -> str:
    return NOTHING if value is None or not math.isfinite(value) else f"{value:{sign}.{decimals}f}"
