"""Real input: a dashcam drive through a COCO model that was imported from its raw export."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2

from tests.shared_data import shared_data

COMMAND = [sys.executable, "-c", "from tools.cli import main; main()"]
FRAMES = 12


def run(*arguments: object) -> str:
    words = [*COMMAND, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_street_through_an_imported_model(tmp_path: Path) -> None:
    drive = shared_data("drives/seattlestreet1.mp4")
    raw = shared_data("weights/yolov8n_int8.onnx")
    golden = shared_data("bdd100k-mini/images")
    model, lines, video = tmp_path / "yolov8n.onnx", tmp_path / "out.jsonl", tmp_path / "out.mp4"
    pictures = sorted(golden.iterdir())[:2]
    run("model", "import", raw, "-o", model, *(word for path in pictures for word in ("--golden", path)))
    outputs = ("--jsonl", lines, "--video", video, "--limit", FRAMES, "--json")
    summary = json.loads(run("replay", drive, "--model", model, *outputs))
    assert summary["frames"]["published"] == summary["frames"]["captured"] == FRAMES
    frames = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [frame["frame"] for frame in frames] == list(range(FRAMES))
    # 29.97 frames a second, as the container says.
    assert [round(frame["time_s"] * 30 / 1.001) for frame in frames] == list(range(FRAMES))
    for frame in frames:
        cars = [found for found in frame["detections"] if found["class"] == "car" and found["score"] > 0.5]
        assert len(cars) >= 2, "a street with cars"
        for x1, y1, x2, y2 in (found["box"] for found in frame["detections"]):
            assert 0 <= x1 < x2 <= 640
            assert 0 <= y1 < y2 <= 360
    annotated = cv2.VideoCapture(str(video))
    assert annotated.get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES
    assert (annotated.get(cv2.CAP_PROP_FRAME_WIDTH), annotated.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (640, 360)


def test_real_drives_decode_whole_and_in_order() -> None:
    from edge.frames.frame import Frame
    from edge.frames.sources import open_source

    with open_source(str(shared_data("drives/night.mp4"))) as source:
        times = []
        for frame in source:
            assert isinstance(frame, Frame), "the trimmed end of the recording is no damage"
            times.append(frame.captured_ns)
    assert len(times) == 1079
    assert times == sorted(set(times))
    assert times[-1] / 1e9 == round(1078 * 1.001 / 30, 9)
