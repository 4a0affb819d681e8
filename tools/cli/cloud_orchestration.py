"""`traffic-vision cloud`: retrains on Airflow, and the pages of Airflow and MLflow."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from tools.cli.cloud_pipeline import opened_pipeline

_PATH = click.Path(path_type=Path)
_CONFIG = click.option("--config", type=_PATH, required=True, help="The cloud's cloud.toml.")
_PLACE = click.option("--airflow", "place", required=True, metavar="DAG/RUN", help="The run of Airflow's.")


def _listen(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """Both parts, as servers take them: an IPv6 address without its brackets."""
    from cloud.config.types import host_and_port, host_port

    if value is None:
        return None
    try:
        host, port = host_and_port(host_port(value))
    except ValueError:
        raise click.BadParameter("expected HOST:PORT") from None
    return host.strip("[]"), port


def register(group: click.Group) -> None:
    """Add these commands to the group `cloud`."""
    for command in (_runs, _begin, _verdict, _end, _airflow, _mlflow):
        group.add_command(command)


@click.command("runs")
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--newest", type=click.IntRange(1), default=10, show_default=True, help="So many.")
@click.option("--log", "task", metavar="TASK", help="Print what this task of RUN logged at Airflow instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_CONFIG
def _runs(run_id: str | None, newest: int, task: str | None, as_json: bool, config: Path) -> None:
    """Show the retrains: their stages, what came of them, and where they are at Airflow and in MLflow.

    With RUN, Airflow's tasks of this one too, each with the page of its log.
    """
    from cloud.config import load_config
    from cloud.run_report import read_log, read_runs, to_text
    from cloud.store import open_database

    if task is not None and (run_id is None or as_json):
        raise click.UsageError("--log is of one RUN, and is text")
    loaded = load_config(config)
    store = open_database(loaded.store.database)
    try:
        if task is not None and run_id is not None:
            click.echo("\n".join(read_log(loaded, store, run_id, task)))
            return
        reports = read_runs(loaded, store, run_id, newest)
    finally:
        store.close()
    click.echo(
        json.dumps([report.to_json() for report in reports], indent=2) if as_json else to_text(reports)
    )


@click.command("begin")
@_PLACE
@click.option("--run", "run_id", help="The retrain that the cloud began it for  [default: a new one]")
@_CONFIG
def _begin(place: str, run_id: str | None, config: Path) -> None:
    """Begin a retrain for a run of Airflow's, or find the one that it does: the first task of its DAG."""
    from cloud.airflow.handover import begin
    from cloud.airflow.orchestrating import named_place

    with opened_pipeline(config) as pipeline:
        line = begin(pipeline, named_place(place, pipeline.config.orchestration), run_id)
    click.echo(json.dumps(line))


@click.command("verdict")
@click.option("--run", "run_id", required=True, help="Which retrain.")
@_CONFIG
def _verdict(run_id: str, config: Path) -> None:
    """Tell the gate's verdict on a retrain's candidate; any but pass ends the retrain, with exit code 1."""
    from cloud.pipeline.verdict import pass_verdict

    with opened_pipeline(config) as pipeline:
        line = pass_verdict(pipeline, run_id)
    click.echo(json.dumps(line))
    if not line["passed"]:
        click.echo(f"traffic-vision: {run_id} releases nothing: the gate says {line['verdict']}", err=True)
        sys.exit(1)


@click.command("end")
@_PLACE
@click.option("--why", required=True, help="For people.")
@_CONFIG
def _end(place: str, why: str, config: Path) -> None:
    """End the retrain of a run of Airflow's as failed, unless it has ended: the last task of its DAG."""
    from cloud.airflow.handover import end
    from cloud.airflow.orchestrating import named_place

    with opened_pipeline(config) as pipeline:
        line = end(pipeline, named_place(place, pipeline.config.orchestration), why)
    click.echo(json.dumps(line))


@click.command("airflow")
@click.option("--airflow", type=_PATH, required=True, help="Airflow's command, in an environment of its own.")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    callback=_listen,
    help="Where its pages are  [default: orchestration.url]",
)
@click.option(
    "--command", "command", type=_PATH, help="traffic-vision, as tasks call it  [default: this one]"
)
@click.option("--alert-url", default="", help="Post a JSON document there for each task that fails.")
@_CONFIG
def _airflow(
    airflow: Path, listen: tuple[str, int] | None, command: Path | None, alert_url: str, config: Path
) -> None:
    """Bring Airflow up for this cloud, until interrupted: `make airflow` with the environment it makes.

    Its users' passwords are in the file that orchestration.password_file names, made at the first start.
    """
    from cloud.airflow.serving import AirflowChoices, serve_airflow
    from cloud.config import load_config

    loaded = load_config(config)
    asked = loaded.orchestration
    host, port = listen or asked.host_and_port
    click.echo(f"Airflow: {asked.pages_url}, user admin, password in {asked.password_file}", err=True)
    serve_airflow(config, loaded, AirflowChoices(airflow, host, port, command, alert_url))


@click.command("mlflow")
@click.option("--listen", metavar="HOST:PORT", callback=_listen, default="127.0.0.1:5000", show_default=True)
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="HOST[:PORT]", help="It may be called so too; repeat."
)
@_CONFIG
def _mlflow(listen: tuple[str, int], hosts: tuple[str, ...], config: Path) -> None:
    """Show MLflow's pages of this cloud: runs, artifacts, the registry; until interrupted.

    It asks for no password: beyond loopback, put something before it that does.
    """
    from cloud.config import load_config
    from cloud.mlflow_pages import serve_mlflow

    host, port = listen
    click.echo(f"MLflow: http://{f'[{host}]' if ':' in host else host}:{port}", err=True)
    serve_mlflow(load_config(config), host, port, hosts)
