"""The model card: what the gate saw is in it, in both forms, and no text of the data is markup."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cloud.datasets import Box, LabeledImage
from cloud.pipeline.card_pictures import Shown, View, wins_and_losses
from cloud.pipeline.model_card import HTML, MARKDOWN, CardFacts, limits_of, markdown_text, write_card
from cloud.pipeline.running import run_stage
from cloud.store.models import Run
from tests import models_factory as factory
from tests.retrains import HW, SETTINGS, VEHICLE, as_if_trained, begin, retrain_cloud

MODEL = factory.loaded(factory.rectangles_model(HW, version="2"))
EVIL = "<script>alert(1)</script> | **a** ](http://x) `b`"


def a_slice(name: str, **fields: Any) -> dict[str, Any]:
    figures = {"images": 20, "drives": 9, "boxes": 100, "classes": ["red"], "too_little": "", "kind": ""}
    figures |= {"champion": 0.25, "challenger": 0.5, "difference": 0.25, "low": 0.125, "high": 0.375}
    return {"name": name, **figures, "detectable": 0.0625, "spread": 0.05, **fields}


def facts(**fields: Any) -> CardFacts:
    judgement = {
        "verdict": "inconclusive",
        "targets": ["night"],
        "power": {
            "effect": 0.04,
            "power": 0.31,
            "enough": False,
            "drives": 9,
            "needed_drives": 240,
            "rules": [],
        },
        "slices": [a_slice("(all)"), a_slice(EVIL), a_slice("dusk", too_little="3 drives, at least 10")],
        "rules": [
            {
                "rule": "better",
                "slice": "night",
                "bound": 0.0,
                "verdict": "inconclusive",
                "why": "has 0 in it",
            },
            {
                "rule": "latency",
                "slice": "hardware",
                "bound": 50.0,
                "verdict": "pass",
                "why": EVIL,
                "unit": "ms",
            },
        ],
    }
    lineage = {
        "dataset": {
            "version": "v2",
            "parent": "v1",
            "images": 12,
            "dvc_md5": "abc.dir",
            "git_commit": "f" * 40,
            "sha256": "e" * 64,
            "counts": {"train": {"night": 4, EVIL: 1}, "test": {}},
        },
        "run": {"id": "retrain-0001", "mlflow_run": "m1", "code_commit": "c1", "trigger": {"why": EVIL}},
        "samples": [{"vehicle": "van-1", "drift_event": "e1", "ids": ["a", "b"]}],
        "vehicles": ["van-1"],
        "drift_events": [{"id": "e1", "vehicle": "van-1", "verdict": "alarm", "context": "night"}],
        "ancestors": [{"name": "base", "version": "1", "sha256": "d" * 64}],
    }
    win = Shown("win-1.jpg", f"{EVIL}.jpg", "d1", "night", 0.5, 1.0, b"\xff\xd8 a picture")
    values: dict[str, Any] = {
        "model": MODEL,
        "champion": MODEL,
        "judgement": judgement,
        "holdout": {"images": 20, "drives": 9, "trained_on": 3, "missing": 0},
        "lineage": lineage,
        "wins": [win],
        "losses": [],
    }
    return CardFacts(**{**values, **fields})


def test_both_forms_have_figures_rules_pictures_limits_and_lineage(tmp_path: Path) -> None:
    write_card(tmp_path, facts())
    assert {path.name for path in tmp_path.iterdir()} == {MARKDOWN, HTML, "win-1.jpg"}
    markdown, page = ((tmp_path / name).read_text() for name in (MARKDOWN, HTML))
    for text in (markdown, page):
        plain = text.replace("\\", "")
        for said in (
            "inconclusive",
            MODEL.digest,
            "version v2",
            "0.250",
            "+0.125 to +0.375",
            "better by 0.040 on night",
            "night: better than +0.000",
            "hardware: latency, bound 50 ms",
            "3 were left out",
            "On no picture of the holdout.",
            "retrain-0001",
            "2 samples of van-1",
            "base 1",
            "no safety function",
        ):
            assert said in plain, said
    assert "](win-1.jpg)" in markdown and "data:image/jpeg;base64," in page


def test_no_text_of_the_data_is_markup(tmp_path: Path) -> None:
    write_card(tmp_path, facts())
    page = (tmp_path / HTML).read_text()
    assert (
        "<script>" not in page
        and "&lt;script&gt;" in page
        and "http" not in re.sub(r"\(http://x\)", "", page)
    )
    markdown = (tmp_path / MARKDOWN).read_text()
    assert "<script>" not in markdown and "**a**" not in markdown
    assert not re.search(r"(?<!\\)\]\(http", markdown)
    # A bar within a cell would be one column more.
    row = next(line for line in markdown.splitlines() if "0.250" in line and "script" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 9


@pytest.mark.parametrize("text", ["a\nb", "# a", "a | b", "![x](y)", "~~a~~", "\\"])
def test_words_of_markdown_are_one_line_of_words(text: str) -> None:
    words = markdown_text(text)
    assert "\n" not in words
    assert re.sub(r"\\(.)", r"\1", words) == " ".join(text.split())
    assert not re.search(r"(?<!\\)[#|*_`\[\]<>~]", words)


def test_limits_say_what_the_figures_do_not_tell() -> None:
    limits = "\n".join(limits_of(facts()))
    assert "blue, green" in limits and "dusk (3 drives, at least 10)" in limits
    assert "Undecided: night: better than +0.000" in limits


def test_wins_and_losses_are_where_the_two_differ_most(tmp_path: Path) -> None:
    images, first, second = [], [], []
    box = Box(10, 10, 40, 50, "red")
    hit, miss = (
        np.array([[10, 10, 40, 50, 0.9, 2]], np.float32),
        np.array([[60, 5, 90, 20, 0.9, 2]], np.float32),
    )
    plan = [
        ("same", hit, hit),
        ("win", miss, hit),
        ("loss", hit, miss),
        ("unsure", miss, hit * [1, 1, 1, 1, 0.1, 1]),
    ]
    for name, before, after in plan:
        path = tmp_path / f"{name}.jpg"
        path.write_bytes(factory.jpeg(factory.picture(HW, (10, 10, 40, 50, "red"))))
        images.append(LabeledImage(path.name, path, HW[1], HW[0], (box,), {"timeofday": "night"}, name))
        first.append(before)
        second.append(np.asarray(after, np.float32))
    views = (View(MODEL.metadata, first), View(MODEL.metadata, second))
    wins, losses = wins_and_losses(images, *views, ["red"], "timeofday", 3)
    assert [(shown.name, shown.picture, shown.champion_f1, shown.challenger_f1) for shown in wins] == [
        ("win-1.jpg", "win.jpg", 0.0, 1.0)
    ]
    assert [(shown.picture, shown.champion_f1, shown.challenger_f1) for shown in losses] == [
        ("loss.jpg", 1.0, 0.0)
    ]
    drawn = cv2.imdecode(np.frombuffer(wins[0].jpeg, np.uint8), cv2.IMREAD_COLOR)
    left, right = drawn[:, : drawn.shape[1] // 2], drawn[:, drawn.shape[1] // 2 :]
    assert np.abs(left[:, -right.shape[1] :].astype(int) - right.astype(int)).mean() > 1


def test_the_stage_logs_a_card_beside_its_run(tmp_path: Path) -> None:
    settings = SETTINGS.replace("rounds = 0", "rounds = 3").replace("pictures = 0", "pictures = 8")
    with retrain_cloud(tmp_path, settings=settings) as pipeline:
        run_id = begin(pipeline)
        for name in ("label", "purity", "dataset"):
            run_stage(pipeline, name, run_id)
        as_if_trained(pipeline, run_id, factory.rectangles_model(HW, version="2"))
        line = run_stage(pipeline, "validate", run_id)
        assert line["card"] == "model_card" and line["power"]["drives"] == 4
        assert {rule["slice"] for rule in line["rules"]} >= {
            "hardware",
            "shift",
            "flip",
            "noise",
            "compression",
        }
        assert line["hardware"]["rounds"] == 3 and len(line["behaviour"]) == 4
        with pipeline.store.reading() as session:
            mlflow_id = session.get_one(Run, run_id).mlflow_run_id
        (card,) = (tmp_path / "cloud").rglob(f"{mlflow_id}/artifacts/model_card")
        assert {path.name for path in card.iterdir()} >= {MARKDOWN, HTML, "win-1.jpg"}
        text = (card / MARKDOWN).read_text()
        assert VEHICLE in text and "4 samples" in text and f"gate: {line['verdict']}" in text
