"""The demonstration's rules: what children say, what is shown, what is configured, what is written."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cloud.config import load_config as load_cloud_config
from cloud.datasets import Box, DatasetWriter, LabeledImage
from edge.config import load_config as load_edge_config
from protos.traffic_vision.v1 import common_pb2
from tests import models_factory as factory
from tools.demo.errors import DemoError
from tools.demo.events import hear_pipeline, hear_vehicle
from tools.demo.listening import drift_point, vehicle_now
from tools.demo.loop import gate_text
from tools.demo.plan import Scene
from tools.demo.real import part
from tools.demo.recording import swap_record, timings
from tools.demo.scoring import score
from tools.demo.settings import toml
from tools.demo.simulated import Simulation
from tools.demo.story import Publication, Story
from tools.demo.summary import print_summary
from tools.demo.view import line_text, render
from tools.demo.work_folder import WorkFolder

GATE: dict[str, Any] = {
    "verdict": "pass",
    "targets": ["night"],
    "slices": [
        {
            "name": "night",
            "drives": 60,
            "champion": 0.1,
            "challenger": 0.3,
            "difference": 0.2,
            "low": 0.15,
            "too_little": "",
        },
        {"name": "dawn/dusk", "drives": 3, "too_little": "3 drives, at least 10 are needed"},
    ],
    "rules": [
        {
            "rule": "better",
            "slice": "night",
            "bound": 0.0,
            "verdict": "pass",
            "why": "better by 0.15 at least",
        }
    ],
}
SWAPPED = {
    "event": "model_swapped",
    "old": "a" * 64,
    "new": "b" * 64,
    "frame_before": ["front", 0, 99],
    "frame_after": ["front", 0, 101],
    "gap_ns": 21_000_000,
    "exchange_ns": 4_000,
}


def scene(work: Path = Path("/work")) -> Scene:
    return Simulation().scene(work)


def pipeline_line(stage: str, kind: str, **facts: Any) -> str:
    return json.dumps({"run": "retrain-0001", "stage": stage, "kind": kind, "facts": facts})


def tell_a_retrain(story: Story) -> None:
    hear_pipeline(story, pipeline_line("", "started", why="120 new samples: enough"))
    hear_pipeline(story, pipeline_line("train", "begun"))
    epoch = {"epoch": 1, "epochs": 8, "loss": 3.5, "map50": 0.25, "remaining_s": 70.0}
    hear_pipeline(story, pipeline_line("train", "progress", **epoch))
    hear_pipeline(story, pipeline_line("train", "done", seconds=80.5, candidate="b" * 64))
    hear_pipeline(story, pipeline_line("validate", "begun"))
    hear_pipeline(story, pipeline_line("validate", "progress", model="retrain-0001", images=16, of=640))


def test_the_pipelines_events_become_the_story() -> None:
    story = Story()
    tell_a_retrain(story)
    assert story.training[0].map50 == 0.25 and story.stage == "validate" and story.retrain is None
    hear_pipeline(story, pipeline_line("validate", "done", seconds=9.0, **GATE))
    hear_pipeline(story, pipeline_line("", "ended", state="released", why="release 1"))
    hear_pipeline(story, "no event")
    hear_pipeline(story, '{"stage": "a result line"}')
    assert story.retrain == {"state": "released", "why": "release 1"}
    assert [line.text for line in story.lines] == [
        "cloud: retrain begins: 120 new samples: enough",
        "cloud: trains",
        "cloud: epoch 1/8  loss 3.500  mAP50 0.250  about 70 s left",
        "cloud: holds the candidate against the champion",
        "cloud: the gate's verdict: pass",
        "cloud: retrain released: release 1",
    ]


def test_the_vehicles_log_becomes_the_story() -> None:
    story = Story()
    for line in (
        json.dumps({"event": "started", "address": "127.0.0.1:5"}),
        json.dumps({"event": "drift_verdict", "verdict": "alarm", "time_s": 81.2}),
        json.dumps(SWAPPED),
        json.dumps({"event": "config_reloaded"}),
        json.dumps({"event": "config_reloaded"}),
        json.dumps({"message": "no event"}),
        "Traceback",
        "{torn",
    ):
        hear_vehicle(story, line)
    assert story.vehicle_log["started"]["address"] == "127.0.0.1:5"
    assert story.vehicle_log["config_reloaded"]["count"] == 2
    assert [line.text for line in story.lines] == [
        "vehicle: drift alarm at 81 s of drive",
        "vehicle: model bbbbbbbbbbbb answers from frame 101 on, 21.0 ms after frame 99 (exchange 4 us)",
    ]


def test_of_the_publications_those_around_the_swap_are_kept() -> None:
    story = Story()

    def publish(sequence: int) -> None:
        model = "a" * 64 if sequence < 101 else "b" * 64
        story.published(Publication(sequence, sequence * 20_000_000, sequence / 5, model))

    for sequence in range(100):
        publish(sequence)
    hear_vehicle(story, json.dumps(SWAPPED))
    for sequence in range(101, 400):
        publish(sequence)
    record = swap_record(story.vehicle_log["model_swapped"], story.around_swap)
    assert record.frames_lost == 1  # frame 100 was answered by nobody
    assert (record.frame_before, record.frame_after, record.drive_s) == (99, 101, 20.2)
    assert (record.gap_ms, record.exchange_us) == (21.0, 4.0)
    assert dict(record.gaps)[101] == 40.0 and dict(record.gaps)[102] == 20.0
    assert min(dict(record.gaps)) == 62 and max(dict(record.gaps)) == 141
    freed = swap_record(story.vehicle_log["model_swapped"], story.around_swap, held_until=90)
    assert min(dict(freed.gaps)) == 91 and freed.frames_lost == 1


def test_the_view_shows_what_there_is(tmp_path: Path) -> None:
    story, stream = Story(), io.StringIO()

    def shown() -> str:
        stream.seek(0)
        stream.truncate()
        Console(file=stream, width=130, force_terminal=False).print(render(story, scene()))
        return stream.getvalue()

    assert "simulated demonstration: starting" in shown()
    story.enter("day", "driving by day")
    state = common_pb2.DriftState(
        verdict=common_pb2.DRIFT_VERDICT_ALARM, observed=common_pb2.Instant(monotonic_ns=600_000_000_000)
    )
    for ks, verdict in ((0.9, common_pb2.DRIFT_VERDICT_ALARM), (0.2, common_pb2.DRIFT_VERDICT_STABLE)):
        state.features.add(name="brightness", ks_d=ks, verdict=verdict)
    state.features.add(name="contrast", ks_d=0.1, verdict=common_pb2.DRIFT_VERDICT_STABLE)
    point = drift_point(state)
    assert point.ks == {"brightness": pytest.approx(0.9), "contrast": pytest.approx(0.1)}
    assert (point.alarming, point.verdict, point.drive_s) == (("brightness",), "alarm", 600.0)
    story.drift.append(point)
    story.drive_s = 600.0
    camera = common_pb2.CameraStatus(captured_frames=100, published_hz=61.0)
    camera.outcomes.add(outcome=common_pb2.FRAME_OUTCOME_PUBLISHED, frames=100)
    status = common_pb2.VehicleStatus(cameras=[camera], resident_bytes=210_000_000, connected_to_cloud=True)
    story.vehicle = vehicle_now(status)
    story.samples = {"stored": 12, "drift": 9, "labeled": 4}
    story.tasks = {"training pictures": (500, 2250)}
    tell_a_retrain(story)
    text = shown()
    for expected in (
        "driving by day",
        "night  600 s of drive  61 frames/s  100 of 100 published  210 MB",
        "cloud: connected",
        "drift: alarm",
        "D 0.90  ALARM",
        "12 in the cloud, 9 of them of drift, 4 labelled, 0 refused",
        "500 of 2250",
        "train 80 s",
        "validate retrain-0001",
        "16 of 640",
    ):
        assert expected in text, (expected, text)
    hear_pipeline(story, pipeline_line("validate", "done", seconds=9.0, **GATE))
    text = shown()
    assert "gate: pass" in text and "+0.150" in text and "3 drives, at least 10 are needed" in text
    assert line_text(story.lines[0]).endswith("0:00  driving by day")


def test_both_configurations_are_ones_that_are_taken(tmp_path: Path) -> None:
    made = scene(tmp_path)
    (tmp_path / "cloud.toml").write_text(toml(made.cloud_sections()))
    cloud = load_cloud_config(tmp_path / "cloud.toml")
    assert cloud.gate.holdout == made.holdout and cloud.trigger.min_drift_samples == made.recipe.samples
    (tmp_path / "state").mkdir()
    for name in ("ca.crt", "state/client.pem", "root.json", "factory.onnx"):
        (tmp_path / name).touch()
    for limit in (None, 0.5):
        sections = made.edge_sections("127.0.0.1:5", limit)
        (tmp_path / "edge.toml").write_text(toml(sections, {"vehicle": "demo-1", "state_folder": "state"}))
        (camera,) = load_edge_config(tmp_path / "edge.toml").cameras
        assert (camera.speed_limit, camera.pace, camera.name) == (limit, "lockstep", "front")


def test_no_drive_is_trained_on_and_judged_by() -> None:
    plan = Simulation()
    kinds = (plan.training, plan.holdout_day, plan.holdout_night, plan.evaluation)
    seeds = [range(drives.seed, drives.seed + drives.drives) for drives in kinds] + [[plan.seed]]
    together = [seed for some in seeds for seed in some]
    assert len(set(together)) == len(together)


def test_a_work_folder_is_emptied_and_held_but_never_someone_elses(tmp_path: Path) -> None:
    with WorkFolder(tmp_path / "work") as work:
        (work.path / "folder").mkdir()
        (work.path / "folder" / "file").touch()
        (work.path / "link").symlink_to(tmp_path)
        with pytest.raises(DemoError, match="another demonstration runs in"):
            WorkFolder(tmp_path / "work")
        assert (work.path / "folder" / "file").exists()
    with WorkFolder(tmp_path / "work") as work:
        assert [path.name for path in work.path.iterdir()] == ["demo.lock"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").touch()
    with pytest.raises(DemoError, match="not empty and no demonstration's"):
        WorkFolder(tmp_path / "photos")
    (tmp_path / "file").touch()
    with pytest.raises(DemoError, match="cannot be used"):
        WorkFolder(tmp_path / "file")


def labeled(number: int, light: str, drive: str) -> LabeledImage:
    boxes = (Box(10, 10, 40, 50, "red"),)
    return LabeledImage(
        f"{drive}-{number:04d}.jpg", Path("x.jpg"), 96, 64, boxes, {"timeofday": light}, drive
    )


def test_real_pictures_are_parted_by_drive() -> None:
    images = [
        labeled(number, light, f"drive{number % 150}")
        for number in range(300)
        for light in ("daytime", "night", "dawn/dusk")
    ]
    parts = part(images)
    learned = {image.drive for image in (*parts.learn_day, *parts.learn_night)}
    judged = {image.drive for image in (*parts.judge_day, *parts.judge_night)}
    assert learned and judged and not learned & judged
    assert len(parts.learn_day) + len(parts.judge_day) == 300
    with pytest.raises(DemoError, match=r"too few labelled pictures: .* 0 to learn by night"):
        part([image for image in images if image.attributes["timeofday"] == "daytime"])


def write_slices(folder: Path) -> Path:
    """Six drives by day and by night; by night the red thing is a green one to the day model."""
    with DatasetWriter(folder, factory.NAMES) as writer:
        for number in range(12):
            light, colour = ("night", "green") if number % 2 else ("daytime", "red")
            x = 10 + number
            picture = factory.picture((64, 96), (x, 10, x + 30, 50, colour))
            box = Box(x, 10, x + 30, 50, "red")
            image = LabeledImage(
                f"{number}.jpg", None, 96, 64, (box,), {"timeofday": light}, f"drive{number // 2}"
            )
            writer.add(image, factory.jpeg(picture))
    return folder


def test_both_models_are_scored_by_slice_with_intervals(tmp_path: Path) -> None:
    day = factory.loaded(factory.rectangles_model(version="day"))
    # Takes green for red as well as red itself: right by night, where there is nothing else.
    names = ("blue", "red", "green")
    night = factory.loaded(factory.rectangles_model(version="night", class_names=names))
    scores = score(day, night, [write_slices(tmp_path / "data")], min_boxes=1, threads=1)
    assert scores.baseline["day"].map50 == pytest.approx(1.0) and scores.baseline["night"].map50 == 0.0
    assert scores.candidate["night"].map50 == pytest.approx(1.0)
    assert (scores.candidate["night"].images, scores.candidate["night"].drives) == (6, 6)
    assert scores.candidate["night"].low <= 1.0 <= scores.candidate["night"].high + 1e-9
    assert scores.classes == {"day": ("red",), "night": ("red",)}
    shown = scores.comparisons[0]
    assert [box[5] for box in shown.before] == ["green"] and [box[5] for box in shown.after] == ["red"]
    assert shown.truth[0][4] == "red" and np.frombuffer(shown.jpeg[:2], np.uint8).tolist() == [0xFF, 0xD8]
    with pytest.raises(DemoError, match="no class with 100 boxes by day"):
        score(day, night, [tmp_path / "data"], min_boxes=100, threads=1)


def test_the_summary_says_what_was_promised_and_what_was_seen(tmp_path: Path) -> None:
    scores = {f"{name}_map50{end}": 0.5 for name in ("day", "night") for end in ("", "_low", "_high")}
    report = {
        "promises": [
            {"what": "frames lost by the swap", "asked": "0", "seen": "0", "kept": True},
            {"what": "mAP50 by night", "asked": "at least 1.5 times", "seen": "1.20 times", "kept": False},
            {"what": "memory", "asked": "under 350 MB", "seen": "not measured", "kept": None},
        ],
        "baseline": scores,
        "candidate": scores,
        "swap": {"worst_gap_ms": 30.0, "median_gap_ms": None},
        "samples": {"shipped": 130, "stored": 130},
        "wall": {"seconds": 498.0, "share_neither_training_nor_evaluation": 0.5},
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    stream, story = io.StringIO(), Story()
    hear_pipeline(story, pipeline_line("validate", "done", seconds=9.0, **GATE))
    print_summary(Console(file=stream, width=130), story, tmp_path)
    text = stream.getvalue()
    for expected in (
        "gate: pass",
        "kept",
        "MISSED",
        "mAP50 by night: 0.500 (0.500 to 0.500) -> 0.500 (0.500 to 0.500)",
        "gaps around the swap: 30.0 ms at worst, not measured median",
        "wall time: 8.3 min, 50% neither training nor evaluation",
    ):
        assert expected in text, text


def test_why_the_gate_refused_is_one_line() -> None:
    rules = [
        {
            "rule": "not worse",
            "slice": "(all)",
            "bound": -0.02,
            "verdict": "pass",
            "why": "worse by 0 at most",
        },
        {
            "rule": "not worse",
            "slice": "daytime",
            "bound": -0.02,
            "verdict": "inconclusive",
            "why": "-0.03 to +0.01",
        },
        {
            "rule": "better",
            "slice": "night",
            "bound": 0.0,
            "verdict": "fail",
            "why": "worse by 0.01 at least",
        },
    ]
    slices = [{"name": "daytime", "detectable": 0.034}, {"name": "night", "detectable": 0.03}]
    assert gate_text({"verdict": "fail", "slices": slices, "rules": rules}) == (
        "the gate's verdict is fail (daytime not worse: inconclusive, -0.03 to +0.01; these pictures show"
        " differences from 0.034 on; night better: fail, worse by 0.01 at least)"
    )


def test_the_timings_add_up_to_the_whole() -> None:
    story = Story()
    story.enter("day", "driving by day")
    story.enter("retrain", "retraining")
    story.began -= 100
    hear_pipeline(story, pipeline_line("train", "done", seconds=60.0))
    hear_pipeline(story, pipeline_line("validate", "done", seconds=10.0, verdict="pass"))
    found = timings(story)
    assert set(found) == {"day", "retrain", "train", "validate"}
    assert sum(found.values()) == pytest.approx(100.0, abs=5.0) and found["retrain"] < 35.0


def test_a_folder_that_is_someones_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = subprocess.run(
        [sys.executable, "-c", "from tools.cli import main; main()", "demo", "--work", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1 and (tmp_path / "mine").exists()
    assert done.stderr.startswith("traffic-vision: error: ") and len(done.stderr.splitlines()) == 1
