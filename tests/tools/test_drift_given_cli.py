"""`drift report` and `drift scan` judge by each kind of file that a vehicle judges by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.drift import Reference, Scope, fit
from edge.drift.features import NAMES, ORIGINS
from edge.drift.own import Own
from edge.errors import TrafficVisionError
from edge.perception.model_file import read_model_file
from tests.replays import write_model
from tests.tools.drift_commands import done, sim
from tests.tools.drift_rows import noise
from tools.drift.given import given_reference

SOURCE = sim(41, "night")
PROMISED = "no more than one false alarm in 24 h of driving is promised"
NO_EXACT = "Binned alone: the exact test needs values of the reference&#39;s own frames"


@pytest.fixture(scope="module")
def made() -> Reference:
    """Of so much driving that it promises."""
    values = np.random.default_rng(0).normal(size=(30_000, len(NAMES)))
    return fit(values, 2.0, NAMES, origins=ORIGINS, context="day", scope=Scope.CAMERA)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path)


def report(folder: Path, reference: Path, *more: object) -> str:
    out = folder / "report.html"
    done("report", SOURCE, "--reference", reference, "-o", out, *more)
    return out.read_text()


def own_file(folder: Path, reference: Reference, model: str) -> Path:
    path = folder / "own.json"
    Own(reference, model).save(path)
    return path


def test_a_camera_s_own_reference_keeps_its_promise_on_the_page(
    tmp_path: Path, model: Path, made: Reference
) -> None:
    own = own_file(tmp_path, made, read_model_file(model).digest)
    text = report(tmp_path, own, "--model", model)
    assert made.digest[:12] in text and PROMISED in text
    assert "a camera&#39;s own" in text and NO_EXACT in text
    assert made.digest[:12] in report(tmp_path, own)


def test_what_an_own_reference_knows_of_another_model_s_finds_is_left_out(
    tmp_path: Path, model: Path, made: Reference
) -> None:
    given = given_reference(own_file(tmp_path, made, "0" * 64), read_model_file(model))
    known = {feature.name for feature in given.reference.contexts[0].features if feature.known}
    assert known == {name for name, origin in zip(NAMES, ORIGINS, strict=True) if origin == "picture"}
    assert "of another model" in given.origin


def test_where_an_own_reference_is_silent_the_model_s_judges_as_on_the_vehicle(
    tmp_path: Path, made: Reference
) -> None:
    night = fit(noise(1, 600), 2.0, NAMES, origins=ORIGINS, context="night")
    with_prior = read_model_file(write_model(tmp_path, drift_prior=night.to_bytes().decode()))
    given = given_reference(own_file(tmp_path, made, with_prior.digest), with_prior)
    assert {context.name for context in given.reference.contexts} == {"day", "night"}
    assert "Where it is silent" in given.origin


def test_the_reference_in_a_model_file_judges_and_promises_nothing(tmp_path: Path, made: Reference) -> None:
    model = write_model(tmp_path, drift_prior=made.to_bytes().decode())
    text = report(tmp_path, model, "--model", model)
    assert "it promises no rate of false alarms for this one" in text and PROMISED not in text
    assert "It is the one in a model file" in text and NO_EXACT in text
    (tmp_path / "other").mkdir()
    other = write_model(tmp_path / "other", name="other")
    given = given_reference(model, read_model_file(other))
    assert not any(one.known for one in given.reference.contexts[0].features if one.origin == "detections")


def test_a_model_file_without_a_reference_is_refused(tmp_path: Path, model: Path) -> None:
    with pytest.raises(TrafficVisionError, match="brings no drift reference: `drift attach`"):
        given_reference(model, None)
