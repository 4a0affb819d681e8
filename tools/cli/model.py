"""`traffic-vision model`: model files."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge.errors import TrafficVisionError

_PATH = click.Path(path_type=Path)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_PROVIDERS = click.option(
    "--provider",
    "providers",
    multiple=True,
    default=("cpu",),
    show_default=True,
    help="Execution provider: cpu, cuda, tensorrt, openvino... Repeat for an order of preference.",
)
_THREADS = click.option(
    "--threads", default=2, show_default=True, help="CPU threads of one inference; 0: one per core."
)


class GoldenFramesError(TrafficVisionError):
    """A model file's golden frames did not come out as it says."""


@click.group("model")
def command() -> None:
    """Make, inspect, verify and evaluate model files."""


@command.command("import")
@click.argument("raw", type=_PATH)
@click.option("-o", "--output", type=_PATH, required=True, help="The model file to write.")
@click.option("--names", type=_PATH, help="Class names: one a line, or a data.yaml. [default: RAW's own]")
@click.option(
    "--golden",
    type=_PATH,
    multiple=True,
    help="Picture or folder for golden frames; 16 at most, evenly spaced. [default: simulated streets]",
)
@click.option(
    "--data",
    type=_PATH,
    help="What it was trained on: the file then carries this dataset's hash, and an embedding fitted to it.",
)
@click.option("--name", help="Name of the model. [default: RAW's file name]")
@click.option("--version", help="Version of the model. [default: from RAW's SHA-256]")
@click.option(
    "--score-threshold",
    type=click.FloatRange(0, 1),
    default=0.25,
    show_default=True,
    help="Detections below it are dropped.",
)
@click.option(
    "--iou-threshold",
    type=click.FloatRange(0, 1),
    default=0.7,
    show_default=True,
    help="Of two boxes of a class that overlap by more, the better-scored stays.",
)
@click.option(
    "--max-detections",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    help="At most so many in a frame.",
)
@click.option(
    "--imgsz",
    type=(int, int),
    metavar="HEIGHT WIDTH",
    help="Input size of a .pt or of an export that leaves it open. [default: that of its training]",
)
@_JSON
def import_(
    raw: Path,
    output: Path,
    names: Path | None,
    golden: tuple[Path, ...],
    data: Path | None,
    name: str | None,
    version: str | None,
    score_threshold: float,
    iou_threshold: float,
    max_detections: int,
    imgsz: tuple[int, int] | None,
    as_json: bool,
) -> None:
    """Make a model file of RAW, judge it, and write it.

    RAW is an Ultralytics detector: its ONNX export in any precision, or a .pt checkpoint where the cloud
    extra is installed. Reading a .pt runs code that is in it: give only those whose origin you know.
    """
    from cloud.release import golden_pictures
    from cloud.release.assembly import AssemblyOptions
    from cloud.release.class_names import read_class_names
    from cloud.release.importing import import_model
    from edge.perception.model_file import describe

    if golden:
        pictures = golden_pictures.read_all(golden)
    else:
        from tools.drives.golden import golden_pictures as simulated

        pictures = simulated()
    dataset: str | None = None
    trained_on: tuple[Path, ...] = ()
    if data:
        from cloud.datasets import dataset_sha256, read_dataset

        found = read_dataset(data)
        dataset = dataset_sha256(found)
        trained_on = tuple(image.path for image in found.images if image.path is not None)
    options = AssemblyOptions(
        dataset_sha256=dataset,
        name=name,
        version=version,
        class_names=read_class_names(names) if names else None,
        imgsz=imgsz,
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        max_detections=max_detections,
        trained_on=trained_on,
    )
    assembled = import_model(raw, output, pictures, options)
    if as_json:
        about = {**describe(assembled.model), "path": str(output)}
        click.echo(json.dumps({**about, "golden_report": assembled.report.to_json()}, indent=2))
    else:
        click.echo(f"{output}: {assembled.model.summary()}")


@command.command("info")
@click.argument("model", type=_PATH)
@_JSON
def info(model: Path, as_json: bool) -> None:
    """Print what MODEL says of itself."""
    from edge.perception.model_file import describe, describe_text, read_model_file

    model_file = read_model_file(model)
    click.echo(json.dumps(describe(model_file), indent=2) if as_json else describe_text(model_file))


@command.command("verify")
@click.argument("model", type=_PATH)
@_PROVIDERS
@_THREADS
@_JSON
def verify(model: Path, providers: tuple[str, ...], threads: int, as_json: bool) -> None:
    """Run MODEL's golden frames and compare with what it expects of them."""
    from edge.perception.detector import Detector, DetectorOptions
    from edge.perception.golden import verify as verify_golden
    from edge.perception.model_file import read_model_file

    model_file = read_model_file(model)
    detector = Detector(model_file, DetectorOptions(providers=providers, threads=threads))
    report = verify_golden(model_file, detector)
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report.to_text())
    if not report.passed:
        raise GoldenFramesError(f"{model}: {report.reason}")


@command.command("evaluate")
@click.argument("model", type=_PATH)
@click.option("--data", type=_PATH, required=True, help="Labelled data: any shape that `data import` takes.")
@click.option("--images", type=_PATH, help="Folder of the pictures, if they are not with the labels.")
@click.option("--slice", "slices", multiple=True, help="Attribute to judge apart by, such as timeofday.")
@_PROVIDERS
@_THREADS
@_JSON
def evaluate(
    model: Path,
    data: Path,
    images: Path | None,
    slices: tuple[str, ...],
    providers: tuple[str, ...],
    threads: int,
    as_json: bool,
) -> None:
    """Judge MODEL on labelled data: COCO's average precision, for all and for each class and slice."""
    from cloud.pipeline.evaluation import EvaluationOptions, evaluate_model_file

    options = EvaluationOptions(providers=providers, threads=threads, images=images)
    evaluation = evaluate_model_file(model, data, slices, options)
    click.echo(json.dumps(evaluation.to_json(), indent=2) if as_json else evaluation.to_text())


@command.command("train")
@click.option("--data", type=_PATH, required=True, help="Ultralytics' data.yaml; `data split` writes one.")
@click.option("-o", "--output", type=_PATH, required=True, help="The checkpoint to write, .pt.")
@click.option("--start", default="yolov8n.yaml", show_default=True, help="An architecture, or a checkpoint.")
@click.option(
    "--work", type=_PATH, default="runs", show_default=True, help="Folder for unfinished trainings."
)
@click.option("--imgsz", type=click.IntRange(32), default=320, show_default=True, help="Side in pixels.")
@click.option("--epochs", type=click.IntRange(1), default=40, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", help="cpu, 0, ... [default: a GPU if there is one]")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="CPU threads.")
def train(
    data: Path,
    output: Path,
    start: str,
    work: Path,
    imgsz: int,
    epochs: int,
    batch: int,
    seed: int,
    device: str | None,
    threads: int,
) -> None:
    """Train a detector; the same command again goes on with a training that was interrupted.

    Needs the cloud extra. The result is a checkpoint: `model import` makes a model file of it.
    """
    from cloud.datasets.files import write_file
    from cloud.pipeline.training import EpochReport, TrainingPlan, portable_checkpoint
    from cloud.pipeline.training import train as run_training

    def show(report: EpochReport) -> None:
        click.echo(report.to_text(), err=True)

    plan = TrainingPlan(start, data, work, output.stem, imgsz, epochs, batch, seed, threads, device)
    write_file(output, portable_checkpoint(run_training(plan, show)))
    click.echo(f"{output}: checkpoint of {start} after at most {epochs} epochs")
