"""The page of drives, by the command."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import cv2
import pytest

from edge.drift import Reference
from edge.drift.features import NAMES
from edge.frames.frame import Frame
from edge.frames.sources import open_source
from edge.perception.jpeg import jpeg_size
from tests.replays import write_model
from tests.tools.drift_commands import done, refused, sim
from tests.tools.html_page import Page


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    path = tmp_path_factory.mktemp("reference") / "day.json"
    drives = (sim(seed) for seed in range(10))
    done("fit", *drives, "--model", model, "-o", path)
    return path


def test_the_page_of_a_drive_into_the_night(tmp_path: Path, model: Path, fitted: Path) -> None:
    out = tmp_path / "report.html"
    dusk = "sim:40?light=noon-night&seconds=90&rate=2&size=160x90&dusk=30&fade=5"
    told = done("report", dusk, sim(41), "--reference", fitted, "--model", model, "-o", out)
    text = out.read_text()
    page = Page(text)
    assert not page.open and "script" not in page.tags
    assert page.tags.count("svg") > 2
    # Nothing is fetched: what the page refers to is in it.
    shown = [uri for uri in page.uris if not uri.startswith("#")]
    assert shown and all(uri.startswith("data:image/jpeg;base64,") for uri in shown)
    pictures = [base64.b64decode(uri.partition(",")[2]) for uri in shown]
    assert all(jpeg_size(picture) == (90, 160) for picture in pictures)
    assert not re.search(r"\b(nan|inf)\b", text)
    assert "prefers-color-scheme: dark" in text
    assert "sim:40?light=noon-night&amp;seconds=90" in text
    assert "alarm (light)" in told.stderr and "exactly:" in told.stderr
    assert "Binned alone" not in text


def test_without_model_and_values_the_page_says_so(tmp_path: Path, fitted: Path) -> None:
    lonely = tmp_path / "lonely.json"
    lonely.write_bytes(fitted.read_bytes())
    out = tmp_path / "report.html"
    done("report", sim(41, "night"), "--reference", lonely, "-o", out)
    text = out.read_text()
    assert "the picture alone was judged" in text and "Binned alone" in text
    assert "detections per frame" not in text.partition("<h2>p, and the exact test")[0]


def test_a_camera_s_mask_and_region_are_in_the_reference(tmp_path: Path, model: Path) -> None:
    config = tmp_path / "edge.toml"
    # The model and the state folder are another machine's.
    config.write_text(
        """
        vehicle = "v1"
        [[cameras]]
        name = "whole"
        url = "/dev/video0"
        [[cameras]]
        name = "masked"
        url = "rtsp://10.0.0.1/front"
        mask = [[[0, 0], [1, 0], [1, 1], [0, 1]]]
        [[cameras]]
        name = "lower"
        url = "rtsp://10.0.0.2/front"
        region = [0, 0.5, 1, 0.5]
        [model]
        factory = "/nowhere/model.onnx"
        """
    )
    made = {}
    for name in ("whole", "masked", "lower"):
        out = tmp_path / f"{name}.json"
        choice = ["--camera-config", config, "--camera", name]
        done("fit", sim(0), sim(1), "--model", model, "-o", out, *choice)
        made[name] = Reference.load(out).contexts[0].features[NAMES.index("brightness")]
    plain = tmp_path / "plain.json"
    done("fit", sim(0), sim(1), "--model", model, "-o", plain)
    assert Reference.load(plain).contexts[0].features[0].mean == made["whole"].mean
    assert made["masked"].constant and made["masked"].mean == pytest.approx(114, abs=1)
    assert abs(made["lower"].mean - made["whole"].mean) > 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--camera-config", "{config}"), "choose one of its cameras by --camera: left, right"),
        (("--camera-config", "{config}", "--camera", "rear"), "no camera 'rear', only left, right"),
        (("--camera", "left"), "needs --camera-config"),
        (("--camera-config", "nowhere.toml"), "nowhere.toml"),
        (("-o", "{folder}/report.txt"), "ends in .html"),
        (("-o", "/no/such/folder/report.html"), "folder does not exist"),
        (("--reference", "nowhere.json"), "nowhere.json"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(
    tmp_path: Path, fitted: Path, arguments: tuple[str, ...], word: str
) -> None:
    config = tmp_path / "edge.toml"
    cameras = "".join(f'[[cameras]]\nname = "{name}"\nurl = "/dev/video0"\n' for name in ("left", "right"))
    config.write_text(cameras)
    asked = ["report", sim(0), "--reference", str(fitted), "-o", str(tmp_path / "report.html")]
    asked += [text.format(config=config, folder=tmp_path) for text in arguments]
    assert word in refused(*asked)
    assert not (tmp_path / "report.html").exists()


def test_what_is_seen_while_the_vehicle_stands_is_in_no_reference(tmp_path: Path, model: Path) -> None:
    """A drive whose last picture is held: what is held adds nothing."""
    made = {}
    for name, held in (("driven", 0), ("stood", 60)):
        folder = tmp_path / name
        folder.mkdir()
        with open_source(sim(3)) as frames:
            pictures = [frame.image for frame in frames if isinstance(frame, Frame)]
        for number, image in enumerate([*pictures, *[pictures[-1]] * held]):
            cv2.imwrite(str(folder / f"{number:03d}.png"), image)
        out = tmp_path / f"{name}.json"
        done("fit", folder, "--model", model, "-o", out)
        made[name] = Reference.load(out).contexts[0].features[0]
    # A look compares with two seconds before: so long it still seems to move.
    assert 0 <= made["stood"].frames - made["driven"].frames <= 4
