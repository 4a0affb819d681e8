"""`traffic-vision cloud trigger`: why a retrain began, or has not yet."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from tools.cli.cloud_opening import CONFIG, opened_store


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
@CONFIG
def _log(limit: int, as_json: bool, config: Path) -> None:
    """Show each decision with its reasons, the oldest first; the same again and again is one line."""
    from cloud.pipeline.trigger_log import read_log, to_json, to_text

    with opened_store(config) as (_, store), store.reading() as session:
        entries = read_log(session, limit)
    for entry in entries:
        click.echo(json.dumps(to_json(entry)) if as_json else to_text(entry))
    if not entries and not as_json:
        click.echo("no decision yet: `cloud run` takes them")


@_trigger.command("explain")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@CONFIG
def _explain(as_json: bool, config: Path) -> None:
    """Show what the rule would decide at this moment, condition by condition. Begins nothing."""
    from cloud.pipeline.runs import running_run
    from cloud.pipeline.trigger import decide
    from cloud.pipeline.trigger_log import explain
    from cloud.pipeline.trigger_situation import observe
    from cloud.store.columns import utc_now

    now = utc_now()
    with opened_store(config) as (loaded, store), store.reading() as session:
        decision = decide(observe(session, now, loaded.trigger), loaded.trigger, now)
        run = running_run(session)
    running = run.id if run is not None else None
    if as_json:
        alarms = [
            {**asdict(alarm), "features": sorted(alarm.features)} for alarm in decision.situation.alarms
        ]
        document = {"begin": decision.begin, "running": running, **decision.to_json(), "alarms": alarms}
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(explain(decision, running))
