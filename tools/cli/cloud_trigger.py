"""`traffic-vision cloud trigger`: why a retrain began, or has not yet."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

_CONFIG = click.option(
    "--config", type=click.Path(path_type=Path), required=True, help="The cloud's cloud.toml."
)


def register(group: click.Group) -> None:
    """Add the group `trigger` to the group `cloud`."""
    group.add_command(_trigger)


@click.group("trigger")
def _trigger() -> None:
    """Show what the rule of retrains says, and has said; docs/retraining.md tells what it asks for."""


@_trigger.command("log")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="The newest so many."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line an entry.")
@_CONFIG
def _log(limit: int, as_json: bool, config: Path) -> None:
    """Show each decision with its reasons, the oldest first; the same again and again is one line."""
    from cloud.config import load_config
    from cloud.pipeline.trigger_log import read_log, to_json, to_text
    from cloud.store import open_database

    store = open_database(load_config(config).store.database)
    try:
        with store.reading() as session:
            entries = read_log(session, limit)
    finally:
        store.close()
    for entry in entries:
        click.echo(json.dumps(to_json(entry)) if as_json else to_text(entry))
    if not entries and not as_json:
        click.echo("no decision yet: `cloud run` takes them")


@_trigger.command("explain")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_CONFIG
def _explain(as_json: bool, config: Path) -> None:
    """Show what the rule would decide at this moment, condition by condition. Begins nothing."""
    from cloud.config import load_config
    from cloud.pipeline.runs import running_run
    from cloud.pipeline.trigger import decide
    from cloud.pipeline.trigger_log import explain
    from cloud.pipeline.trigger_situation import observe
    from cloud.store import open_database
    from cloud.store.columns import utc_now

    loaded = load_config(config)
    now = utc_now()
    store = open_database(loaded.store.database)
    try:
        with store.reading() as session:
            decision = decide(observe(session, now, loaded.trigger), loaded.trigger, now)
            run = running_run(session)
    finally:
        store.close()
    running = run.id if run is not None else None
    if as_json:
        alarms = [
            {**asdict(alarm), "features": sorted(alarm.features)} for alarm in decision.situation.alarms
        ]
        document = {"begin": decision.begin, "running": running, **decision.to_json(), "alarms": alarms}
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(explain(decision, running))
