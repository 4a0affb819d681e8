from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.frames.frame import Frame
from edge.frames.sources import SourceError
from edge.perception.detector import Detector, DetectorOptions
from protos.traffic_vision.v1 import common_pb2
from tests.models_factory import constant_model, loaded
from tools.bench.edge.at_rest import at_rest, least_of_minutes
from tools.bench.edge.cameras import LossyCamera, StampedCamera, open_camera
from tools.bench.edge.numbers import BITS, BLOCK_PX, burn, number_of, reading_model
from tools.bench.edge.slope import Slope, slope
from tools.bench.edge.subject import Reel, make_video, parse_size
from tools.bench.edge.turns import Turn, in_turns, loop_turns, ratios, verdict_note
from tools.bench.report import Target
from tools.bench.rounds import BenchError, Difference
from tools.cli import root

FRAME_HW = (720, 1280)
ROW = [[300, 200, 40, 40, 0.6, 0.0, 0.0]]


@pytest.fixture(scope="module", params=["raw", "nms_free"])
def reading(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Detector:
    rows = ROW if request.param == "raw" else [[280, 180, 320, 220, 0.6, 0]]
    model = loaded(constant_model(rows, hw=(384, 640), layout=request.param))
    path = tmp_path_factory.mktemp("reading") / "reading.onnx"
    return Detector(reading_model(model, FRAME_HW, path), DetectorOptions(threads=1))


@settings(max_examples=50, deadline=None)
@given(number=st.integers(0, 2**BITS - 1))
def test_a_burnt_in_number_is_read_by_the_model_beside_its_own_work(reading: Detector, number: int) -> None:
    picture = np.full((*FRAME_HW, 3), 90, np.uint8)
    burn(picture, number)
    found = reading.detect(picture).boxes
    assert len(found) == 2
    messages = [
        common_pb2.Detection(x1_px=x1, y1_px=y1, x2_px=x2, y2_px=y2, score=score)
        for x1, y1, x2, y2, score, _ in found.tolist()
    ]
    assert number_of(messages, FRAME_HW, reading.model) == number


def test_an_input_too_small_for_numbers_and_a_missing_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="64x96 is too small"):
        reading_model(loaded(constant_model(ROW)), FRAME_HW, tmp_path / "x.onnx")
    with pytest.raises(BenchError, match="not read"):
        number_of([], FRAME_HW, loaded(constant_model(ROW)))


