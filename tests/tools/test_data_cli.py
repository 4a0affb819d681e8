"""`traffic-vision data` as people run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cloud.datasets import DatasetError, dataset_sha256, read_dataset
from tests.labelled import frame, jpeg, label, write
from tests.shared_data import ROOT, shared_data
from tools.cli import root


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(root, ["data", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def source(tmp_path: Path) -> Path:
    lane = {"category": "lane", "poly2d": []}
    frames = [
        frame(f"{number:08x}-00000000.jpg", label("person"), label("bike", x1=60, x2=90), lane)
        for number in range(10)
    ]
    frames[1]["attributes"]["timeofday"] = "daytime"
    frames[2]["labels"][0]["box2d"]["x2"] = 0
    for number, labelled in enumerate(frames):
        write(tmp_path / "pictures" / labelled["name"], jpeg(shade=number * 20))
    write(tmp_path / "pictures" / frames[3]["name"], b"\xff\xd8")
    return write(tmp_path / "labels" / "det_train.json", frames)


def test_import_then_split_then_inspect(source: Path, tmp_path: Path) -> None:
    pictures, imported, halves = tmp_path / "pictures", tmp_path / "imported", tmp_path / "halves"
    report = json.loads(run("import", source, "--images", pictures, "-o", imported, "--json").stdout)
    assert (report["images"], report["boxes"]) == (9, 17)
    assert report["classes"] == {"bicycle": 9, "pedestrian": 8}
    assert report["refusals"] == {"box is inverted": 1, "image is corrupt": 1}
    assert report["skipped"] == {"lane": 10}
    assert report["sha256"] == dataset_sha256(read_dataset(imported))

    text = run("split", imported, "-o", halves, "--fractions", "train=0.5,val=0.5", "--salt", "s").stdout
    assert "9 images, 9 drives, 17 boxes" in text
    sides = {
        name: json.loads(run("inspect", halves / f"{name}.txt", "--json").stdout) for name in ("train", "val")
    }
    assert sum(side["drives"] for side in sides.values()) == 9
    assert sum(side["boxes"] for side in sides.values()) == 17

    page = tmp_path / "page.html"
    text = run("inspect", halves, "--html", page).stdout
    assert "nothing refused" in text
    assert page.read_text().count("<svg") == 9


def test_inspect_counts_labels_without_pictures(source: Path) -> None:
    counted = json.loads(run("inspect", source, "--json").stdout)
    assert (counted["images"], counted["without_picture"]) == (10, 10)
    assert counted["slices"]["timeofday"]["daytime"]["images"] == 1


def test_import_of_labels_without_any_picture_says_so(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no image was usable \(10 image is missing\)"):
        run("import", source, "-o", tmp_path / "out")


def test_simulated_drives_are_a_dataset(tmp_path: Path) -> None:
    options = ("--drives", "2", "--frames", "2", "--rate", "0.5", "--light", "night", "--size", "160x90")
    run("simulate", *options, "--seed", "3", "--val-drives", "1", "-o", tmp_path / "out")
    dataset = read_dataset(tmp_path / "out")
    assert {image.drive for image in dataset.images} == {"sim00000003", "sim00000004"}
    assert {(image.width, image.height, image.attributes["timeofday"]) for image in dataset.images} == {
        (160, 90, "night")
    }
    assert {image.drive for image in read_dataset(tmp_path / "out" / "val.txt").images} == {"sim00000004"}
    run(
        "simulate",
        "--frames",
        "2",
        "--rate",
        "10",
        "--size",
        "160x90",
        "--format",
        "mp4",
        "-o",
        tmp_path / "films",
    )
    assert [path.name for path in (tmp_path / "films").glob("*.mp4")] == ["sim00000000-noon.mp4"]
    assert len(read_dataset(tmp_path / "films").images) == 2
    with pytest.raises(DatasetError, match="even, not 161x90"):
        run("simulate", "--size", "161x90", "--format", "mp4", "-o", tmp_path / "odd")
    wrong = CliRunner().invoke(root, ["data", "simulate", "--size", "big", "-o", str(tmp_path / "no")])
    assert wrong.exit_code == 2
    assert "'big' is not WxH in pixels" in wrong.output


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from tools.cli import main; main()", "data", "inspect"]
    no_data = subprocess.run([*command, tmp_path / "none"], cwd=ROOT, capture_output=True, text=True)
    assert (no_data.returncode, no_data.stdout) == (1, "")
    assert no_data.stderr == f"traffic-vision: error: {tmp_path / 'none'} does not exist\n"


def test_the_real_images_imported(tmp_path: Path) -> None:
    folder = shared_data("bdd100k-mini")
    report = json.loads(run("import", folder, "-o", tmp_path / "out", "--json").stdout)
    assert (report["images"], report["drives"], report["boxes"]) == (500, 499, 9022)
    assert report["refusals"] == report["left_out"] == {}
    assert report["sha256"] == dataset_sha256(read_dataset(folder))
