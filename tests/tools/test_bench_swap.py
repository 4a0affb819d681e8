from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.perception.metadata import GoldenFrame
from tests.models_factory import constant_model
from tests.waiting import eventually
from tools.bench.edge.cameras import GatedCamera, open_camera
from tools.bench.edge.clients import Receipt
from tools.bench.edge.subject import make_video
from tools.bench.rounds import BenchError
from tools.bench.swap import daemon_side, v2_protocol
from tools.bench.swap.blocks import Block, Compared, Pair, Side, permuted
from tools.bench.swap.phases import BETWEEN, CHECK, FREE, LOAD, PHASES, READ, Change, by_phase
from tools.bench.swap.swap import SwapSettings, bench_swap
from tools.bench.swap.update import UpdateSettings, bench_update
from tools.cli import root

MS = 10**6
PERIOD = 20 * MS
RATE_HZ = 50.0
gaps = st.lists(st.floats(1, 200), min_size=1, max_size=8).map(lambda values: np.array(values, float))


def block(*, late: tuple[int, ...] = (), lost: tuple[int, ...] = (), swapped: tuple[int, ...] = ()) -> Block:
    """Twenty frames, each answered 5 ms after its birth but the late ones, which take 60 ms."""
    born = [number * PERIOD for number in range(20)]
    answered = {
        at: at + (60 if number in late else 5) * MS for number, at in enumerate(born) if number not in lost
    }
    return Block(born, answered, [number * PERIOD for number in swapped])


def test_a_block_says_which_frames_were_lost_and_which_of_them_to_a_change() -> None:
    found = block(lost=(3, 10), swapped=(4,))
    assert found.lost_ns == [3 * PERIOD, 10 * PERIOD]
    assert found.lost_near_swap(20.0) == 1
    assert sorted(found.gaps_ms.tolist()) == pytest.approx([20.0] * 15 + [40.0] * 2)
    # A frame that was lost leaves a gap of two periods, and not of more.
    side = Side.of([found], 20.0)
    assert (side.frames, side.lost, side.gaps, side.over) == (20, 2, 17, 0)
    assert Side.of([block(lost=(3, 4))], 20.0).over == 1


def test_gaps_that_come_with_the_changes_alone_are_told_from_those_that_chance_makes() -> None:
    guilty = [Pair(block(late=(5, 9, 13), swapped=(4, 8, 12)), block()) for _ in range(12)]
    found = Compared.of(guilty, RATE_HZ)
    assert (found.swaps.over, found.calm.over, found.swapped) == (36, 0, 36)
    assert found.p_over < 0.01 and found.p_over_fisher < 0.01 and found.p_p999 < 0.01
    innocent = [
        Pair(block(late=(5,) if number % 2 else ()), block(late=(5,) if number % 2 == 0 else ()))
        for number in range(12)
    ]
    found = Compared.of(innocent, RATE_HZ)
    assert found.swaps.over == found.calm.over == 6
    assert found.p_over > 0.3 and found.p_over_fisher > 0.3 and found.p_p999 > 0.3


def test_a_burst_in_one_block_is_one_witness_however_many_gaps_it_has() -> None:
    burst = block(late=tuple(range(1, 19, 3)))
    found = Compared.of([Pair(burst, block()), *[Pair(block(), block())] * 9], RATE_HZ)
    assert found.p_over_fisher < 0.05 < found.p_over


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(gaps, gaps), min_size=1, max_size=6))
def test_a_p_value_is_one_in_both_directions_together(pairs: Any) -> None:
    def mean(values: Any) -> float:
        return float(np.mean(values))

    up, down = permuted(pairs, mean), permuted([pair[::-1] for pair in pairs], mean)
    assert 1 / 2 ** len(pairs) <= up <= 1
    # What is seen is counted on both sides.
    assert up + down >= 1