def test_a_stamped_camera_is_born_on_schedule_and_numbers_its_frames(tmp_path: Path) -> None:
    video = make_video(tmp_path / "drive.mp4", 3)
    births = tmp_path / "births"
    camera = open_camera(f"benchcam:stamped?video={video}&rate=100&births={births}")
    assert isinstance(camera, StampedCamera) and camera.is_live
    shots: list[Frame] = []
    with camera:
        for shot in camera:
            shots.append(shot)
            if len(shots) == 5:
                break
    noted = [tuple(map(int, line.split())) for line in births.read_text().splitlines()]
    assert noted[:5] == [(shot.sequence, shot.captured_ns) for shot in shots]
    assert {after.captured_ns - one.captured_ns for one, after in pairwise(shots)} == {10**7}
    blocks = shots[3].image[BLOCK_PX // 2, BLOCK_PX // 2 : BITS * BLOCK_PX : BLOCK_PX, 0]
    assert [int(level > 127) for level in blocks[:3]] == [1, 1, 0]


def test_a_lossy_camera_gives_its_frames_and_fails() -> None:
    camera = open_camera("benchcam:lossy?rate=1000&frames=3")
    assert isinstance(camera, LossyCamera)
    shots = []
    with camera, pytest.raises(SourceError, match="as the bench wants it"):
        shots.extend(iter(camera))
    with pytest.raises(SourceError, match="no such camera"):
        open_camera("benchcam:other")


@given(st.floats(-100, 100), st.integers(10, 300))
def test_a_line_has_its_own_slope(gradient: float, count: int) -> None:
    times = np.arange(count, dtype=float)
    found = slope(times.tolist(), (5 + gradient * times).tolist())
    assert found.estimate == pytest.approx(gradient, abs=1e-6)
    assert found.low <= found.estimate <= found.high


@pytest.mark.parametrize(
    ("low", "high", "is_open"), [(0, 9, True), (0, 4, False), (5, 9, False), (4, 5, True)]
)
def test_an_interval_that_holds_the_limit_decides_nothing(low: float, high: float, is_open: bool) -> None:
    assert bool(Slope((low + high) / 2, low, high).verdict(4, "memory")) == is_open


def test_the_slope_s_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(3), 0
    times = np.arange(120.0)
    for _ in range(300):
        found = slope(times.tolist(), (0.5 * times + rng.standard_cauchy(120)).tolist())
        held += found.low <= 0.5 <= found.high
    assert held >= 275


def test_few_points_say_nothing_of_growth() -> None:
    assert slope([1.0], [5.0]).low == -np.inf
    assert slope([1.0, 2.0], [5.0, 9.0]).low == -np.inf


def test_turns_alternate_and_each_goes_first_in_its_turn() -> None:
    order: list[str] = []

    def contender(name: str) -> Any:
        def turn(frames: int) -> Turn:
            order.append(name)
            return Turn((1.0,) * frames, 2.0)

        return turn

    turns = in_turns({"a": contender("a"), "b": contender("b")}, 3, 4)
    assert [len(taken) for taken in turns.values()] == [3, 3]
    assert "".join(order) == "ba" + "abba" + "ab"
    with pytest.raises(BenchError, match="1 or more"):
        in_turns({"a": contender("a")}, 0, 4)


def test_a_loop_s_turn_has_every_frame_and_its_processor_time() -> None:
    turn = loop_turns(lambda: sum(range(20_000)))(5)
    assert len(turn.frame_ms) == 5 and turn.mean_ms > 0 and turn.cpu_ms > 0


def test_a_ratio_of_rounds_and_a_verdict_that_is_open() -> None:
    ratio = ratios([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert ratio.median == pytest.approx(2) and ratio.low == pytest.approx(2)
    assert verdict_note("x", Difference(1.0, 0.9, 1.1), 0.95) and not verdict_note("x", ratio, 0.95)


def test_a_target_may_be_a_floor() -> None:
    assert Target("x", 0.96, 0.95, at_least=True).met and not Target("x", 0.94, 0.95, at_least=True).met
    assert "at least 0.95" in Target("x", 0.96, 0.95, at_least=True).to_text()


def test_a_reel_goes_round(tmp_path: Path) -> None:
    reel = Reel(make_video(tmp_path / "drive.mp4", 2))
    assert {reel.read().shape for _ in range(5)} == {(720, 1280, 3)}
    reel.close()
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(BenchError, match="no readable video"):
        Reel(tmp_path / "text.mp4")


@given(st.lists(st.floats(1, 60), min_size=1, max_size=8), st.floats(0, 5), st.floats(0, 0.1))
def test_a_machine_that_grows_busy_is_no_leak(
    changes_s: list[float], settle_s: float, leak_mb_s: float
) -> None:
    busy, end = [], 0.0
    for number, length in enumerate(changes_s):
        busy.append((end + 60.0, end + 60.0 + length * (number + 1)))  # each takes longer
        end = busy[-1][1]
    at = [float(second) for second in range(int(end + 120))]
    # What is held grows with each second, and a change holds 60 MB more and gives them back as it ends.
    held = [200 + leak_mb_s * t + 60 * any(b <= t <= e + settle_s for b, e in busy) for t in at]
    rests = at_rest(at, busy, settle_s)
    kept = [(t, value) for t, value, rest in zip(at, held, rests, strict=True) if rest]
    assert kept and [value for _, value in kept] == pytest.approx([200 + leak_mb_s * t for t, _ in kept])
    assert at_rest(at, [(60.0, float("inf"))], settle_s) == [t < 60 for t in at]
    floors = least_of_minutes(*map(list, zip(*kept, strict=True)))
    assert floors == sorted(floors) and floors[0] == 200


def test_sizes_are_read_or_refused() -> None:
    assert parse_size("384x640") == (384, 640)
    with pytest.raises(BenchError, match="384by640"):
        parse_size("384by640")


def test_every_part_of_bench_edge_is_listed() -> None:
    told = CliRunner().invoke(root, ["bench", "edge", "--help"]).output
    for name in ("throughput", "peers", "freshness", "cpu", "start", "soak"):
        assert f"\n  {name}" in told


@pytest.mark.services
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("throughput", "--rounds", "1", "--seconds", "0.1"), "edge-throughput"),
        (("peers", "--rounds", "1", "--seconds", "0.1"), "edge-peers"),
        (("freshness", "--rate", "30", "--seconds", "1"), "edge-freshness"),
        (("cpu", "--rounds", "1", "--seconds", "1"), "edge-cpu"),
        (("start", "--rounds", "1"), "edge-start"),
        (("soak", "--minutes", "0.2", "--swaps", "1"), "edge-soak"),
    ],
)
def test_each_part_runs_and_leaves_nothing(
    arguments: tuple[str, ...], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.models_factory import golden_frame

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    model = tmp_path / "model.onnx"
    rows = [[80, 48, 20, 20, 0.9, 0, 0]]
    picture = np.full((384, 640, 3), 40, np.uint8)
    golden = golden_frame((384, 640))
    expected = np.array([[70, 38, 90, 58, 0.9, 0]], np.float32)
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    model.write_bytes(constant_model(rows, hw=(384, 640), golden=(type(golden)(jpeg, expected),)))
    before = set(psutil.Process().children())  # another test's, such as multiprocessing's tracker
    result = CliRunner().invoke(root, ["bench", "edge", *arguments, "--weights", str(model), "--json"])
    assert result.exit_code == 0, (result.output, result.exception)
    report = json.loads(result.stdout)
    assert report["bench"] == name
    assert set(report) == {"bench", "machine", "figures", "targets"}
    assert not list(scratch.iterdir())
    assert set(psutil.Process().children()) <= before
