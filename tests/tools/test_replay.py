from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from edge.errors import TrafficVisionError
from tests.models_factory import constant_model, picture
from tests.recordings import damage_packets, write_video
from tests.replays import BLUE_BOX, COMMAND, lines, red_box, write_drive, write_model
from tools.cli import root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drive(tmp_path_factory.mktemp("drive"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(root, ["replay", *map(str, arguments)])


def done(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refused(*arguments: object) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, TrafficVisionError), result.output
    return str(result.exception)


def frames_of(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        decoded, frame = capture.read()
        if not decoded:
            return frames
        frames.append(frame)


def test_each_frame_gives_a_line_with_its_time_and_what_was_found(
    tmp_path: Path, model: Path, drive: Path
) -> None:
    out = tmp_path / "out.jsonl"
    done(drive, "--model", model, "--jsonl", out, "--rate", 4)
    for index, line in enumerate(lines(out.read_text())):
        assert list(line) == ["camera", "frame", "name", "time_s", "model", "detections"]
        assert (line["frame"], line["name"], line["time_s"]) == (index, f"frame{index}.png", index / 4)
        assert [found["class"] for found in line["detections"]] == ["blue", "red"]
        assert {found["score"] for found in line["detections"]} == {0.9}
        red = next(found for found in line["detections"] if found["class"] == "red")
        # The model's input is smaller than the frame: a pixel of it is 1.7 of the frame's.
        assert red["box"] == pytest.approx(red_box(index)[:4], abs=2)
    assert index == 5


def test_the_same_drive_gives_the_same_bytes(tmp_path: Path, model: Path) -> None:
    source = "sim:7?light=night&seconds=1&rate=5"
    for name in ("one", "two"):
        done(source, "--model", model, "--jsonl", tmp_path / name, "--times", tmp_path / f"{name}.times")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert len(lines((tmp_path / "one").read_text())) == 5
    for line in lines((tmp_path / "one.times").read_text()):
        assert list(line["ms"]) == ["decode", "preprocess", "inference", "postprocess", "detect"]
        stages = [line["ms"][stage] for stage in ("preprocess", "inference", "postprocess")]
        assert line["ms"]["detect"] == pytest.approx(sum(stages), abs=1e-3)


def test_lines_go_to_standard_output_and_the_summary_to_standard_error(model: Path, drive: Path) -> None:
    result = done(drive, "--model", model, "--jsonl", "-", "--limit", 3)
    assert [line["frame"] for line in lines(result.stdout)] == [0, 1, 2]
    assert "3 captured: 3 published" in result.stderr
    assert "red 3" in result.stderr


def test_the_json_summary_adds_up(tmp_path: Path, model: Path, drive: Path) -> None:
    out = tmp_path / "out.jsonl"
    summary = json.loads(done(drive, "--model", model, "--jsonl", out, "--json").stdout)
    frames = summary["frames"]
    assert frames.pop("captured") == sum(frames.values()) == frames["published"] == 6
    found = [item["class"] for line in lines(out.read_text()) for item in line["detections"]]
    assert summary["detections"] == {name: found.count(name) for name in ("blue", "red")}
    assert summary["drive_s"] == pytest.approx(0.5)
    assert summary["interrupted"] is False
    assert {"decode", "preprocess", "inference", "postprocess"} <= set(summary["stages_ms"])
    for times in summary["stages_ms"].values():
        assert times["min"] <= times["p50"] <= times["p99"] <= times["max"]


def test_frames_that_do_not_decode_have_lines_of_their_own(tmp_path: Path, model: Path) -> None:
    recording = write_video(tmp_path / "drive.mp4", frames=12, fourcc="mjpg")
    damage_packets(recording, 3, 8)
    out = tmp_path / "out.jsonl"
    summary = json.loads(done(recording, "--model", model, "--jsonl", out, "--json").stdout)
    written = lines(out.read_text())
    assert [line["frame"] for line in written] == list(range(12))
    assert [line["frame"] for line in written if line.get("error") == "decode_error"] == [3, 8]
    assert [line["time_s"] for line in written] == pytest.approx([index / 10 for index in range(12)])
    assert (summary["frames"]["published"], summary["frames"]["decode_error"]) == (10, 2)


def broken_in_the_dark(tmp_path: Path) -> Path:
    """A model whose output is not a number for a black picture."""
    graph = onnx.load_from_string(constant_model([[8, 8, 4, 4, 0.9]]))
    (product,) = (node for node in graph.graph.node if list(node.input) == ["brightest", "zero"])
    product.op_type = "Div"
    product.input[:] = ["zero", "brightest"]
    path = tmp_path / "dark.onnx"
    path.write_bytes(graph.SerializeToString())
    return path


def test_a_frame_whose_inference_fails_costs_itself_alone(tmp_path: Path) -> None:
    pictures = write_drive(tmp_path / "drive", frames=4)
    for index in (1, 2):
        # The model's input has the picture's shape times .6, so that no grey border brightens it.
        cv2.imwrite(str(pictures / f"frame{index}.png"), np.zeros((64, 96, 3), np.uint8))
    model = broken_in_the_dark(tmp_path)
    out, video = tmp_path / "out.jsonl", tmp_path / "out.mp4"
    result = done(pictures, "--model", model, "--jsonl", out, "--video", video, "--json")
    counted = json.loads(result.stdout)["frames"]
    assert (counted["captured"], counted["published"], counted["inference_error"]) == (4, 2, 2)
    assert [line.get("error") for line in lines(out.read_text())] == [
        None,
        "inference_error",
        "inference_error",
        None,
    ]
    assert len(frames_of(video)) == 4


def test_a_replay_in_which_nothing_got_through_fails(tmp_path: Path, drive: Path) -> None:
    path = tmp_path / "nan.onnx"
    path.write_bytes(constant_model([[8, 8, 4, 4, float("nan")]]))
    out = tmp_path / "out.jsonl"
    assert "6 inference error" in refused(drive, "--model", path, "--jsonl", out)
    assert len(lines(out.read_text())) == 6


def test_the_limit_and_the_threshold_are_heeded(tmp_path: Path, model: Path, drive: Path) -> None:
    out = tmp_path / "out.jsonl"
    done(drive, "--model", model, "--jsonl", out, "--limit", 2, "--score-threshold", 0.95)
    assert [line["detections"] for line in lines(out.read_text())] == [[], []]


def test_the_video_shows_boxes_labels_and_a_caption(tmp_path: Path) -> None:
    drive = write_drive(tmp_path / "drive", frames=4, hw=(480, 800))
    video = tmp_path / "out.mp4"
    done(drive, "--model", write_model(tmp_path, hw=(480, 800)), "--video", video, "--rate", 8)
    frames = frames_of(video)
    assert len(frames) == 4
    assert cv2.VideoCapture(str(video)).get(cv2.CAP_PROP_FPS) == 8
    for index, frame in enumerate(frames):
        plain = cv2.imread(str(drive / f"frame{index}.png")).astype(int)
        assert frame.shape == plain.shape
        changed = np.abs(frame - plain).max(axis=2) > 60
        for x1, y1, x2, y2, _ in (red_box(index), BLUE_BOX):
            for side in (x1, x2):
                assert changed[y1 + 4 : y2 - 4, side - 3 : side + 3].any(axis=1).all(), "the sides are drawn"
            assert not changed[y1 + 6 : y2 - 6, x1 + 6 : x2 - 6].any(), "the box is not filled"
            assert changed[y2 : y2 + 16, x1 : x1 + 60].any() or changed[y1 - 10 : y1, x1 : x1 + 60].any()
        assert changed[-12:, :200].any(), "the caption is there"
        assert not changed[120:400].any(), "nothing is drawn where nothing was found"


def test_pictures_of_other_shapes_fit_into_the_video_of_the_first(tmp_path: Path, model: Path) -> None:
    for index, hw in enumerate([(95, 161), (40, 200), (200, 40)]):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture(hw, (4, 4, 20, 20, "red")))
    video = tmp_path / "out.mp4"
    done(tmp_path, "--model", model, "--video", video)
    assert [frame.shape for frame in frames_of(video)] == [(96, 162, 3)] * 3


def test_a_frame_that_broke_darkens_the_one_before_it_in_the_video(tmp_path: Path, model: Path) -> None:
    drive = write_drive(tmp_path / "drive", frames=3)
    (drive / "frame1.png").write_bytes(b"no picture")
    video = tmp_path / "out.mp4"
    done(drive, "--model", model, "--video", video)
    first, broken, last = frames_of(video)
    assert broken[:70].mean() < 0.5 * first[:70].mean()
    assert last[:70].mean() > 0.9 * first[:70].mean()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--jsonl", "nowhere/out.jsonl"], "folder does not exist"),
        (["--video", "nowhere/out.mp4"], "folder does not exist"),
        (["--video", "out.avi"], "ends in .mp4"),
        (["--jsonl", "."], "is a folder"),
        (["--times", "-"], "only lines"),
        (["--jsonl", "same", "--times", "same"], "same name"),
        (["--jsonl", "{model}"], "would be written over"),
        (["--provider", "abacus"], "abacus"),
        (["--threads", "-1"], "threads"),
        (["--limit", "0"], "limit"),
        (["--rate", "0"], "above 0"),
        (["--model", "nowhere.onnx"], "nowhere.onnx"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(
    tmp_path: Path,
    model: Path,
    drive: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [argument.replace("{model}", str(model)) for argument in arguments]
    assert reason in refused(drive, "--model", model, "--jsonl", "first.jsonl", *given)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_an_encoder_that_is_missing_is_one_clear_error(
    tmp_path: Path, model: Path, drive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.replay.video._CODEC", "nope")
    assert "does not encode nope" in refused(drive, "--model", model, "--video", tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path, model: Path, drive: Path) -> None:
    tmp_path.chmod(0o500)
    assert "permission" in refused(drive, "--model", model, "--jsonl", tmp_path / "out.jsonl")


def test_an_older_output_stays_until_the_new_one_is_whole(tmp_path: Path, model: Path, drive: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("older\n")
    refused(drive, "--model", "nowhere.onnx", "--jsonl", out)
    assert out.read_text() == "older\n"
    done(drive, "--model", model, "--jsonl", out)
    assert len(lines(out.read_text())) == 6
    assert list(tmp_path.iterdir()) == [out]


def test_a_device_is_written_and_not_replaced(model: Path, drive: Path) -> None:
    done(drive, "--model", model, "--jsonl", os.devnull, "--limit", 1)
    assert Path(os.devnull).is_char_device()


def test_json_summary_and_lines_do_not_mix(model: Path, drive: Path) -> None:
    assert run(drive, "--model", model, "--jsonl", "-", "--json").exit_code == 2


def replaying(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [*COMMAND, "replay", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **pipes, **options)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_is_done(tmp_path: Path, model: Path, number: int) -> None:
    times, video = tmp_path / "times.jsonl", tmp_path / "out.mp4"
    endless = "sim:7?seconds=0&rate=10&size=160x96"
    outputs = ("--jsonl", "-", "--times", times, "--video", video)
    with replaying(endless, "--model", model, *outputs) as process:
        assert process.stdout is not None and process.stderr is not None
        seen = [process.stdout.readline() for _ in range(3)]
        process.send_signal(number)
        # `communicate` reads beneath the buffer, in which the next lines may be already.
        rest, summary = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130
    frames = [line["frame"] for line in lines("".join(seen) + rest)]
    assert frames == list(range(len(frames)))
    assert [line["frame"] for line in lines(times.read_text())] == frames
    assert len(frames_of(video)) == len(frames)
    assert "interrupted" in summary
    counted = re.search(r"(\d+) captured: (\d+) published, (\d+) stopped", summary)
    assert counted is not None, summary
    captured, published, stopped = map(int, counted.groups())
    assert published == len(frames)
    assert captured == published + stopped


def test_a_refusal_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    with replaying(tmp_path / "nowhere.mp4", "--model", "x.onnx") as process:
        output, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output == ""
    assert error.startswith("traffic-vision: error: ")
    assert error.count("\n") == 1


def test_a_damaged_recording_leaves_standard_error_to_the_summary(tmp_path: Path, model: Path) -> None:
    recording = write_video(tmp_path / "drive.mp4", fourcc="mjpg")
    damage_packets(recording, 3)
    with replaying(recording, "--model", model, "--jsonl", "-") as process:
        _, summary = process.communicate(timeout=60)
    assert process.returncode == 0
    assert summary.startswith("drive.mp4 through rectangles 1")
    assert "1 decode error" in summary


def test_a_reader_that_leaves_ends_the_replay(model: Path) -> None:
    with replaying("sim:7?seconds=0&size=160x96", "--model", model, "--jsonl", "-") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read()
        assert process.wait(timeout=60) != 0
    assert "Traceback" not in error
