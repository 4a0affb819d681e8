"""`traffic-vision drift`: references, and drives judged by them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cloud.datasets import LabeledImage

_PATH = click.Path(path_type=Path)
_MODEL = click.option("--model", type=_PATH, required=True, help="The model file.")
_REFERENCE = click.option(
    "--reference",
    type=_PATH,
    required=True,
    help="What to judge by: a file of `drift fit`, a camera's own.json, or a model file with one in it.",
)
_CONFIG = click.option(
    "--camera-config",
    type=_PATH,
    metavar="FILE",
    help="A daemon's configuration, whose camera's region and mask are applied to each SOURCE.",
)
_CAMERA = click.option(
    "--camera", metavar="NAME", help="Which of its cameras; needed where there are several."
)
_PROVIDER = click.option(
    "--provider",
    "providers",
    multiple=True,
    default=("cpu",),
    show_default=True,
    help="Execution provider; repeat for an order of preference.",
)
_THREADS = click.option(
    "--threads", type=int, default=2, show_default=True, help="Of one inference on a CPU."
)
_DATA = click.option(
    "--data",
    type=_PATH,
    multiple=True,
    required=True,
    help="Labelled data: any shape that `data import` takes; repeat for more.",
)
_IMAGES = click.option("--images", type=_PATH, help="Folder of the pictures, if not with the labels.")
_PICTURES = click.option(
    "--pictures", type=click.IntRange(1), default=100, show_default=True, help="Of these, to corrupt."
)


@click.group("drift")
def command() -> None:
    """Make a drift reference, and judge a drive by one."""


@command.command("fit")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@_MODEL
@click.option("-o", "--output", type=_PATH, required=True, help="The reference's file, .json.")
@click.option(
    "--context",
    "contexts",
    metavar="NAME[=PATTERN]",
    multiple=True,
    default=("day",),
    show_default=True,
    help="What the drives have in common; with PATTERN, those SOURCEs that fit it, such as 'night=*night*'.",
)
@click.option(
    "--find-contexts", is_flag=True, help="Find the contexts in the drives, by what their pictures are like."
)
@click.option(
    "--fleet",
    is_flag=True,
    help="The drives are of other cameras than the one that will be judged: it alarms, and promises nothing.",
)
@click.option("--beside", type=_PATH, help="A reference whose other contexts go into the file too.")
@click.option("--target-hours", type=float, default=24.0, show_default=True, help="To one false alarm.")
@click.option(
    "--rate",
    "rate_hz",
    type=float,
    default=2.0,
    show_default=True,
    help="Frames a second that the reference counts in; for a camera that is always slower, its own.",
)
@_CONFIG
@_CAMERA
@_PROVIDER
@_THREADS
def fit(
    sources: tuple[str, ...],
    model: Path,
    output: Path,
    contexts: tuple[str, ...],
    find_contexts: bool,
    fleet: bool,
    beside: Path | None,
    target_hours: float,
    rate_hz: float,
    camera_config: Path | None,
    camera: str | None,
    providers: tuple[str, ...],
    threads: int,
) -> None:
    """Make a reference from drives: each SOURCE is a drive of its own.

    A SOURCE is a video file, a folder of pictures, or a simulated drive such as "sim:500?seconds=100&rate=2".
    It goes through the daemon's own path. NAME.values.npz beside NAME.json holds values for exact tests.

    It promises a rate of false alarms for the camera that the drives are of, if there are enough: a vehicle
    that judges by it says "stable", and commissions that camera no more. Of other cameras, give --fleet.
    """
    from edge.drift import Reference, Scope, combine
    from edge.drift.features import watched_reference
    from tools.drift.camera import camera_of
    from tools.drift.fitting import check_beside, contexts_of, fit_sources
    from tools.drift.replay import load_detector
    from tools.drift.values import save_values, values_beside, values_path
    from tools.drift.words import reference_text
    from tools.replay.interrupt import Interrupt
    from tools.replay.outputs import check_named
    from tools.replay.progress import ProgressLine

    check_named(output, "a reference", ".json")
    others = Reference.load(beside) if beside else None
    if find_contexts and (beside or any("=" in one for one in contexts)):
        raise click.UsageError("--find-contexts takes all drives together: neither PATTERN nor --beside.")
    of_sources = contexts_of(sources, contexts)
    check_beside(others, of_sources, target_hours, rate_hz)
    others_values, trouble = values_beside(beside, others) if beside and others else (None, "")
    looked_at = camera_of(camera_config, camera)
    detector = load_detector(model, providers, threads)
    with Interrupt() as interrupt, ProgressLine(sys.stderr) as progress:
        fitted = fit_sources(
            sources,
            detector,
            contexts=of_sources,
            target_hours=target_hours,
            find=find_contexts,
            scope=Scope.FLEET if fleet else Scope.SERIES,
            rate_hz=rate_hz,
            camera=looked_at,
            stop_requested=lambda: interrupt.requested,
            progress=progress.show,
        )
    reference, values = fitted.reference, fitted.values
    if others:
        reference = combine(watched_reference(others), reference)
        values = values.beside(others_values)
    reference.save(output)
    save_values(values, reference, values_path(output))
    click.echo(reference_text(reference), err=True)
    for note in fitted.notes:
        click.echo(note, err=True)
    if trouble:
        click.echo(f"of the contexts of {beside}, no values for exact tests: {trouble}", err=True)


@command.command("attach")
@click.argument("reference", type=_PATH)
@_MODEL
@click.option("-o", "--output", type=_PATH, required=True, help="The model file to write; it may be MODEL.")
def attach(reference: Path, model: Path, output: Path) -> None:
    """Write MODEL again with REFERENCE in it, for vehicles to judge by until they know better."""
    from cloud.release.attaching import attach as attach_reference

    click.echo(f"{output}: {attach_reference(reference, model, output).summary()}")


@command.command("scan")
@click.argument("source")
@_REFERENCE
@_MODEL
@click.option("--jsonl", help="Write each state as a JSON line to this file; - is standard output.")
@_CONFIG
@_CAMERA
@_PROVIDER
@_THREADS
def scan(
    source: str,
    reference: Path,
    model: Path,
    jsonl: str | None,
    camera_config: Path | None,
    camera: str | None,
    providers: tuple[str, ...],
    threads: int,
) -> None:
    """Judge a drive: each change of the verdict, and what carries it."""
    from contextlib import ExitStack

    from tools.drift.camera import camera_of
    from tools.drift.given import given_reference
    from tools.drift.replay import load_detector, scan_source
    from tools.drift.words import change_text
    from tools.replay.interrupt import Interrupt
    from tools.replay.outputs import LinesFile
    from tools.replay.progress import ProgressLine

    with ExitStack() as stack:
        looked_at = camera_of(camera_config, camera)
        detector = load_detector(model, providers, threads)
        known = given_reference(reference, detector.model).reference
        lines = stack.enter_context(LinesFile(jsonl)) if jsonl else None
        interrupt = stack.enter_context(Interrupt())
        progress = stack.enter_context(ProgressLine(sys.stderr))
        before = None
        for state in scan_source(
            source,
            detector,
            known,
            camera=looked_at,
            stop_requested=lambda: interrupt.requested,
            progress=progress.show,
        ):
            if lines:
                lines.write(json.dumps(state.to_json()))
            if before is not state.verdict:
                click.echo(change_text(state), err=True)
            before = state.verdict
        if before is None and not interrupt.requested:
            click.echo("too short for a judgement", err=True)
    if interrupt.requested:
        sys.exit(130)


@command.command("report")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@_REFERENCE
@click.option("-o", "--output", type=_PATH, required=True, help="The page, .html.")
@click.option("--model", type=_PATH, help="The model file; without it, the picture alone is judged.")
@_CONFIG
@_CAMERA
@_PROVIDER
@_THREADS
def report(
    sources: tuple[str, ...],
    reference: Path,
    output: Path,
    model: Path | None,
    camera_config: Path | None,
    camera: str | None,
    providers: tuple[str, ...],
    threads: int,
) -> None:
    """Judge drives, and show it on one page: features over time, distributions, alarms with their frames.

    Each SOURCE is a drive of its own. With NAME.values.npz beside the reference NAME.json, as `drift fit`
    writes it, each alarm is put to the exact test too.
    """
    # What is missing is missed before the work.
    import jinja2  # noqa: F401
    import scipy.stats  # noqa: F401

    from tools.drift.camera import camera_of
    from tools.drift.given import given_reference
    from tools.drift.judging import judge_source
    from tools.drift.replay import load_detector
    from tools.drift.report import alarm_text, check_page, write_report
    from tools.replay.interrupt import Interrupt
    from tools.replay.progress import ProgressLine

    check_page(output)
    looked_at = camera_of(camera_config, camera)
    detector = load_detector(model, providers, threads) if model else None
    judged_by = detector.model if detector else None
    known = given_reference(reference, judged_by)
    drives = []
    with Interrupt() as interrupt, ProgressLine(sys.stderr) as progress:
        for source in sources:
            if interrupt.requested:
                break
            drives.append(
                judge_source(
                    source,
                    detector,
                    known.reference,
                    known.values,
                    camera=looked_at,
                    stop_requested=lambda: interrupt.requested,
                    progress=progress.show,
                )
            )
    write_report(drives, known, output, model=judged_by)
    for drive in drives:
        for alarm in drive.alarms:
            click.echo(alarm_text(drive, alarm), err=True)
    if interrupt.requested:
        sys.exit(130)


@command.command("fit-drop")
@click.argument("reference", type=_PATH)
@_MODEL
@_DATA
@_IMAGES
@click.option("-o", "--output", type=_PATH, required=True, help="The file to write; it may be REFERENCE.")
@_PICTURES
@_THREADS
def fit_drop(
    reference: Path,
    model: Path,
    data: tuple[Path, ...],
    images: Path | None,
    output: Path,
    pictures: int,
    threads: int,
) -> None:
    """Write REFERENCE again with how MODEL's accuracy falls when what it finds changes.

    By it, a vehicle estimates what an alarm costs the detector, without labels. DATA are of drives that the
    model was not trained on; their pictures are corrupted in many ways and steps.
    """
    from dataclasses import replace

    from cloud.datasets.progress import progress_bar
    from cloud.pipeline.drop_estimate import DropOptions, measure_drop
    from edge.drift import Reference
    from edge.drift.features import watched_reference
    from edge.perception.model_file import read_model_file
    from tools.drift.values import save_values, values_beside, values_path
    from tools.replay.outputs import check_named

    check_named(output, "a reference", ".json")
    known = Reference.load(reference)
    watched_reference(known)
    values, _ = values_beside(reference, known)
    options = DropOptions(pictures=pictures, threads=threads, progress=progress_bar("corrupt"))
    measured = measure_drop(read_model_file(model), _labelled(data, images), options)
    made = replace(known, drop=measured.drop)
    made.save(output)
    if values:
        save_values(values, made, values_path(output))
    click.echo(measured.to_text(), err=True)


@command.command("check-drop")
@_MODEL
@_DATA
@_IMAGES
@click.option("--slice", "slice_by", default="timeofday", show_default=True, help="What parts the pictures.")
@click.option("--from", "base", default="daytime", show_default=True, help="What is compared with the rest.")
@click.option("--reference", type=_PATH, help="Has the estimate  [default: fitted now, on those of --from]")
@_PICTURES
@_THREADS
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def check_drop(
    model: Path,
    data: tuple[Path, ...],
    images: Path | None,
    slice_by: str,
    base: str,
    reference: Path | None,
    pictures: int,
    threads: int,
    as_json: bool,
) -> None:
    """Hold the estimate of lost accuracy against the measured loss, between slices of labelled data.

    The estimate sees no label, and is fitted on corrupted pictures of --from alone: by night, say, it shows
    how far it can be believed.
    """
    from cloud.datasets.progress import progress_bar
    from cloud.pipeline.drop_check import check_drop as check
    from cloud.pipeline.drop_estimate import DropOptions
    from edge.drift import DriftReferenceError, Reference
    from edge.perception.model_file import read_model_file

    drop = None
    if reference is not None:
        drop = Reference.load(reference).drop
        if drop is None:
            raise DriftReferenceError(
                f"{str(reference)!r} says nothing of accuracy: `drift fit-drop` puts it in"
            )
    options = DropOptions(pictures=pictures, threads=threads, progress=progress_bar("look"))
    found = check(read_model_file(model), _labelled(data, images), slice_by, base, drop, options)
    click.echo(json.dumps(found.to_json(), indent=2) if as_json else found.to_text())


def _labelled(data: tuple[Path, ...], images: Path | None) -> list[LabeledImage]:
    from cloud.datasets import read_dataset

    return [image for path in data for image in read_dataset(path, images).images]