def test_permutation_keeps_its_level() -> None:
    rng, rejected = np.random.default_rng(5), 0
    for _ in range(200):
        pairs = [(rng.exponential(20, 30), rng.exponential(20, 30)) for _ in range(6)]
        rejected += permuted(pairs, lambda values: float(values.max())) <= 0.05
    assert rejected <= 20


def receipt(number: int, model: str) -> Receipt:
    return Receipt(0, number * PERIOD + MS, number * PERIOD, 0, (), 0, model, number)


def test_a_client_s_receipts_say_where_the_model_changed() -> None:
    seen = [receipt(number, "old" if number < 4 else "new") for number in range(8) if number != 6]
    found = daemon_side._block([number * PERIOD for number in range(1, 8)], seen)
    assert found.swapped_ns == [4 * PERIOD + MS]
    assert found.lost_ns == [6 * PERIOD]
    # A change before the block is none of its own.
    assert not daemon_side._block([number * PERIOD for number in range(5, 8)], seen).swapped_ns


def test_births_and_sequence_count_the_missing_alike_unless_a_frame_vanished() -> None:
    def born_between(begin_ns: int, end_ns: int) -> list[int]:
        return [at for number in range(20) if begin_ns <= (at := number * PERIOD) < end_ns]

    seen = [receipt(number, "one") for number in (2, 3, 6, 7)]
    assert daemon_side.missing(seen, born_between) == (2, 2)
    vanished = [dataclasses.replace(one, sequence=number) for number, one in enumerate(seen)]
    assert daemon_side.missing(vanished, born_between) == (2, 0)


def test_a_gated_camera_rests_and_begins_a_new_schedule(tmp_path: Path) -> None:
    video, births, gate = make_video(tmp_path / "drive.mp4", 3), tmp_path / "births", tmp_path / "gate"
    gate.touch()
    camera = open_camera(f"benchcam:gated?video={video}&rate=100&births={births}&gate={gate}&idle=20")
    assert isinstance(camera, GatedCamera)
    born: list[int] = []
    with camera:
        for shot in camera:
            born.append(shot.captured_ns)
            if len(born) == 3:
                gate.unlink()
            if len(born) == 8:
                break
    between = np.diff(born)
    assert all(between[:2] >= 50 * MS)  # at rest it gives 20 a second, and no more
    assert set(between[3:]) == {10 * MS}  # frames born by the schedule, however late they were fetched
    assert [int(line.split()[1]) for line in births.read_text().splitlines()][:8] == born


def test_the_protocol_s_messages_are_what_is_on_the_wire() -> None:
    made = v2_protocol._classes()
    request = made["ModelInferRequest"](model_name="m")
    request.inputs.add(name="x", datatype="UINT8", shape=[1, 2])
    request.raw_input_contents.append(b"\7\7")
    tensor = b"\x0a\x01x" + b"\x12\x05UINT8" + b"\x1a\x02\x01\x02"
    assert request.SerializeToString() == (
        b"\x0a\x01m" + b"\x2a" + bytes([len(tensor)]) + tensor + b"\x3a\x02\7\7"
    )
    load = made["RepositoryModelLoadRequest"](model_name="m")
    assert load.SerializeToString() == b"\x12\x01m"
    # What this client knows nothing of (a version, an id, parameters) is skipped.
    answer = made["ModelInferResponse"].FromString(b"\x0a\x01m\x12\x011\x1a\x02id" + b"\x32\x01\7")
    assert answer.model_name == "m" and list(answer.raw_output_contents) == [b"\7"]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(BenchError, match="1 or more"):
        bench_swap(SwapSettings(swaps=0))
    with pytest.raises(BenchError, match="1 or more"):
        bench_update(UpdateSettings(releases=0))
    told = CliRunner().invoke(root, ["bench", "swap", "--size", "320"])
    assert isinstance(told.exception, BenchError) and "HEIGHTxWIDTH" in str(told.exception)


