"""The day model of real pictures, in a process of its own: `python -m tools.demo.fine_tune PLAN.json`.

Fine-tunes a checkpoint, makes a model file of it, and gives it a drift reference of the pictures that it was
trained on. Prints its epochs on standard output, as `cloud run --events` does.
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DRIVES = 12  # that the day's pictures are parted into for the drift reference
TARGET_HOURS = 24.0


@dataclass(frozen=True, slots=True)
class FineTuning:
    """What to make.

    Attributes:
        weights: an Ultralytics checkpoint, or the name of one that it downloads.
        data: labelled day pictures with the lists `train` and `val`.
        work: folder for what comes of it.
        imgsz: side of the square training picture; the model takes 16:9.
        epochs: as the word says.
        rate_hz: of the drive that the drift reference is for.
    """

    weights: str
    data: Path
    work: Path
    imgsz: int
    epochs: int
    rate_hz: float

    @property
    def checkpoint(self) -> Path:
        """What a retrain goes on from."""
        return self.work / "baseline.pt"

    @property
    def model(self) -> Path:
        """The model file."""
        return self.work / "baseline.onnx"

    @property
    def input_hw(self) -> tuple[int, int]:
        """Height and width of the model's input: multiples of 32, as wide as the training's."""
        return -(-self.imgsz * 9 // 16 // 32) * 32, self.imgsz

    def to_json(self) -> dict[str, Any]:
        """Give JSON-able values."""
        return {**asdict(self), "data": str(self.data), "work": str(self.work)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> FineTuning:
        """Read them again."""
        return cls(**{**values, "data": Path(values["data"]), "work": Path(values["work"])})


def fine_tune(plan: FineTuning) -> None:
    """Make checkpoint and model file.

    Raises:
        TrafficVisionError: the weights, the data or the model cannot be used.
    """
    from cloud.datasets import dataset_sha256, read_dataset
    from cloud.datasets.files import write_file
    from cloud.pipeline.training import EpochReport, TrainingPlan, portable_checkpoint, train
    from cloud.pipeline.ultralytics_boundary import find_weights
    from cloud.release.assembly import AssemblyOptions
    from cloud.release.golden_pictures import read_all
    from cloud.release.importing import import_model

    out = sys.stdout

    def tell(report: EpochReport) -> None:
        event = {"run": "", "stage": "baseline", "kind": "progress", "facts": asdict(report)}
        print(json.dumps(event), file=out, flush=True)

    with contextlib.redirect_stdout(sys.stderr):
        weights = find_weights(plan.weights)
    training = TrainingPlan(
        start=str(weights),
        data=plan.data / "data.yaml",
        work=plan.work,
        name="training",
        imgsz=plan.imgsz,
        epochs=plan.epochs,
    )
    with contextlib.redirect_stdout(sys.stderr):
        best = train(training, tell)
        write_file(plan.checkpoint, portable_checkpoint(best))
        dataset = read_dataset(plan.data)
        busiest = sorted(dataset.images, key=lambda image: -len(image.boxes))[:6]
        options = AssemblyOptions(
            name="baseline-day", dataset_sha256=dataset_sha256(dataset), imgsz=plan.input_hw
        )
        pictures = read_all([image.path for image in busiest if image.path is not None])
        import_model(plan.checkpoint, plan.model, pictures, options)
        _attach_drift_reference(plan, [image.path for image in dataset.images if image.path is not None])


def _attach_drift_reference(plan: FineTuning, pictures: list[Path]) -> None:
    """Of the pictures' own features alone: on what it was trained on, a model is surer than on the road."""
    from cloud.datasets.files import link_or_copy
    from cloud.pipeline.drift_prior import OF_A_MODEL
    from cloud.release.attaching import attach
    from tools.drift.fitting import fit_sources
    from tools.drift.replay import load_detector

    folders = [plan.work / "drives" / f"{number:02d}" for number in range(DRIVES)]
    for number, picture in enumerate(pictures):
        link_or_copy(picture, folders[number % DRIVES] / picture.name)
    fitted = fit_sources(
        [str(folder) for folder in folders],
        load_detector(plan.model, ("cpu",), 2),
        contexts=["daytime"] * len(folders),
        target_hours=TARGET_HOURS,
        rate_hz=plan.rate_hz,
    )
    path = plan.work / "drift.json"
    fitted.reference.without(OF_A_MODEL).save(path)
    attach(path, plan.model, plan.model)


def main() -> None:
    """Read the plan and carry it out; a refusal is one line and exit code 1."""
    from edge.errors import TrafficVisionError

    try:
        fine_tune(FineTuning.from_json(json.loads(Path(sys.argv[1]).read_text())))
    except TrafficVisionError as error:
        sys.exit(f"fine-tuning: error: {error}")


if __name__ == "__main__":
    main()
