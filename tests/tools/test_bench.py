from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edge.drift.features import FEATURES, NAMES, SHARED_US
from edge.errors import TrafficVisionError
from tests.models_factory import rectangles_export
from tests.replays import write_drive, write_model
from tools.bench.features import costlier
from tools.bench.report import Report, Table, Target
from tools.bench.rounds import BenchError, Difference, Spread, interleave
from tools.cli import root


def bench(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(root, ["bench", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return check_shape(json.loads(result.stdout))


def check_shape(report: dict[str, Any]) -> dict[str, Any]:
    assert set(report) == {"bench", "machine", "figures", "targets"}
    assert report["targets"]
    for target in report["targets"]:
        assert set(target) == {"name", "value", "target", "met"}
        assert target["met"] is (target["value"] <= target["target"])
    return report


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(root, ["bench", *map(str, arguments)])
    assert isinstance(result.exception, TrafficVisionError), result.output
    return str(result.exception)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file, its raw export and pictures."""
    folder = tmp_path_factory.mktemp("bench")
    write_model(folder)
    (folder / "raw.onnx").write_bytes(rectangles_export().SerializeToString())
    write_drive(folder / "pictures", frames=4)
    return folder


def detector(files: Path, *arguments: object) -> dict[str, Any]:
    pictures = ("--pictures", files / "pictures", "--rounds", 3, "--threads", 1)
    return bench("detector", "--model", files / "rectangles.onnx", *pictures, *arguments)


def measured(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in report["figures"]["contenders"] if "p50_ms" in entry}


def test_the_detector_is_measured_beside_its_floor_and_a_plain_loop(files: Path) -> None:
    report = detector(files)
    figures = report["figures"]
    assert (figures["rounds"], figures["threads"], figures["picture_count"]) == (3, 1, 4)
    assert (figures["input_hw"], figures["frame_hw"]) == ([64, 96], [720, 1280])
    times = measured(report)
    assert list(times) == ["floor: bare session.run", "detector", "plain loop, OpenCV + ONNX Runtime"]
    floor = times["floor: bare session.run"]
    assert (floor["over_floor_ms"], floor["p50_ratio_to_floor"]) == (0, 1)
    for entry in times.values():
        assert 0 < entry["min_ms"] <= entry["p50_ms"] <= entry["p99_ms"]
        assert entry["p50_ratio_to_floor"] == pytest.approx(entry["p50_ms"] / floor["p50_ms"], rel=0.05)
    (target,) = report["targets"]
    assert target["value"] == times["detector"]["over_floor_ms"]
    assert target["target"] == 3


def test_without_the_raw_export_the_peers_are_said_to_be_left_out(files: Path) -> None:
    missing = [entry for entry in detector(files)["figures"]["contenders"] if "not_measured" in entry]
    assert len(missing) == 4
    assert all("--raw" in entry["not_measured"] for entry in missing)


def test_with_the_raw_export_all_that_can_run_do_and_find_the_same(files: Path) -> None:
    report = detector(files, "--raw", files / "raw.onnx")
    contenders = report["figures"]["contenders"]
    by_name = {entry["name"]: entry for entry in contenders}
    assert len(by_name) == len(contenders) == 8
    for entry in contenders:
        assert ("p50_ms" in entry) is not ("not_measured" in entry)
    # Two rectangles on each of the four pictures.
    for name in ("detector", "plain loop, OpenCV + ONNX Runtime", "plain loop, raw export"):
        assert by_name[name]["boxes"] == 8
    assert by_name["bare session.run, raw export"]["boxes"] is None


def test_a_peer_that_is_not_installed_says_so(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    report = detector(files, "--raw", files / "raw.onnx")
    (entry,) = (e for e in report["figures"]["contenders"] if e["name"].startswith("OpenVINO"))
    assert entry["not_measured"].startswith("not installed")


def test_what_cannot_be_benched_is_refused(files: Path, tmp_path: Path) -> None:
    model = files / "rectangles.onnx"
    assert "64x96, not 640x640" in refused("detector", "--model", model, "--size", 640)
    assert "no such file" in refused("detector", "--model", model, "--raw", tmp_path / "nowhere.onnx")
    assert "rounds" in refused("detector", "--model", model, "--rounds", 0)
    checkpoint = tmp_path / "x.pt"
    checkpoint.write_bytes(b"")
    assert "--raw goes with" in refused("detector", "--model", checkpoint, "--raw", model)
    assert "input of 0x0" in refused("detector", "--model", checkpoint, "--size", 0)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    assert "no picture decodes" in refused("detector", "--model", model, "--pictures", broken)


@pytest.mark.parametrize("threads", ["0", "-3", "two"])
def test_all_contenders_run_on_a_number_of_threads_that_is_known(files: Path, threads: str) -> None:
    arguments = ["bench", "detector", "--model", str(files / "rectangles.onnx"), "--threads", threads]
    result = CliRunner().invoke(root, arguments)
    assert result.exit_code == 2
    assert f"'--threads': {threads}" in result.stderr or f"'--threads': '{threads}'" in result.stderr


def test_without_a_model_the_shipped_one_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.bench.subject.MODELS", tmp_path)
    assert "give one with --model" in refused("detector", "--rounds", 1)


def test_pictures_of_any_size_are_measured_at_720_lines(files: Path) -> None:
    report = detector(files, "--pictures", "sim:7?seconds=1&rate=2&size=128x72")
    assert report["figures"]["picture_count"] == 2


def test_the_renderer_is_measured_by_each_light_on_one_thread() -> None:
    threads = cv2.getNumThreads()
    report = bench("render", "--rounds", 2)
    assert cv2.getNumThreads() == threads
    lights = report["figures"]["lights"]
    assert list(lights) == ["noon", "dusk", "night"]
    for light in lights.values():
        ratio = light["p50_ms"] / lights["noon"]["p50_ms"]
        assert light["p50_ratio_to_noon"] == pytest.approx(ratio, rel=0.05)
    (target,) = report["targets"]
    assert target["value"] == max(light["p50_ms"] for light in lights.values())
    assert target["target"] == 10


def test_the_drift_features_are_measured_and_shown_to_move(files: Path) -> None:
    threads = cv2.getNumThreads()
    small = ("--rounds", 2, "--drives", 2, "--moments", 3)
    report = bench("features", "--model", files / "rectangles.onnx", *small)
    assert cv2.getNumThreads() == threads
    figures = report["figures"]
    # This model finds nothing in a street: of detections nothing is timed.
    assert "vanishing_x" in figures["costs"] and "top_confidence" not in figures["costs"]
    assert all(0 <= spread["min_us"] <= spread["p50_us"] for spread in figures["costs"].values())
    whole, costs = report["targets"]
    assert (whole["value"], whole["target"]) == (figures["all"]["p50_ms"], 1)
    least = {name: spread["min_us"] for name, spread in figures["costs"].items()}
    assert (costs["value"], costs["target"]) == (costlier(least), 0)
    shifts = figures["shift_sigma"]
    assert figures["pictures"] == 6 and all(list(moved) == list(NAMES) for moved in shifts.values())
    assert shifts["night"]["brightness"] < -2 < 2 < shifts["exposure 2"]["brightness"]
    # The same moments: what a turn does not touch stays where it was.
    assert abs(shifts["turn 5"]["brightness"]) < 0.5
    assert shifts["turn 5"]["vanishing_x"] < -1 < 1 < shifts["turn -5"]["vanishing_x"]
    assert "at least 1 round" in refused("features", "--rounds", 0)


def test_what_costs_more_than_is_said_of_it_is_counted() -> None:
    said = {feature.name: feature.cost_us for feature in FEATURES}
    assert costlier({**said, "small": SHARED_US}) == 0
    dearest = max(said, key=said.__getitem__)
    assert costlier({**said, dearest: 2 * said[dearest], "small": 2 * SHARED_US}) == 2


def test_the_start_up_is_measured_in_fresh_processes() -> None:
    report = bench("cli", "--rounds", 1)
    commands = report["figures"]["commands"]
    (target,) = report["targets"]
    assert target["target"] == 0.5
    assert target["value"] == pytest.approx(commands["traffic-vision --help"]["p50_ms"] / 1e3, abs=1e-4)


def test_without_json_there_is_a_table_and_a_verdict(files: Path) -> None:
    arguments = ["bench", "detector", "--model", str(files / "rectangles.onnx"), "--rounds", "1"]
    result = CliRunner().invoke(root, [*arguments, "--pictures", str(files / "pictures")])
    assert result.exit_code == 0, result.output
    header = next(line for line in result.stdout.splitlines() if line.startswith("  ms"))
    assert header.split() == ["ms", "min", "p50", "p99", "ratio", "over", "floor", "95", "%", "boxes"]
    assert "not measured: OpenVINO" in result.stdout
    assert result.stdout.splitlines()[-1].startswith(("met", "MISSED"))


figures = st.floats(-1e6, 1e6)


@given(figures, figures)
def test_a_target_is_met_when_its_value_is_at_most_it(value: float, limit: float) -> None:
    target = Target("a figure, ms", value, limit)
    report = Report("some", {}, [target], [Table("title", ("ms", "p50"), [("one", value), ("two", None)])])
    check_shape(json.loads(json.dumps(report.to_json())))
    assert report.to_text().splitlines()[-1].startswith("met" if value <= limit else "MISSED")


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=50))
def test_a_spread_is_in_order(values: list[float]) -> None:
    spread = Spread.of(values)
    assert min(values) == spread.min
    assert spread.min <= spread.p50 * (1 + 1e-9)
    assert spread.p50 <= spread.p99 * (1 + 1e-9)
    assert spread.p99 <= max(values) * (1 + 1e-9)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1))
def test_the_difference_is_taken_within_rounds(pairs: list[tuple[int, int]]) -> None:
    times, floor = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    differences = sorted(a - b for a, b in pairs)
    middle = len(differences) // 2
    expected = (differences[middle] + differences[~middle]) / 2
    difference = Difference.between(times, floor)
    assert difference.median == pytest.approx(expected)
    assert differences[0] <= difference.low <= difference.median <= difference.high <= differences[-1]


def test_the_interval_holds_the_true_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(1000):
        interval = Difference.between(rng.standard_cauchy(40) + 2, np.zeros(40))
        held += interval.low <= 2 <= interval.high
    assert 945 <= held <= 990


@given(st.integers(1, 5), st.integers(1, 12), st.integers(0, 4))
def test_contenders_take_turns_on_the_same_round(count: int, rounds: int, warm_up: int) -> None:
    calls: list[tuple[int, str]] = []
    names = [f"c{index}" for index in range(count)]

    def contender(name: str) -> Any:
        return lambda number: calls.append((number, name))

    times = interleave({name: contender(name) for name in names}, rounds, warm_up=warm_up)
    assert {name: len(spent) for name, spent in times.items()} == dict.fromkeys(names, rounds)
    assert [number for number, _ in calls] == [n for n in range(-warm_up, rounds) for _ in names]
    for start in range(0, len(calls), count):
        assert sorted(name for _, name in calls[start : start + count]) == names
    firsts = {calls[start][1] for start in range(0, len(calls), count)}
    assert len(firsts) == min(count, rounds + warm_up), "each goes first in its turn"


def test_no_rounds_are_refused() -> None:
    with pytest.raises(BenchError, match="rounds"):
        interleave({"one": lambda number: None}, 0)
