"""Lineage from the sample on: versions, models, releases; and a model made again from its lineage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cloud.pipeline.data_repository import DataRepository
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.reproducing import ALIKE, DIFFERENT, OVERALL, compare_figures, recipe_of, to_text
from cloud.pipeline.running import run_stage
from cloud.pipeline.sample_lineage import sample_lineage
from cloud.pipeline.samples import forget
from cloud.pipeline.training_record import RECORD
from cloud.store.models import Candidate
from cloud.store.states import VerdictKind
from tests import models_factory as factory
from tests.retrains import (
    HW,
    VEHICLE,
    add_samples,
    as_if_trained,
    as_if_validated,
    make_version,
    red_picture,
    retrain_cloud,
)
from tools.cli.cloud import command

SAMPLE = f"{VEHICLE}/new1-0"


@pytest.mark.services
def test_a_sample_is_followed_to_the_models_and_their_descendants(tmp_path: Path) -> None:
    config = str(tmp_path / "cloud" / "cloud.toml")
    with retrain_cloud(tmp_path) as pipeline:
        data = DataRepository(pipeline.config.folders.data)
        before = sample_lineage(pipeline.store, data, SAMPLE)
        assert (before["states"], before["versions"], before["models"]) == ({"stored": 1}, [], [])
        first = as_if_released(pipeline, factory.rectangles_model(HW, version="2"))
        add_samples(pipeline, {f"more-{n}.jpg": red_picture(300 + n) for n in range(2)}, drive="new2")
        second = as_if_released(pipeline, factory.rectangles_model(HW, version="3"))

        chain = sample_lineage(pipeline.store, data, SAMPLE)
        (sample,) = chain["samples"]
        assert (sample["id"], sample["state"], sample["drift_event"]) == (SAMPLE, "labeled", "event-1")
        assert [(label["service"], label["boxes"]) for label in sample["labels"]] == [("scripted", 1)]
        # In v3 it is an old picture, of which a part is trained on.
        assert [version["version"] for version in chain["versions"]] == ["v2", "v3"]
        assert chain["versions"][0]["pictures"] == {"train": 1}
        assert [(model["sha256"], model["dataset"]) for model in chain["models"]] == [
            (first, "v2"),
            (second, "v3"),
        ]
        assert chain["models"][0]["roles"] == {"trained on": 1}
        assert (chain["models"][0]["verdicts"], chain["models"][0]["releases"]) == (["pass"], [1])
        # Of the later sample, the first model knows nothing.
        later = sample_lineage(pipeline.store, data, f"{VEHICLE}/new2-1.jpg")
        assert [model["sha256"] for model in later["models"]] == [second] and later["descendants"] == []

        forget(pipeline, VEHICLE, "a test", "me")
        gone = sample_lineage(pipeline.store, data, VEHICLE)
        assert gone["states"] == {"forgotten": 6} and gone["samples"] == []
        assert [version["version"] for version in gone["versions"]] == ["v2", "v3"]
        assert [model["releases"] for model in gone["models"]] == [[1], [2]]

    runner = CliRunner()
    said = runner.invoke(command, ["lineage", SAMPLE, "--config", config])
    words = [line.split("  ")[0] for line in said.output.splitlines()]
    assert words == ["sample", "dataset", "dataset", "model", "model"], said.output
    assert "forgotten: a test" in said.output and "release 1" in said.output
    as_json = runner.invoke(command, ["lineage", SAMPLE, "--json", "--config", config])
    assert json.loads(as_json.output)["states"] == {"forgotten": 1}
    assert runner.invoke(command, ["lineage", "champion", "--config", config]).exit_code == 0
    unknown = runner.invoke(command, ["lineage", "v7", "--config", config])
    assert "no model 'v7' is known here" in str(unknown.exception)
    assert "nor is it a sample or a vehicle" in str(unknown.exception)


def as_if_released(pipeline: Any, model: bytes) -> str:
    run_id = make_version(pipeline)
    sha256 = as_if_trained(pipeline, run_id, model)
    as_if_validated(pipeline, run_id, sha256, VerdictKind.PASS)
    run_stage(pipeline, "deploy", run_id)
    return sha256


FIGURES = st.dictionaries(
    st.sampled_from([OVERALL, "day", "night"]),
    st.tuples(st.integers(0, 200), st.none() | st.floats(0, 1)),
    min_size=1,
).map(lambda figures: {OVERALL: (200, 0.5), **figures})


@given(FIGURES, st.floats(0.001, 0.5), st.integers(1, 200))
def test_a_model_is_like_itself_whatever_the_tolerance(
    figures: dict[str, tuple[int, float | None]], tolerance: float, min_boxes: int
) -> None:
    assert compare_figures(figures, figures, tolerance, min_boxes)["state"] == ALIKE


@pytest.mark.parametrize(
    ("night", "boxes", "state"),
    [(0.32, 100, ALIKE), (0.33, 100, DIFFERENT), (0.33, 99, ALIKE), (None, 100, DIFFERENT)],
)
def test_slices_of_enough_boxes_decide(night: float | None, boxes: int, state: str) -> None:
    then = {OVERALL: (300, 0.5), "night": (boxes, 0.3)}
    found = compare_figures(then, {OVERALL: (300, 0.51), "night": (boxes, night)}, 0.025, 100)
    assert found["state"] == state
    line = {"model": "m", "reasons": ["device was 0, is cpu"], **found}
    assert "because device was 0, is cpu" in to_text(line) and "night" in to_text(line)


def test_what_cannot_be_made_again_is_told_why(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path) as pipeline:
        with pytest.raises(PipelineError, match="was not trained here: it came by hand"):
            recipe_of(pipeline, "champion")
        sha256 = as_if_trained(pipeline, make_version(pipeline), factory.rectangles_model(HW, version="2"))
        with pytest.raises(PipelineError, match=r"2 was trained by a release .* kept no record of it"):
            recipe_of(pipeline, "2")
        with pipeline.store.writing() as session:
            candidate = session.get_one(Candidate, sha256)
            settings = {**pipeline.config.training.model_dump(mode="json"), "momentum": 1}
            candidate.facts = {**candidate.facts, RECORD: {"config": settings, "code_commit": "abc"}}
        with pytest.raises(PipelineError, match=r"trains otherwise than its own did \(momentum\).*abc"):
            recipe_of(pipeline, "2")
        with pipeline.store.writing() as session:
            candidate = session.get_one(Candidate, sha256)
            settings.pop("momentum")
            candidate.facts = {**candidate.facts, RECORD: {"config": settings}}
        recipe = recipe_of(pipeline, "2", device="0")
        assert recipe.config == pipeline.config.training.model_copy(update={"device": "0"})
        forget(pipeline, SAMPLE, "a test", "me")
        with pytest.raises(PipelineError, match="v2 cannot be had any more: 1 of its 10 pictures"):
            recipe_of(pipeline, "2")
