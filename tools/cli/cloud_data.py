"""`traffic-vision cloud`: datasets, lineage, reproduction and forgetting, registered on its group."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from tools.cli.cloud_opening import CONFIG, opened_store
from tools.cli.cloud_pipeline import opened_pipeline

_PATH = click.Path(path_type=Path)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def register(group: click.Group) -> None:
    """Add the commands to the group `cloud`."""
    for command in (_dataset, _lineage, _reproduce, _samples):
        group.add_command(command)


@click.group("dataset")
def _dataset() -> None:
    """Show the versions of the training data, compare two, and write one to a folder."""


@_dataset.command("list")
@_JSON
@CONFIG
def _list(as_json: bool, config: Path) -> None:
    """Show each version: on top of which, how many pictures of which slice, and the models trained on it."""
    from cloud.pipeline.dataset_versions import list_to_text, list_versions

    with opened_store(config) as (_, store):
        lines = list_versions(store)
    click.echo(json.dumps([asdict(line) for line in lines], indent=2) if as_json else list_to_text(lines))


@_dataset.command("checkout")
@click.argument("version")
@click.argument("folder", type=_PATH)
@CONFIG
def _checkout(version: str, folder: Path, config: Path) -> None:
    """Write VERSION's pictures and labels to FOLDER, from the cache here or from the remote."""
    from cloud.pipeline.data_repository import DataRepository
    from cloud.pipeline.dataset_versions import checkout

    with opened_store(config) as (loaded, store):
        data = DataRepository(loaded.folders.data, loaded.dataset.remote)
        pictures = checkout(store, data, version, folder)
    click.echo(f"{folder}: {version}, {pictures} pictures")


@_dataset.command("diff")
@click.argument("before")
@click.argument("after")
@click.option("--names", is_flag=True, help="Name the pictures.")
@_JSON
@CONFIG
def _diff(before: str, after: str, names: bool, as_json: bool, config: Path) -> None:
    """Show what AFTER has and BEFORE has not, the other way round, and what both have otherwise."""
    from cloud.config import load_config
    from cloud.pipeline.data_repository import DataRepository
    from cloud.pipeline.dataset_versions import compare, difference_to_text

    found = compare(DataRepository(load_config(config).folders.data), before, after)
    click.echo(json.dumps(asdict(found), indent=2) if as_json else difference_to_text(found, names))


@click.command("lineage")
@click.argument("what")
@_JSON
@CONFIG
def _lineage(what: str, as_json: bool, config: Path) -> None:
    """Show where a model comes from, or where a sample went.

    WHAT is a model (a file, the start of its SHA-256, its version, or `champion`): vehicle, drift event,
    samples, dataset, commit, run, verdict, release. Or VEHICLE/SAMPLE, a sample's id, or a vehicle: labels,
    dataset versions, models, releases.
    """
    from cloud.pipeline import lineage, sample_lineage
    from cloud.pipeline.data_repository import DataRepository
    from cloud.pipeline.errors import PipelineError

    with opened_store(config) as (loaded, store):
        try:
            chain = lineage.lineage(store, what)
            text = lineage.to_text(chain)
        except lineage.UnknownModelError as unknown:
            data = DataRepository(loaded.folders.data)
            try:
                chain = sample_lineage.sample_lineage(store, data, what)
            except sample_lineage.UnknownSampleError:
                raise PipelineError(f"{unknown}; nor is it a sample or a vehicle") from None
            text = sample_lineage.to_text(chain)
    click.echo(json.dumps(chain, indent=2) if as_json else text)


@click.command("reproduce")
@click.argument("model")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.02,
    show_default=True,
    help="Of mAP50, where the bits differ.",
)
@click.option("--device", help="To train on, in place of the one that it was trained on.")
@_JSON
@CONFIG
def _reproduce(model: str, tolerance: float, device: str | None, as_json: bool, config: Path) -> None:
    """Train MODEL again from its lineage, and compare: bit for bit, else by figures on the gate's pictures.

    MODEL is as `lineage` takes it. Ends with 1 where the two are different.
    """
    from cloud.pipeline.reproducing import DIFFERENT, recipe_of, reproduce, to_text
    from cloud.pipeline.training import EpochReport

    def show(report: EpochReport) -> None:
        click.echo(report.to_text(), err=True)

    with opened_pipeline(config) as pipeline:
        line = reproduce(pipeline, recipe_of(pipeline, model, device), tolerance, show)
    click.echo(json.dumps(line, indent=2) if as_json else to_text(line))
    if line["state"] == DIFFERENT:
        sys.exit(1)


@click.group("samples")
def _samples() -> None:
    """Samples by hand."""


@_samples.command("forget")
@click.argument("what", required=False, metavar="VEHICLE|SAMPLE")
@click.option("--reason", help="For the audit trail; needed unless with --dry-run or --resume.")
@click.option("--dry-run", is_flag=True, help="Only show what would be forgotten.")
@click.option("--resume", is_flag=True, help="Only finish what earlier calls began.")
@CONFIG
def _forget(what: str | None, reason: str | None, dry_run: bool, resume: bool, config: Path) -> None:
    """Delete samples for good: a VEHICLE's, all of them, or one: VEHICLE/SAMPLE.

    A tombstone is left, which refuses the sample if it comes again. Pictures and labels go from the object
    store, the database, and DVC's cache and remote; dataset versions that held them cannot be had any more,
    and a new version is without them. docs/data.md says what stays: what models have learned, for instance.
    Prints one JSON line.
    """
    from cloud.fleet.enrolment import operator
    from cloud.pipeline.samples import finish, forget, preview

    if resume and (what or reason or dry_run):
        raise click.UsageError("--resume goes alone")
    if not resume and what is None:
        raise click.UsageError("name a vehicle or a sample, or say --resume")
    if not (resume or dry_run or reason):
        raise click.UsageError("--reason is needed: it goes into the audit trail")
    with opened_pipeline(config) as pipeline:
        if what is None:
            line: object = finish(pipeline)
        elif dry_run:
            line = preview(pipeline, what)
        else:
            line = forget(pipeline, what, reason or "", operator())
    click.echo(json.dumps(line))
