"""MLflow's own pages of one cloud, on the database that its retrains write."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cloud.children import run_children
from cloud.config import CloudConfig
from cloud.pipeline.champion_alias import follow_champion
from cloud.pipeline.opening import opened
from cloud.pipeline.tracking import artifacts_of, database_url


def serve_mlflow(config: CloudConfig, host: str, port: int, hosts: Sequence[str] = ()) -> None:
    """Serve MLflow's pages until SIGTERM or SIGINT; the champion's alias is looked after meanwhile.

    Args:
        config: the cloud's.
        host: that it listens on, an IPv6 address without brackets.
        port: there.
        hosts: names, with a port where it is not the scheme's, that a browser may call it by beside those of
            this machine.

    Raises:
        ChildError: it ended by itself; the port may be taken.
        TrafficVisionError: the cloud's folder is missing or its database cannot be opened.
    """
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # two processes less, for what nobody asks of it here
    }
    command = mlflow_command(config, host, port, hosts)
    with opened(config) as pipeline:
        seen = follow_champion(pipeline, "")

        def look() -> None:
            nonlocal seen
            seen = follow_champion(pipeline, seen)

        folder = config.folders.mlruns.parent
        run_children({"mlflow server": command}, environment, folder, look, config.trigger.poll_s)


def mlflow_command(config: CloudConfig, host: str, port: int, hosts: Sequence[str]) -> list[str]:
    """Give the command of MLflow's server: one worker, on the database and the artifacts as they are."""
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)),
        *("--workers", "1", "--no-serve-artifacts"),
        *("--backend-store-uri", database_url(config.folders.mlruns)),
        *("--default-artifact-root", artifacts_of(config.folders.mlruns).as_uri()),
    ]
    if hosts:
        own = [f"{name}:{port}" for name in ("localhost", "127.0.0.1", "[::1]")]
        command += ["--allowed-hosts", ",".join([*own, *hosts])]
    return command
