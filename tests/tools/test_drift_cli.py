from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.drift import Reference, fit
from edge.drift.features import NAMES
from tests.recordings import damage_packets, write_video
from tests.replays import lines, write_model
from tests.tools.drift_commands import done, refused, sim
from tools.drift.replay import feature_rows, load_detector
from tools.drift.words import room_text

DRIVES = range(10)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    path = tmp_path_factory.mktemp("reference") / "day.json"
    done("fit", *(sim(seed) for seed in DRIVES), "--model", model, "-o", path)
    return path


def test_a_reference_is_made_of_drives(reference: Path) -> None:
    made = Reference.load(reference)
    assert made.names == NAMES
    brightness = made.contexts[0].features[0]
    assert (made.contexts[0].name, brightness.drives, brightness.frames) == ("day", 10, 300)


def test_the_same_drives_give_the_same_reference(tmp_path: Path, model: Path) -> None:
    paths = [tmp_path / name for name in ("one.json", "two.json")]
    for path in paths:
        result = done("fit", sim(0), sim(1), "--model", model, "-o", path)
        assert "uncalibrated" in result.stderr
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_features_that_few_drives_leave_much_room_are_named() -> None:
    rng = np.random.default_rng(1)
    names = ("brightness", "count")

    def told(drives: int) -> str:
        """Drives that differ in brightness alone, by as much as their frames do."""
        rows = [rng.normal((rng.normal(), 0.0), 1.0, (400, 2)) for _ in range(drives)]
        return room_text(fit(rows, 2.0, names))

    assert "too few drives for brightness: " in told(3)
    assert told(1) == ""  # one continuous series says nothing of others
    assert "count" not in told(3)


def test_a_faster_drive_gives_as_many_frames(model: Path) -> None:
    rows = list(feature_rows(sim(0, seconds=4, rate=10), load_detector(model, ["cpu"], 1)))
    assert [row.time_ns for row in rows] == [number * 500_000_000 for number in range(8)]


def test_a_drive_into_the_night_is_an_alarm_and_one_by_day_is_not(
    tmp_path: Path, model: Path, reference: Path
) -> None:
    out = tmp_path / "states.jsonl"
    dusk = sim(40, "noon-night", seconds=90, dusk=30, fade=5)
    result = done("scan", dusk, "--reference", reference, "--model", model, "--jsonl", out)
    states = lines(out.read_text())
    assert len(states) == 90
    alarms = [state for state in states if state["verdict"] == "alarm"]
    assert 30 < alarms[0]["time_s"] < 90
    assert alarms[0]["features"][0]["verdict"] == "alarm"
    assert "alarm" in result.stderr
    result = done("scan", sim(41, seconds=60), "--reference", reference, "--model", model, "--jsonl", "-")
    assert {state["verdict"] for state in lines(result.stdout)} == {"learning", "uncalibrated"}


def test_contexts_are_put_beside_each_other(tmp_path: Path, model: Path, reference: Path) -> None:
    both = tmp_path / "both.json"
    drives = [sim(seed, "night") for seed in range(3)]
    done(
        "fit", *drives, "--model", model, "-o", both, "--context", "night", "--beside", reference
    )  # fmt: skip
    assert [context.name for context in Reference.load(both).contexts] == ["day", "night"]
    assert "same name" in refused(
        "fit", drives[0], "--model", model, "-o", both, "--context", "night", "--beside", both
    )


def test_broken_frames_cost_themselves_alone(tmp_path: Path, model: Path) -> None:
    video = write_video(tmp_path / "drive.mp4", frames=20, rate_hz=2.0)
    damage_packets(video, 7)
    rows = list(feature_rows(str(video), load_detector(model, ["cpu"], 1)))
    assert len(rows) == 19


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("fit", "nowhere", "--model", "{model}", "-o", "{out}"), "not found"),
        (("fit", sim(0), "--model", "nowhere.onnx", "-o", "{out}"), "nowhere.onnx"),
        (("fit", sim(0), "--model", "{model}", "-o", "/no/such/folder/x.json"), "folder does not exist"),
        (("fit", sim(0), "--model", "{model}", "-o", "{model}"), "ends in .json"),
        (("fit", sim(0), "--model", "{model}", "-o", "{out}", "--context", ""), "'' is no name"),
        (("fit", sim(0), "--model", "{model}", "-o", "{out}", "--target-hours", "0"), "a promise of 0 h"),
        (
            ("fit", sim(0, seconds=5), "--model", "{model}", "-o", "{out}"),
            "too little driving, frames: 10",
        ),
        (("fit", "{text}", "--model", "{model}", "-o", "{out}"), "no readable video"),
        (("fit", "{empty}", "--model", "{model}", "-o", "{out}"), "holds no picture"),
        (("fit", sim(0), "--model", "{text}", "-o", "{out}"), "not an ONNX file"),
        (
            ("fit", sim(0), "--model", "{model}", "-o", "{out}", "--beside", "{other}"),
            "none of which is watched",
        ),
        (("scan", "{broken}", "--model", "{model}", "--reference", "{reference}"), "gave no frame"),
        (("scan", "{empty}", "--model", "{model}", "--reference", "{text}"), "not a drift reference"),
        (("scan", sim(0), "--model", "{model}", "--reference", "{other}"), "none of which is watched"),
        (("scan", sim(0), "--model", "{model}", "--reference", "nowhere.json"), "nowhere.json"),
        (("scan", sim(0), "--model", "{model}", "--reference", "{model}"), "brings no drift reference"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(
    tmp_path: Path, model: Path, reference: Path, arguments: tuple[str, ...], word: str
) -> None:
    out, text, empty, other = (tmp_path / name for name in ("out.json", "text.txt", "empty", "other.json"))
    text.write_text("some words")
    empty.mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    fit(np.random.default_rng(0).normal(size=(90, 1)), 2.0, ["mine"]).save(other)
    there = model.read_bytes()
    places = {"model": model, "out": out, "text": text, "empty": empty, "other": other, "broken": broken}
    places["reference"] = reference
    assert word in refused(*(argument.format(**places) for argument in arguments))
    assert not out.exists() and model.read_bytes() == there


def test_what_does_not_fit_beside_is_told_before_the_drives_are_looked_at(
    tmp_path: Path, model: Path, reference: Path
) -> None:
    out = tmp_path / "out.json"
    asked = ("fit", "nowhere", "--model", model, "-o", out, "--beside", reference)
    assert "same name" in refused(*asked)
    assert "different target_hours" in refused(*asked, "--context", "night", "--target-hours", 8)
    assert "not found" in refused(*asked, "--context", "night")


def test_a_drive_that_is_too_short_says_so(model: Path, reference: Path) -> None:
    result = done("scan", sim(0, seconds=1, rate=1), "--model", model, "--reference", reference)
    assert "too short for a judgement" in result.stderr
