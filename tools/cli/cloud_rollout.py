"""`traffic-vision cloud rollout`: which vehicles get a release, and when."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tools.cli.cloud_opening import CONFIG, opened_store

if TYPE_CHECKING:
    from cloud.config import CloudConfig, RolloutConfig

_PATH = click.Path(path_type=Path)
_RELEASE = click.option("--release", "counter", type=int, help="Its counter  [default: the newest that fits]")
_REASON = click.option("--reason", required=True, help="For the audit trail.")
_FORCE = click.option("--force", is_flag=True, help="Whatever it still waits for.")
_DURATION = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.group("rollout")
def command() -> None:
    """Bring a release to the vehicles, stage by stage; docs/rollout.md says how it goes."""


@command.command("start")
@_RELEASE
@click.option("--everyone", is_flag=True, help="All at once, in place of the stages of the configuration.")
@click.option("--policy", type=_PATH, help="A TOML file with a [rollout], in place of the configuration's.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only vehicles with it; repeat.")
@CONFIG
def start(
    counter: int | None, everyone: bool, policy: Path | None, labels: tuple[str, ...], config: Path
) -> None:
    """Begin the rollout of a release that has none: with `automatic = false`, that is each one."""
    from cloud.fleet import rollout_actions

    if everyone and policy is not None:
        raise click.UsageError("give one of --everyone and --policy")
    with opened_store(config) as (loaded, store):
        chosen = _policy(loaded, everyone, policy, labels)
        started = rollout_actions.start(store, counter, chosen, _actor(), _now())
    click.echo(f"release {started}: the rollout begins, {len(chosen.stages)} stages")


@command.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@CONFIG
def status(as_json: bool, config: Path) -> None:
    """Show the newest rollouts, what their vehicles report, pins and labels."""
    from cloud.fleet import rollout_report
    from cloud.status_text import rollouts_to_text

    with opened_store(config) as (_, store), store.reading() as session:
        lines = rollout_report.rollout_lines(session, _now())
        pins = rollout_report.pin_lines(session, _now())
        labels = rollout_report.labels_by_vehicle(session)
    if as_json:
        click.echo(json.dumps(rollout_report.to_json(lines, pins, labels), indent=2))
    else:
        click.echo(rollouts_to_text(lines, pins))


@command.command("pause")
@_RELEASE
@_REASON
@CONFIG
def pause(counter: int | None, reason: str, config: Path) -> None:
    """Take no more vehicles in, until it is resumed."""
    from cloud.fleet import rollout_actions

    with opened_store(config) as (_, store):
        paused = rollout_actions.pause(store, counter, reason, _actor(), _now())
    click.echo(f"release {paused}: paused")


@command.command("resume")
@_RELEASE
@_REASON
@click.option("--force", is_flag=True, help="Also one that was halted; what was reported counts no more.")
@CONFIG
def resume(counter: int | None, reason: str, force: bool, config: Path) -> None:
    """Go on with a rollout that is paused or halted; the time of its stage begins anew."""
    from cloud.fleet import rollout_actions

    with opened_store(config) as (_, store):
        resumed = rollout_actions.resume(store, counter, reason, _actor(), _now(), force=force)
    click.echo(f"release {resumed}: goes on")


@command.command("approve")
@_RELEASE
@_FORCE
@CONFIG
def approve(counter: int | None, force: bool, config: Path) -> None:
    """Let the next stage begin."""
    from cloud.fleet import rollout_actions

    with opened_store(config) as (_, store):
        approved, stage = rollout_actions.approve(store, counter, _actor(), _now(), force=force)
    click.echo(f"release {approved}: stage {stage} may begin")


@command.command("halt")
@_RELEASE
@_REASON
@CONFIG
def halt(counter: int | None, reason: str, config: Path) -> None:
    """Stop it for all vehicles that do not have the release yet. Who has it keeps it: see `return`."""
    from cloud.fleet import rollout_actions

    with opened_store(config) as (_, store):
        halted = rollout_actions.halt(store, counter, reason, _actor(), _now())
    click.echo(f"release {halted}: halted")


@command.command("return")
@_RELEASE
@_REASON
@CONFIG
def take_back(counter: int | None, reason: str, config: Path) -> None:
    """Take a release back: its vehicles get the model before it, as a new release.

    The keys of trainer and gate sign it. Without them here, probations end at once all the same, and the rest
    waits: bring them, and say it again.
    """
    from cloud.fleet import rollout_actions, rollout_return

    with opened_store(config) as (loaded, store):
        wanted = rollout_actions.take_back(store, counter, reason, _actor(), _now())
        troubles = rollout_return.take_back(store, loaded, _actor(), _now())
    for trouble in troubles:
        raise click.ClickException(trouble)
    click.echo(f"release {wanted}: taken back")


@command.command("pin")
@click.argument("vehicle")
@click.argument("counter", type=int, metavar="RELEASE")
@click.option("--for", "duration", metavar="TIME", help="Such as 12h or 7d  [default: until it is unpinned]")
@_REASON
@CONFIG
def pin(vehicle: str, counter: int, duration: str | None, reason: str, config: Path) -> None:
    """Keep VEHICLE on RELEASE, whatever rollouts say. One that has a newer release keeps that."""
    from cloud.fleet import rollout_actions

    until = None if duration is None else _now() + _duration(duration)
    with opened_store(config) as (_, store):
        rollout_actions.pin(store, vehicle, counter, until, reason, _actor(), _now())
    click.echo(f"{vehicle}: pinned to release {counter}")


@command.command("unpin")
@click.argument("vehicle")
@CONFIG
def unpin(vehicle: str, config: Path) -> None:
    """Let rollouts decide about VEHICLE again."""
    from cloud.fleet import rollout_actions

    with opened_store(config) as (_, store):
        rollout_actions.unpin(store, vehicle, _actor())
    click.echo(f"{vehicle}: not pinned any more")


@command.command("label")
@click.argument("vehicle")
@click.argument("labels", nargs=-1, metavar="[KEY=VALUE]...")
@CONFIG
def label(vehicle: str, labels: tuple[str, ...], config: Path) -> None:
    """Put labels on VEHICLE, which cohorts are chosen by; KEY= takes one off. Prints what it has."""
    from cloud.fleet import rollout_actions

    with opened_store(config) as (_, store):
        has = rollout_actions.label(store, vehicle, _pairs(labels), _actor())
    click.echo(f"{vehicle}: {' '.join(f'{key}={value}' for key, value in has.items()) or 'no labels'}")


def _policy(config: CloudConfig, everyone: bool, path: Path | None, labels: tuple[str, ...]) -> RolloutConfig:
    from cloud.config import load_config
    from cloud.fleet.rollout_changes import EVERYONE

    policy = config.rollout
    if path is not None:
        policy = load_config(path).rollout
    elif everyone:
        policy = policy.model_copy(update={"stages": EVERYONE.stages})
    if labels:
        policy = policy.model_copy(update={"labels": _pairs(labels)})
    return policy


def _pairs(labels: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, Any] = {}
    for text in labels:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise click.BadParameter(f"{text!r}: expected KEY=VALUE")
        pairs[key] = value
    return pairs


def _duration(text: str) -> timedelta:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise click.BadParameter(
            f"{text!r}: expected a number and s, m, h or d, such as 12h", param_hint="--for"
        )
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])


def _actor() -> str:
    from cloud.fleet.enrolment import operator

    return operator()


def _now() -> datetime:
    return datetime.now(timezone.utc)
