"""MLflow's alias `champion` follows what vehicles are given, when a release is taken back too.

The fleet's server signs the way back, and has no MLflow: who has it looks after the alias.
"""

from __future__ import annotations

import logging

from cloud.pipeline.champion import champion_of
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.job import Pipeline
from cloud.pipeline.tracking import CHAMPION, Tracking
from cloud.store.models import Candidate

_LOG = logging.getLogger(__name__)


def champion_sha256(pipeline: Pipeline) -> str:
    """Give the SHA-256 of the model that vehicles are given; empty: there is none yet."""
    try:
        with pipeline.store.reading() as session:
            return champion_of(session).sha256
    except PipelineError:
        return ""


def follow_champion(pipeline: Pipeline, seen: str) -> str:
    """Set the alias if the champion is another one than was seen; MLflow is opened then alone.

    Args:
        pipeline: what all stages share.
        seen: what this gave the last time; empty at first.

    Returns:
        The champion's SHA-256; empty: there is none yet.
    """
    sha256 = champion_sha256(pipeline)
    if sha256 and sha256 != seen:
        tracking = Tracking(pipeline.config.folders.mlruns)
        if tracking.aliases().get(CHAMPION) != sha256:
            with pipeline.store.reading() as session:
                champion = session.get_one(Candidate, sha256)
                run = champion.run
                mlflow_id = run.mlflow_run_id if run is not None else ""
            tracking.register(sha256, pipeline.objects.path(champion.object_key), mlflow_id or None, {})
            tracking.set_alias(CHAMPION, sha256)
            _LOG.info("MLflow: the champion is %s %s", champion.name, champion.version)
    return sha256
