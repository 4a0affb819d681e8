"""`traffic-vision cloud`: the retrain pipeline's commands, registered on the group of `tools.cli.cloud`.

Each prints one JSON line on standard output, and nothing else there: log and progress go to standard error.
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cloud.pipeline.job import Pipeline, StageEvent

_PATH = click.Path(path_type=Path)
_CONFIG = click.option("--config", type=_PATH, required=True, help="The cloud's cloud.toml.")
# As in cloud.pipeline.running, which the command line does not import for its help.
_STAGES = ("label", "purity", "dataset", "train", "validate", "deploy")
# sysexits.h calls it EX_TEMPFAIL. Airflow's DAGs know it too.
NOT_YET = 75


def register(group: click.Group) -> None:
    """Add the pipeline's commands to the group `cloud`."""
    for command in (_baseline, _stage, _run):
        group.add_command(command)


@click.command("baseline")
@click.option("--model", type=_PATH, required=True, help="The model file that vehicles run.")
@click.option("--checkpoint", type=_PATH, required=True, help="The .pt that it was made of.")
@click.option("--data", type=_PATH, required=True, help="The labelled data that it was trained on.")
@_CONFIG
def _baseline(model: Path, checkpoint: Path, data: Path, config: Path) -> None:
    """Take in the model that the cloud begins with, and its data as the first version."""
    from cloud.pipeline.baseline import Baseline, take_baseline

    with opened_pipeline(config) as pipeline:
        line = take_baseline(pipeline, Baseline(model, checkpoint, data))
    click.echo(json.dumps(line))


@click.command("stage")
@click.argument("name", type=click.Choice(_STAGES))
@click.option("--run", "run_id", help="Which retrain  [default: the one that is running, else the last]")
@click.option("--new", is_flag=True, help="Begin a retrain by hand first.")
@click.option("--reopen", is_flag=True, help="Take the retrain up again if it has failed.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Try again for so long where it waits for someone else.",
)
@_CONFIG
def _stage(
    name: str, run_id: str | None, new: bool, reopen: bool, wait_s: float | None, config: Path
) -> None:
    """Do one stage of a retrain: label, purity, dataset, train, validate, deploy, in this order.

    A stage that is done is not done again; one that was interrupted goes on. One that waits for someone else,
    people who label for instance, ends with exit code 75: nothing is lost.
    """
    from cloud.pipeline.errors import NotYetError
    from cloud.pipeline.running import run_when_ready
    from cloud.pipeline.runs import begin_run, find_run, reopen_if_failed

    if new and run_id is not None:
        raise click.UsageError("--new begins another retrain than --run names")
    with opened_pipeline(config) as pipeline:
        if new:
            run_id = begin_run(pipeline, {"by": "hand", "why": "by hand"})
        else:
            with pipeline.store.reading() as session:
                run_id = find_run(session, run_id).id
        if reopen:
            reopen_if_failed(pipeline, run_id)
        try:
            line = run_when_ready(pipeline, name, run_id, wait_s or 0.0)
        except NotYetError as error:
            click.echo(f"traffic-vision: not yet: {error}", err=True)
            sys.exit(NOT_YET)
    click.echo(json.dumps(line))


@click.command("run")
@click.option("--watch", is_flag=True, help="Stay, and begin a retrain whenever the rule says so.")
@click.option("--now", is_flag=True, help="Begin one whatever the rule says.")
@click.option("--retry", is_flag=True, help="Take up the last one again, which failed.")
@click.option(
    "--events",
    type=click.File("a"),
    help="Write what happens to this file (- for standard output), one JSON line an event.",
)
@_CONFIG
def _run(watch: bool, now: bool, retry: bool, events: IO[str] | None, config: Path) -> None:
    """Go on with the retrain that is running, or begin one if its rule says so, and do all its stages.

    Where cloud.toml names Airflow (orchestration.orchestrator), that does the stages, and this tells how far
    it is.

    Events are begun, progress, done, waiting and failed of a stage, started and ended of a retrain.
    """
    from cloud.pipeline.runner import run_once
    from cloud.pipeline.runner import watch as watch_for_retrains

    if watch + now + retry > 1:
        raise click.UsageError("give one of --watch, --now and --retry")
    with opened_pipeline(config, _writer(events) if events is not None else None) as pipeline:
        if watch:
            watch_for_retrains(pipeline, _stop_by_signal())
            return
        result = run_once(pipeline, now_by_hand=now, retry=retry)
    click.echo(json.dumps(result))
    if result["state"] == "failed":
        sys.exit(1)


@contextlib.contextmanager
def opened_pipeline(path: Path, listen: Callable[[StageEvent], None] | None = None) -> Iterator[Pipeline]:
    """Open the pipeline; what libraries print meanwhile goes to standard error."""
    from cloud.config import load_config
    from cloud.pipeline.opening import opened

    config = load_config(path)
    logging.basicConfig(
        level=config.log.level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for chatty in ("alembic", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

    def hear(event: StageEvent) -> None:
        _log_event(event)
        if listen is not None:
            listen(event)

    with contextlib.redirect_stdout(sys.stderr), opened(config, hear) as pipeline:
        yield pipeline


def _writer(stream: IO[str]) -> Callable[[StageEvent], None]:
    """Write events as JSON lines, each at once."""

    def write(event: StageEvent) -> None:
        line = {"run": event.run_id, "stage": event.stage, "kind": event.kind, "facts": dict(event.facts)}
        stream.write(json.dumps(line, default=str) + "\n")
        stream.flush()

    return write


def _log_event(event: StageEvent) -> None:
    logger = logging.getLogger("cloud.pipeline")
    facts: dict[str, Any] = dict(event.facts)
    if event.kind == "progress":
        shown = " ".join(
            f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
            for name, value in facts.items()
            if not isinstance(value, dict)
        )
        logger.info("%s: %s: %s", event.run_id, event.stage, shown)


def _stop_by_signal() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
