from __future__ import annotations

import os
import pickle
import subprocess
import sys

import pytest

from cloud.release import importing
from cloud.release.assembly import AssemblyOptions
from cloud.release.checkpoint import CheckpointError, export_checkpoint
from cloud.release.class_names import ClassNamesError, read_class_names
from cloud.release.golden_pictures import MAX_PICTURES, GoldenPictureError, collect, normalise, read_all
from edge.errors import TrafficVisionError
from tests import models_factory as factory
from tests.extras import needs_ultralytics
from tests.imports import PICTURE, save


def test_spreads_over_a_folder_of_many_pictures(tmp_path):
    for index in range(40):
        (tmp_path / f"{index:02}.png").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")

    chosen = [int(path.stem) for path in collect([tmp_path])]

    assert len(chosen) == MAX_PICTURES and chosen[0] == 0 and chosen[-1] >= 37
    assert chosen == sorted(set(chosen))


def test_golden_pictures_are_small_and_without_metadata(tmp_path):
    image = factory.picture((1500, 3000), (0, 0, 1500, 1500, "red"))
    secret = b"\xff\xe1\x00\x10Exif\0\0LAT 51.5"
    encoded = factory.jpeg(image)
    encoded = encoded[:2] + secret + encoded[2:]

    done = normalise(encoded, "x")

    assert b"LAT 51.5" in encoded and b"LAT 51.5" not in done
    from edge.perception.metadata import decode_jpeg

    assert decode_jpeg(done).shape == (640, 1280, 3)


def test_a_plain_picture_stays_as_it_is_and_one_with_metadata_does_not():
    secret = b"\xff\xe1\x00\x10Exif\0\0LAT 51.5"

    assert normalise(PICTURE, "x") == PICTURE
    done = normalise(PICTURE[:2] + secret + PICTURE[2:], "x")
    assert b"LAT" not in done and normalise(done, "x") == done


def test_refuses_golden_pictures_that_are_none(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name in ("text.jpg", "empty.jpg", "folder", "missing.jpg"):
        with pytest.raises(GoldenPictureError, match=name):
            read_all([tmp_path / name])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.txt", "car\n\n  bus \ntraffic light\n"),
        ("data.yaml", "names:\n  0: car\n  1: bus\n  2: traffic light\n"),
        ("data.yml", "train: x\nnames: [car, bus, traffic light]\n"),
    ],
)
def test_reads_class_names(tmp_path, name, text):
    (tmp_path / name).write_text(text)

    assert read_class_names(tmp_path / name) == ("car", "bus", "traffic light")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.txt", b"\n \n"),
        ("names.txt", b"\xff\xfe\x00"),
        ("data.yaml", b"names: {0: car, 2: bus}"),
        ("data.yaml", b"names: [1, 2]"),
        ("data.yaml", b"just text"),
        ("data.yaml", b"{unclosed"),
        ("data.yaml", b"!!python/object/apply:os.system ['true']"),
    ],
)
def test_refuses_files_without_class_names(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ClassNamesError, match=name):
        read_class_names(tmp_path / name)


def test_a_checkpoint_without_the_cloud_extra_names_the_extra(tmp_path):
    (tmp_path / "ultralytics.py").write_text("raise ImportError('not here')")
    checkpoint = tmp_path / "x.pt"
    checkpoint.write_bytes(b"PK\x03\x04")
    code = (
        "import sys, pathlib\n"
        "from cloud.release.checkpoint import export_checkpoint\n"
        "from edge.errors import TrafficVisionError\n"
        "try:\n    export_checkpoint(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))\n"
        "except TrafficVisionError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(checkpoint), str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )

    assert "cloud extra" in done.stdout, done.stderr


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@needs_ultralytics
@pytest.mark.parametrize("content", [b"", b"text, no checkpoint", pickle.dumps({"a": 1})])
def test_refuses_what_is_no_checkpoint(tmp_path, state, content):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    (tmp_path / "out").mkdir()

    with pytest.raises(CheckpointError, match=r"x\.pt") as refused:
        export_checkpoint(path, tmp_path / "out")
    assert "/out/" not in str(refused.value)  # a copy that is gone
    assert not list((tmp_path / "out").iterdir())


def test_refuses_a_missing_checkpoint_and_an_odd_size(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        export_checkpoint(tmp_path / "none.pt", tmp_path)
    path = tmp_path / "x.pt"
    path.write_bytes(b"x")
    with pytest.raises(CheckpointError, match="300x320, expected multiples of 32"):
        export_checkpoint(path, tmp_path, (300, 320))
    with pytest.raises(CheckpointError, match="up to 8192"):
        export_checkpoint(path, tmp_path, (320_000, 320_000))


def test_a_refused_checkpoint_is_named_and_not_its_export(tmp_path, monkeypatch):
    def export(checkpoint, folder, imgsz):
        return save(folder, factory.rectangles_export(names=None), "x.onnx")

    monkeypatch.setattr(importing, "export_checkpoint", export)
    checkpoint = tmp_path / "x.pt"

    with pytest.raises(TrafficVisionError, match=r"--names") as refused:
        importing.import_model(checkpoint, tmp_path / "o.onnx", [PICTURE], AssemblyOptions(version="1"))
    assert str(refused.value).startswith(f"{checkpoint}: ")
    assert not (tmp_path / "o.onnx").exists()