def small_model(path: Path) -> Path:
    picture = np.full((64, 96, 3), 40, np.uint8)
    expected = np.array([[70, 38, 90, 58, 0.9, 0]], np.float32)
    golden = GoldenFrame(cv2.imencode(".jpg", picture)[1].tobytes(), expected)
    path.write_bytes(constant_model([[80, 48, 20, 20, 0.9, 0, 0]], hw=(64, 96), golden=(golden,)))
    return path


def run(scratch: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    """Run a benchmark, and see that nothing of it is left."""
    model = small_model(scratch.with_name("model.onnx"))
    before = set(psutil.Process().children())  # another test's, such as multiprocessing's tracker
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    result = CliRunner().invoke(root, ["bench", *arguments, "--weights", str(model), "--json"])
    assert result.exit_code == 0, (result.output, result.exception)
    assert not list(scratch.iterdir())
    eventually(lambda: set(psutil.Process().children()) <= before, "its processes have ended")
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def target(report: dict[str, Any], name: str) -> float:
    (found,) = [each["value"] for each in report["targets"] if each["name"].startswith(name)]
    return float(found)


@pytest.mark.services
def test_swaps_are_made_seen_and_counted_beside_the_peers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = ("--swaps", "4", "--block", "2", "--peer-swaps", "2", "--every", "0.1")
    report = run(tmp_path / "scratch", monkeypatch, "swap", *short)
    assert report["bench"] == "swap"
    assert target(report, "changes of the daemon's model") == 4
    assert target(report, "frames that left in no counted way") == 0
    assert target(report, "frames lost by the camera's births, less") == 0
    figures = report["figures"]
    daemon, *peers, mlserver = figures["contenders"]
    assert [peer["swaps"] for peer in peers] == [2, 2]
    assert "--mlserver" in mlserver["not_measured"]
    for contender in (daemon, *peers):
        changed, calm = contender["with_swaps"], contender["without"]
        assert changed["frames"] > 0 and calm["frames"] > 0
        assert changed["frames"] - changed["lost"] > changed["gaps"]
        assert 0 < contender["p_over_two_periods"] <= 1
    assert figures["frames"]["captured"] >= daemon["with_swaps"]["frames"] + daemon["without"]["frames"]


@pytest.mark.services
def test_a_release_arrives_and_looks_for_news_are_paid_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = run(tmp_path / "scratch", monkeypatch, "update", "--releases", "2", "--checks", "2")
    figures = report["figures"]
    assert figures["releases"] == 2 and figures["checks"] == 2
    steps = figures["steps_s"]
    assert all(spread["min_s"] >= 0 for spread in steps.values())
    parts = sum(spread["min_s"] for name, spread in steps.items() if name != "all")
    assert parts <= steps["all"]["max_s"]
    assert figures["cpu"]["the daemon, look to look"]["min_ms"] > 0


@given(st.lists(st.tuples(*[st.integers(1, 50)] * 5), min_size=1, max_size=5), st.data())
def test_each_frame_is_in_the_phase_it_was_born_in(
    lengths: list[tuple[int, int, int, int, int]], data: st.DataObject
) -> None:
    changes, expected, now = [], [BETWEEN], 1
    for between, read, check, load, free in lengths:
        begin = now + between
        swapped = begin + read + check + load
        changes.append(Change(begin, swapped + free, swapped, check, load))
        stretches = ((BETWEEN, between), (READ, read), (CHECK, check), (LOAD, load), (FREE, free))
        expected += [phase for phase, length in stretches for _ in range(length)]
        now = swapped + free
    born = list(range(len(expected)))
    lost = data.draw(st.sets(st.sampled_from(born)))
    block = Block(
        born, {at: at * 1_000_000 for at in born if at not in lost}, [c.swapped_ns for c in changes]
    )
    found = by_phase([block], changes)
    for phase in PHASES:
        own = [at for at in born if expected[at] == phase]
        assert (found[phase].frames, found[phase].lost) == (len(own), len(lost.intersection(own)))
    assert all(found[phase].max_ms >= 1 for phase in PHASES if found[phase].frames - found[phase].lost > 1)
