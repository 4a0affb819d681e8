"""The record of all retrains in MLflow: a run for each, metrics by slice, the registry with its aliases.

It is written for people and their tools. What the pipeline itself goes by is in the store.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EXPERIMENT = "retrain"
REGISTERED_MODEL = "traffic-detector"
CHAMPION, CHALLENGER = "champion", "challenger"
RUN_TAG = "traffic_vision.run"
MODEL_TAG = "traffic_vision.model_sha256"

_MAX_PARAM = 500


def database_url(database: Path) -> str:
    """Give MLflow's URL of a database."""
    return f"sqlite:///{database}"


def artifacts_of(database: Path) -> Path:
    """Give the folder of a database's artifacts."""
    return database.absolute().parent / "mlartifacts"


class Tracking:
    """MLflow's database of one cloud. Everything here can be repeated without a second trace."""

    def __init__(self, database: Path) -> None:
        """Open the database, or make it: some seconds the first time.

        Args:
            database: SQLite file; artifacts go into the folder `mlartifacts` beside it.
        """
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        from mlflow import MlflowClient

        url = database_url(database)
        self._artifacts = artifacts_of(database)
        self._client = MlflowClient(tracking_uri=url, registry_uri=url)

    def begin(self, run_id: str, params: Mapping[str, object], tags: Mapping[str, str]) -> str:
        """Begin the MLflow run of a retrain, or find the one that was begun; give MLflow's id."""
        experiment = self._experiment()
        found = self._client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{run_id}'", max_results=1)
        if found:
            run = found[0]
            self._client.update_run(run.info.run_id, status="RUNNING")
        else:
            run = self._client.create_run(experiment, tags={RUN_TAG: run_id}, run_name=run_id)
        mlflow_id: str = run.info.run_id
        for name, value in params.items():
            if name not in run.data.params:  # a parameter is written once
                self._client.log_param(mlflow_id, name, str(value)[:_MAX_PARAM])
        for name, text in tags.items():
            self._client.set_tag(mlflow_id, name, text)
        return mlflow_id

    def log_metrics(self, mlflow_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Add metrics at one step."""
        for name, value in metrics.items():
            self._client.log_metric(mlflow_id, name, value, step=step)

    def log_document(self, mlflow_id: str, name: str, document: Mapping[str, Any]) -> None:
        """Add a JSON document to the run's artifacts."""
        self._client.log_dict(mlflow_id, dict(document), name)

    def log_folder(self, mlflow_id: str, folder: Path, name: str) -> None:
        """Add a folder's files to the run's artifacts, under a name; those of the same names are replaced."""
        self._client.log_artifacts(mlflow_id, str(folder), name)

    def set_tags(self, mlflow_id: str, tags: Mapping[str, object]) -> None:
        """Set tags of a run, which may have ended."""
        for name, value in tags.items():
            self._client.set_tag(mlflow_id, name, str(value))

    def finish(self, mlflow_id: str, tags: Mapping[str, object]) -> None:
        """End a run; what came of it is in the tags."""
        self.set_tags(mlflow_id, tags)
        self._client.set_terminated(mlflow_id)

    def fail(self, mlflow_id: str) -> None:
        """End a run that failed."""
        self._client.set_terminated(mlflow_id, "FAILED")

    def register(self, sha256: str, file: Path, mlflow_id: str | None, tags: Mapping[str, str]) -> str:
        """Register a model file, once; give the number of its version."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.get_registered_model(REGISTERED_MODEL)
        except MlflowException:
            self._client.create_registered_model(REGISTERED_MODEL)
        known = self._version(sha256)
        if known is not None:
            return known
        version = self._client.create_model_version(
            REGISTERED_MODEL, source=file.as_uri(), run_id=mlflow_id, tags={MODEL_TAG: sha256, **tags}
        )
        return str(version.version)

    def set_alias(self, alias: str, sha256: str) -> None:
        """Let champion or challenger be this model, which is registered; a champion is no challenger."""
        self._client.set_registered_model_alias(REGISTERED_MODEL, alias, self._version(sha256))
        if alias == CHAMPION and self.aliases().get(CHALLENGER) == sha256:
            self._client.delete_registered_model_alias(REGISTERED_MODEL, CHALLENGER)

    def aliases(self) -> dict[str, str]:
        """Give each alias's model, by its SHA-256."""
        return {
            alias: version.tags[MODEL_TAG]
            for version in self._client.search_model_versions(f"name = '{REGISTERED_MODEL}'")
            for alias in self._client.get_model_version(REGISTERED_MODEL, version.version).aliases
        }

    def _version(self, sha256: str) -> str | None:
        query = f"name = '{REGISTERED_MODEL}'"
        for version in self._client.search_model_versions(query):
            if version.tags.get(MODEL_TAG) == sha256:
                return str(version.version)
        return None

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        location = self._artifacts.as_uri()
        return str(self._client.create_experiment(EXPERIMENT, artifact_location=location))
