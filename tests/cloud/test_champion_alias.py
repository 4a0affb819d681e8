"""MLflow's champion follows what vehicles are given; a champion is no challenger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cloud.mlflow_pages import mlflow_command
from cloud.pipeline.champion_alias import follow_champion
from cloud.pipeline.job import Pipeline
from cloud.pipeline.running import run_stage
from cloud.pipeline.tracking import CHALLENGER, Tracking
from cloud.store.models import Candidate, Release
from cloud.store.states import VerdictKind
from tests import models_factory as factory
from tests.retrains import HW, as_if_prepared, as_if_trained, as_if_validated, begin, retrain_cloud


def released(pipeline: Pipeline) -> str:
    run_id = begin(pipeline)
    as_if_prepared(pipeline, run_id)
    sha256 = as_if_trained(pipeline, run_id, factory.rectangles_model(HW))
    Tracking(pipeline.config.folders.mlruns).set_alias(CHALLENGER, sha256)
    as_if_validated(pipeline, run_id, sha256, VerdictKind.PASS)
    run_stage(pipeline, "deploy", run_id)
    return sha256


def take_back(pipeline: Pipeline) -> str:
    """As the server does: the model before the release, under a counter of its own."""
    with pipeline.store.writing() as session:
        first = session.get_one(Release, 1)
        baseline = session.query(Candidate).filter(Candidate.run_id.is_(None)).one()
        session.add(
            Release(
                counter=2,
                candidate_sha256=baseline.sha256,
                parent_counter=1,
                target_path=first.target_path,
                target_sha256=first.target_sha256,
                custom={},
            )
        )
        return baseline.sha256


def test_the_champion_follows_a_release_and_its_return(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path) as pipeline:
        tracking = Tracking(pipeline.config.folders.mlruns)
        baseline = follow_champion(pipeline, "")
        assert tracking.aliases() == {"champion": baseline}
        candidate = released(pipeline)
        assert tracking.aliases() == {"champion": candidate}  # and is the challenger no more
        assert follow_champion(pipeline, baseline) == candidate
        assert take_back(pipeline) == baseline
        assert tracking.aliases() == {"champion": candidate}
        assert follow_champion(pipeline, candidate) == baseline
        assert tracking.aliases() == {"champion": baseline}
        # Nothing has changed: whoever opened MLflow would make it, elsewhere.
        folders = pipeline.config.folders.model_copy(update={"mlruns": tmp_path / "elsewhere.db"})
        config = pipeline.config.model_copy(update={"folders": folders})
        assert follow_champion(replace(pipeline, config=config), baseline) == baseline
        assert not folders.mlruns.exists()


def test_without_a_model_there_is_no_champion(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path) as pipeline:
        with pipeline.store.writing() as session:
            session.delete(session.query(Candidate).one())
        assert follow_champion(pipeline, "") == ""


def test_mlflows_server_has_the_database_and_the_names_it_may_be_called_by(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path, samples=0) as pipeline:
        config = pipeline.config
    command = mlflow_command(config, "127.0.0.1", 5001, ())
    assert f"sqlite:///{config.folders.mlruns}" in command and "--allowed-hosts" not in command
    hosts = mlflow_command(config, "0.0.0.0", 5001, ("mlflow:5001",))[-1]
    assert hosts == "localhost:5001,127.0.0.1:5001,[::1]:5001,mlflow:5001"
