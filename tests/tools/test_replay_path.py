"""Several drives, swaps and drift through the daemon's own path: every frame, in order, the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge.drift import fit
from edge.drift.features import NAMES, ORIGINS
from edge.errors import TrafficVisionError
from edge.frames.frame import Frame
from tests.models_factory import rectangles_model
from tests.recordings import damage_packets, write_video
from tests.replays import lines, write_drive, write_model
from tools.cli import root
from tools.replay.naming import camera_names, video_paths
from tools.replay.request import speed_of

SIM = "sim:7?light=night&seconds=2&rate=5&size=160x96"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("other") / "other.onnx"
    path.write_bytes(rectangles_model(version="2"))
    return path


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drive(tmp_path_factory.mktemp("world") / "front.left")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(root, ["replay", *map(str, arguments)])


def done(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    summary: dict[str, Any] = json.loads(result.stdout)
    return summary


def refused(*arguments: object) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, TrafficVisionError), result.output
    return str(result.exception)


def test_several_sources_run_one_after_the_other_and_each_adds_up(
    tmp_path: Path, model: Path, drive: Path
) -> None:
    recording = write_video(tmp_path / "rear.mp4", frames=12, fourcc="mjpg")
    damage_packets(recording, 3, 8)
    out = tmp_path / "out.jsonl"
    summary = done(drive, recording, SIM, "--model", model, "--jsonl", out)
    cameras = ["front-left", "rear", "sim-7"]
    assert [one["camera"] for one in summary["sources"]] == cameras
    for one in summary["sources"]:
        frames = one["frames"]
        assert frames["captured"] == frames["published"] + frames["decode_error"] + frames["inference_error"]
    assert [one["frames"]["captured"] for one in summary["sources"]] == [6, 12, 10]
    assert summary["frames"]["captured"] == 28
    written = [(line["camera"], line["frame"]) for line in lines(out.read_text())]
    assert written == [
        (camera, frame) for camera, count in zip(cameras, (6, 12, 10), strict=True) for frame in range(count)
    ]


def test_the_same_command_gives_the_same_bytes_with_a_swap_drift_and_several_sources(
    tmp_path: Path, model: Path, other: Path, drive: Path
) -> None:
    for name in ("one", "two"):
        done(
            *(drive, SIM, "--model", model, "--jsonl", tmp_path / name),
            *(
                "--swap-to",
                other,
                "--swap-at",
                "sim-7:4",
                "--drift",
                "--drift-jsonl",
                tmp_path / f"{name}.drift",
            ),
            *("--times", tmp_path / f"{name}.times"),
        )
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one.drift").read_bytes() == (tmp_path / "two.drift").read_bytes()
    assert len(lines((tmp_path / "one.times").read_text())) == 16
    states = lines((tmp_path / "one.drift").read_text())
    assert {state["camera"] for state in states} == {"front-left", "sim-7"}
    assert {state["verdict"] for state in states} == {"learning"}


@pytest.mark.parametrize("at", [0, 1, 3, 5])
def test_the_frame_that_was_named_is_the_first_of_the_new_model(
    tmp_path: Path, model: Path, other: Path, drive: Path, at: int
) -> None:
    out = tmp_path / "out.jsonl"
    summary = done(drive, "--model", model, "--swap-to", other, "--swap-at", at, "--jsonl", out)
    digests = [line["model"] for line in lines(out.read_text())]
    old, new = summary["model"]["digest"][:12], summary["swap"]["model"]["digest"][:12]
    assert digests == [old] * at + [new] * (6 - at)
    assert summary["swap"]["first_frame"] == at
    assert summary["frames"]["published"] == 6


def test_a_swap_at_a_frame_that_does_not_decode_comes_with_the_next_one(
    tmp_path: Path, model: Path, other: Path
) -> None:
    drive = write_drive(tmp_path / "drive")
    for index in (2, 3):
        (drive / f"frame{index}.png").write_bytes(b"no picture")
    out = tmp_path / "out.jsonl"
    summary = done(drive, "--model", model, "--swap-to", other, "--swap-at", 2, "--jsonl", out)
    assert summary["swap"]["first_frame"] == 4
    old, new = summary["model"]["digest"][:12], summary["swap"]["model"]["digest"][:12]
    digests = [line.get("model") for line in lines(out.read_text())]
    assert digests == [old, old, None, None, new, new]


def test_the_model_stays_swapped_for_the_sources_that_follow(
    tmp_path: Path, model: Path, other: Path, drive: Path
) -> None:
    out = tmp_path / "out.jsonl"
    done(drive, SIM, "--model", model, "--swap-to", other, "--swap-at", 5, "--jsonl", out)
    digests = [line["model"] for line in lines(out.read_text())]
    assert len(set(digests[:5])) == 1
    assert len(set(digests[5:])) == 1
    assert digests[4] != digests[5]


def test_a_swap_whose_frame_never_comes_is_told_and_the_lines_stay(
    tmp_path: Path, model: Path, other: Path
) -> None:
    drive = write_drive(tmp_path / "drive")
    (drive / "frame5.png").write_bytes(b"no picture")
    out = tmp_path / "out.jsonl"
    reason = refused(drive, "--model", model, "--swap-to", other, "--swap-at", 5, "--jsonl", out)
    assert "never came" in reason
    assert len(lines(out.read_text())) == 6


def test_a_source_that_fails_on_the_way_ends_the_replay_and_leaves_nothing(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: object) -> Iterator[Frame]:
        yield Frame("f", 0, 0, 0, np.zeros((96, 160, 3), np.uint8))
        raise TrafficVisionError("the disk went away")

    monkeypatch.setattr("edge.frames.picture_folder.PictureFolder.__iter__", failing)
    drive = write_drive(tmp_path / "drive")
    assert "the disk went away" in refused(drive, "--model", model, "--jsonl", tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["drive"]


def test_drift_is_judged_by_the_reference_given(tmp_path: Path, model: Path) -> None:
    rng = np.random.default_rng(1)
    bright = [rng.normal(1e4, 1.0, (40, len(NAMES))).astype(np.float32) for _ in range(4)]
    reference = tmp_path / "reference.json"
    known = fit(bright, 2.0, NAMES, origins=ORIGINS, context="elsewhere")
    known.save(reference)
    states = tmp_path / "drift.jsonl"
    source = "sim:7?light=noon&seconds=60&rate=2&size=160x96"
    summary = done(
        source, "--model", model, "--reference", reference, "--drift-jsonl", states, "--camera-name", "front"
    )
    found = lines(states.read_text())
    assert found[-1]["verdict"] == "alarm"
    assert {state["camera"] for state in found} == {"front"}
    assert {state["reference"] for state in found[:5]} == {known.digest[:12]}
    assert [state["time_s"] for state in found] == sorted(state["time_s"] for state in found)
    assert sum(summary["sources"][0]["drift"].values()) == len(found)


def test_a_drive_at_recorded_speed_takes_its_time(tmp_path: Path, model: Path) -> None:
    source = "sim:7?seconds=1&rate=10&size=160x96"
    for speed, least_s in (("recorded", 0.9), ("3", 0.3)):
        assert done(source, "--model", model, "--speed", speed)["wall_s"] >= least_s


def test_each_source_has_a_video_of_its_own(tmp_path: Path, model: Path, drive: Path) -> None:
    done(drive, SIM, "--model", model, "--video", tmp_path / "out.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-front-left.mp4", "out-sim-7.mp4"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--swap-at", "3"], "go together"),
        (["--swap-to", "{other}"], "go together"),
        (["--swap-to", "{other}", "--swap-at", "x"], "expected a frame's number"),
        (["--swap-to", "{other}", "--swap-at", "6"], "frames end at 5"),
        (["--swap-to", "{other}", "--swap-at", "rear:1"], "there is front-left"),
        (["--swap-to", "{model}", "--swap-at", "1"], "runs already"),
        (["--compare", "{model}"], "runs already"),
        (["--compare", "{other}", "--swap-to", "{other}", "--swap-at", "1"], "exclude each other"),
        (["--compare", "{other}", "--compare-html", "x.txt"], "ends in .html"),
        (["--compare", "{other}", "--compare-jsonl", "first.jsonl"], "same name"),
        (["--camera-name", "a b"], "expected 1 to 63"),
        (["--camera-name", "a", "--camera-name", "b"], "2 --camera-name for 1 sources"),
        (["--drift-jsonl", "d"], "needs --drift"),
        (["--reference", "nowhere.json"], "nowhere.json"),
        (["--speed", "fast"], "--speed"),
        (["--mcap", "out.bag"], "ends in .mcap"),
        (["--mcap", "nowhere/out.mcap"], "folder does not exist"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(
    tmp_path: Path,
    model: Path,
    other: Path,
    drive: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [one.replace("{model}", str(model)).replace("{other}", str(other)) for one in arguments]
    assert reason in refused(drive, "--model", model, "--jsonl", "first.jsonl", *given)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_cameras_are_named_after_their_sources(tmp_path: Path) -> None:
    for name in ("a/night drive.mp4", "b/night drive.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    sources = [
        str(tmp_path / "a/night drive.mp4"),
        str(tmp_path / "b/night drive.mp4"),
        "sim:7?rate=2",
        "...",
    ]
    assert camera_names(sources, ()) == ["night-drive", "night-drive-2", "sim-7", "camera"]
    assert camera_names(["x", "y"], ["left", "right"]) == ["left", "right"]
    assert video_paths("o.mp4", ["left"]) == [Path("o.mp4")]
    assert video_paths("f/o.mp4", ["left", "right"]) == [Path("f/o-left.mp4"), Path("f/o-right.mp4")]


def test_speeds() -> None:
    assert [speed_of(text) for text in ("max", "recorded", "2.5")] == [None, 1.0, 2.5]
