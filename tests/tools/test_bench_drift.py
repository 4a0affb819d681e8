"""The bench of the drift monitor: its streams, its counting, and what it says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edge.drift import DriftMonitor, fit
from edge.drift.state import Kind
from tests.replays import write_model
from tests.tools.test_bench_drift_drives import moving
from tools.bench.drift.alternation import alternating, held_by
from tools.bench.drift.bench import bench_drift
from tools.bench.drift.delay import Shift, changed_series, spread, steady
from tools.bench.drift.drives import Drive
from tools.bench.drift.onsets import alarm_onsets
from tools.bench.drift.peer_child import Run
from tools.bench.drift.peer_processes import PEERS, Peer, PeerProcess
from tools.bench.drift.peers import OURS, better
from tools.bench.drift.promise import Kept, Stretch
from tools.bench.drift.real import clips
from tools.bench.drift.setting import DriftSettings
from tools.bench.drift.simulated import (
    EFFECTS,
    Seen,
    effects_found,
    further_days,
    is_simulated,
    kinds_table,
)
from tools.bench.drift.streams import JUDGED, JUDGED_SEEDS, TUNED, TUNED_SEEDS, Family, seed_of
from tools.bench.rounds import BenchError
from tools.cli import root


def bench(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(root, ["bench", "drift", *map(str, arguments), "--quick", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert set(report) == {"bench", "machine", "figures", "targets"}
    assert report["figures"]["quick"] is True
    return dict(report)


def test_what_constants_are_tuned_on_is_not_what_is_published() -> None:
    assert not {family.name for family in JUDGED} & {family.name for family in TUNED}
    assert not set(JUDGED_SEEDS) & set(TUNED_SEEDS)
    for families, seeds in ((JUDGED, JUDGED_SEEDS), (TUNED, TUNED_SEEDS)):
        drawn = [seed_of(families, number, one) for number in range(len(families)) for one in range(20)]
        assert len(set(drawn)) == len(drawn) and set(drawn) <= set(seeds)


@pytest.mark.parametrize("family", [*JUDGED, *TUNED], ids=lambda family: family.name)
def test_a_family_s_streams_are_as_slow_as_it_says_and_steady(family: Family) -> None:
    block = round(20 * family.tau)
    series = family.series(3, 0, 80 * block, 4).astype(np.float64)
    assert np.isfinite(series).all()
    means = series.reshape(80, block, 4).mean(axis=1)
    # Batch means (Flegal & Jones, 2010), of the slowest feature.
    tau = float((block * means.var(axis=0, ddof=1) / series.var(axis=0)).max())
    assert 0.4 * family.tau < tau < 1.9 * family.tau
    apart = means[:40].mean(axis=0) - means[40:].mean(axis=0)
    assert (np.abs(apart) < 5 * means.std(axis=0) / math.sqrt(20)).all()


def test_a_stream_is_the_same_again_and_its_parts_are_others() -> None:
    family = JUDGED[4]
    assert np.array_equal(family.series(1, 0, 500, 3), family.series(1, 0, 500, 3))
    assert not np.array_equal(family.series(1, 0, 500, 3), family.series(1, 1, 500, 3))


@pytest.mark.parametrize("family", [TUNED[3], TUNED[8]], ids=lambda family: family.name)
def test_counted_onsets_are_the_frames_at_which_a_monitor_begins_to_alarm(family: Family) -> None:
    reference = fit(family.series(7, 0, 6000, 2), family.rate_hz, ["a", "b"], target_hours=0.3)
    series = family.series(7, 1, 2500, 2)
    series[1000:1200, 0] += 3
    series[1800:, 1] += 4
    monitor, alarm, begins = DriftMonitor(reference), False, []
    for number, vector in enumerate(series):
        state = monitor.observe(round(number * 1e9 / family.rate_hz), vector)
        if state is not None:
            if state.alarm and not alarm:
                begins.append(number)
            alarm = state.alarm
    assert begins
    assert alarm_onsets(reference, series).tolist() == begins


def test_an_interval_of_a_mean_time_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for alarms in rng.poisson(6.0, 1000):
        kept = Kept.of(
            [Stretch(0, 8, 24.0, False, True, 60.0, int(alarms)), Stretch(0, 8, 24.0, False, True, 84.0, 0)]
        )
        assert kept.low <= kept.at_least_hours * (1 if alarms else math.inf) and kept.hours == 144.0
        covered += kept.low <= 24.0 <= kept.high
    # Garwood's interval holds its level; ties make it a little wider.
    assert 945 <= covered <= 995


@given(st.integers(0, 200), st.floats(1, 5000))
def test_a_family_is_called_broken_only_where_chance_does_not_explain_it(alarms: int, hours: float) -> None:
    kept = Kept.of([Stretch(0, 8, 24.0, False, True, hours, alarms)])
    assert kept.low < kept.mean_hours or not alarms
    if 18 <= kept.mean_hours <= 48:
        assert not kept.broken
    json.dumps(kept.to_json(), allow_nan=False)


def test_the_promise_is_counted_for_each_family_and_all_together() -> None:
    report = bench("--part", "promise")
    figures = report["figures"]["promise"]
    assert figures["references"] == len(figures["families"]) == 2
    assert figures["all"]["hours"] == sum(family["hours"] for family in figures["families"].values())
    assert figures["all"]["alarms"] == sum(family["alarms"] for family in figures["families"].values())
    assert [target["target"] for target in report["targets"]] == [0.75, 2.0, 0]


def test_delays_count_from_the_first_changed_frame_and_what_is_not_found_is_late() -> None:
    assert spread([3.0, 1.0, math.inf, 2.0], 0.5) == 2.0
    assert math.isinf(spread([3.0, 1.0, math.inf, 2.0], 0.9))
    assert math.isinf(spread([], 0.5))
    for trial in range(20):
        shift = Shift(8, 2, 3.0)
        series, columns = changed_series(steady(), 5, trial, 100, 300, shift)
        plain, _ = changed_series(steady(), 5, trial, 100, 300, Shift(8, 2, 0.0))
        moved = np.abs(series - plain).round(4)
        assert len(set(columns)) == 2
        assert not moved[:100].any() and (moved[100:, columns] == 3.0).all()
        assert not np.delete(moved, columns, axis=1).any()


def test_the_delay_and_the_name_of_a_change_are_measured() -> None:
    figures = bench("--part", "delay")["figures"]["delay"]
    one, two = figures["shifts"].values()
    assert one["trials"] + one["false_alarm_before"] == two["trials"] + two["false_alarm_before"] == 4
    for shift in (one, two):
        assert shift["not_found"] == 0 and 0 < shift["median_s"] <= shift["p90_s"] <= 1800
    assert figures["named"]["trials"] == 3 and 0 <= figures["named"]["right"] <= 3


def test_day_and_night_take_turns_at_once_or_by_and_by() -> None:
    at_once, faded = (alternating(np.random.default_rng(8), 2.0, fade_s) for fade_s in (0.0, 30.0))
    turns = at_once.reshape(4, 3600, 8)
    dark = turns[:, :, :4].mean(axis=(1, 2)) < -3
    assert dark.tolist() == [False, True, False, True]
    # The same chance: what differs is the half minute after each change.
    apart = np.abs(faded - at_once).reshape(4, 3600, 8)
    assert not apart[0].any() and not apart[1:, 60:].any()
    share = apart[1:, :60, 0] / 6.0
    assert np.allclose(share, 1 - np.arange(60) / 60, atol=1e-4)


def test_day_and_night_in_turns_are_judged_by_both_and_by_the_day_alone() -> None:
    report = bench("--part", "alternation")
    figures = report["figures"]["alternation"]
    assert [kept["hours"] for kept in figures["both_known"].values()] == [2.0, 2.0]
    assert figures["day_alone"]["evenings"] == figures["day_alone"]["found"] == 2
    assert 0 < figures["day_alone"]["median_s"] <= figures["day_alone"]["worst_s"] < 1800
    # Both are held to the promise, the fade too.
    for name in ("at once", "in 30 s"):
        held = [target for target in report["targets"] if target["name"].startswith(f"alternation, {name}")]
        assert sorted(target["target"] for target in held) == [0.75, 2.0]


@pytest.mark.parametrize(
    ("alarms", "held"),
    [(0, "nothing"), (3, "interval"), (7, "mean"), (11, "mean"), (14, "interval"), (20, "nothing")],
)
def test_alternation_says_whether_the_mean_is_as_promised_or_chance_explains_it(
    alarms: int, held: str
) -> None:
    assert held_by(Kept.of([Stretch(0, 8, 24.0, False, True, 200.0, alarms)])) == held


def test_cost_is_measured_in_turns_and_memory_by_what_is_held() -> None:
    figures = bench("--part", "cost")["figures"]["cost"]
    assert set(figures["a_frame"]) == {"monitor at 30 frames/s", "features"}
    for spent in figures["a_frame"].values():
        assert 0 < spent["min_us"] <= spent["p50_us"] and 0 < spent["min_cpu_us"] <= spent["p50_cpu_us"]
    # 16 features of 3 contexts, 80 autocorrelation times of 90 frames, a value and a bin each, at the least.
    assert figures["memory_mb"] > 16 * 3 * 80 * 60 * 5 / 1e6


def test_peers_run_on_the_same_streams_and_those_that_are_not_there_say_why() -> None:
    figures = bench("--part", "peers")["figures"]["peers"]
    assert set(figures["contenders"]) == {OURS, "scipy ks_2samp, window of 200"}
    assert len(figures["not_measured"]) == 4
    assert all("--peers" in why for why in figures["not_measured"].values())
    ours, peer = figures["contenders"].values()
    assert set(ours) == set(peer) and len(ours) == 6
    assert ours["us a frame"] > 0 and peer["us a frame"] > 0
    assert ours["alarms/h AR(1) 0.9"] <= 5 < peer["alarms/h AR(1) 0.9"]


def test_where_another_is_better_it_is_said() -> None:
    columns = {
        "alarms/h": {OURS: 0.04, "other": 90.0, "third": 0.0},
        "s to it": {OURS: math.inf, "other": 10.0, "third": math.inf},
        "us": {OURS: 1.0, "other": 2.0, "third": 1.0},
    }
    assert better(columns) == [
        "better than ours in 'alarms/h' (ours 0.04): third 0",
        "better than ours in 's to it' (ours none): other 10",
    ]


def test_a_peer_s_alarms_are_20_s_apart_and_numbered_from_the_piece() -> None:
    rng = np.random.default_rng(3)
    reference = rng.normal(size=(2000, 2)).astype(np.float32)
    run = Run("ks_2samp", reference, 2.0)
    calm = run.take(rng.normal(size=(400, 2)).astype(np.float32))
    assert len(calm["alarms"]) <= 2  # an AR(1) of 0: the textbook's level holds
    alarms = run.take(rng.normal(3.0, size=(401, 2)).astype(np.float32))["alarms"]
    assert alarms[0] < 60 and set(np.diff(alarms)) <= {40, 41}
    assert calm["cpu_s"] > 0


@pytest.mark.services
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.kind)
def test_each_peer_can_be_installed_and_tells_a_change(
    peer: Peer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "peers"
    rng = np.random.default_rng(4)
    reference = rng.normal(size=(4000, 2)).astype(np.float32)
    with PeerProcess(peer, folder, tmp_path_factory.mktemp("peer")) as process:
        assert process.release
        for _ in range(2):  # it begins anew
            process.begin(reference, 2.0)
            calm = process.take(reference[:400])
            changed = process.take(reference[400:1000] + np.float32(4))
            assert len(calm.alarms) <= 2 <= 1 + len(changed.alarms)
            assert changed.cpu_s > 0


def test_a_peer_that_ends_says_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="nobody"):
        PeerProcess(Peer("nobody", "nobody's", None), None, tmp_path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def test_simulated_drives_are_judged_and_kept(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "kept"
    asked = ("--part", "simulated", "--model", model, "--cache", cache, "--workers", 1)
    figures = bench(*asked)["figures"]["simulated"]
    kept = sorted(cache.iterdir())
    known = [effect for effect in EFFECTS if is_simulated(effect)]
    assert len(kept) == 3 + len(known)
    assert figures["day"]["hours"] == round(20 / 3600, 2)
    for effect in EFFECTS:
        found = figures["effects"][effect.name]
        if effect in known:
            assert found["drives"] + found["alarm_before"] == 1
        else:
            assert found == {"not_measured": "not in this simulator"}
    times = [path.stat().st_mtime_ns for path in kept]
    assert bench(*asked)["figures"]["simulated"] == figures
    assert [path.stat().st_mtime_ns for path in kept] == times
    kept[0].write_bytes(b"no archive")
    result = CliRunner().invoke(root, ["bench", "drift", "--quick", *map(str, asked)])
    assert isinstance(result.exception, BenchError) and kept[0].name in str(result.exception)


def test_further_days_count_alarms_and_an_effect_counts_from_its_begin() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(size=(9000, 2)).astype(np.float32)
    reference = fit([values[:4000], values[4000:8000]], 2.0, ["a", "b"])
    calm = values[8000:8600]

    def drive(shifted_from: int | None) -> Drive:
        series = calm.copy()
        if shifted_from is not None:
            series[shifted_from:, 1] += 8
        return moving(series)

    assert further_days(reference, [drive(None), drive(None)]) == []
    begun = further_days(reference, [drive(400), drive(None), drive(300)])
    assert [state.alarm for state in begun] == [True, True]
    seen = effects_found(reference, [drive(400), drive(None), drive(100)], 200.0)
    assert seen.disturbed == 1 and seen.found == 1 and len(seen.delays_s) == 2
    assert 0 <= seen.delays_s[0] < 60 and math.isinf(seen.delays_s[1])
    assert seen.foremost == ["b"]
    assert len(seen.kinds) == len(seen.settled) == 1


def test_the_table_of_kinds_has_a_row_for_each_change_and_counts_both_times() -> None:
    fog, smear = EFFECTS[2], EFFECTS[3]
    seen = {
        fog.name: Seen([5.0, 6.0], kinds=[Kind.LENS, Kind.WEATHER], settled=[Kind.WEATHER] * 2),
        smear.name: Seen([math.inf]),
    }
    table = kinds_table(seen)
    ((change, *cells),) = table.rows
    assert change == "fog: weather"
    assert dict(zip(table.columns[1:], cells, strict=True)) == {
        kind.value: {Kind.WEATHER: "1 2", Kind.LENS: "1 0"}.get(kind, "-") for kind in Kind
    }


def test_clips_are_day_and_night_by_their_names(tmp_path: Path) -> None:
    for name in ("night.mp4", "street2.mp4", "street1.mp4", "readme.md"):
        (tmp_path / name).touch()
    day, night = clips(tmp_path)
    assert [path.name for path in day] == ["street1.mp4", "street2.mp4"]
    assert [path.name for path in night] == ["night.mp4"]
    with pytest.raises(BenchError, match="nowhere"):
        clips(tmp_path / "nowhere")


def test_without_clips_the_real_part_says_what_is_missing(tmp_path: Path) -> None:
    assert "--drives" in bench("--part", "real")["figures"]["real"]["not_measured"]
    told = bench("--part", "real", "--drives", tmp_path)["figures"]["real"]["not_measured"]
    assert "0 day and 0 night" in told


def test_a_day_clip_goes_over_into_the_night(model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    for name, level in (("street.mp4", 150), ("night.mp4", 10)):
        size = (160, 96)
        file = cv2.VideoWriter(str(tmp_path / name), cv2.VideoWriter_fourcc(*"mp4v"), 2.0, size)
        for _ in range(80):
            picture = rng.integers(level - 10, level + 10, (*size[::-1], 3)) + rng.integers(-5, 5)
            file.write(picture.astype(np.uint8))
        file.release()
    report = bench("--part", "real", "--drives", tmp_path, "--model", model, "--workers", 1)
    (drive,) = report["figures"]["real"]["drives"]
    assert drive["day"] == "street.mp4" and drive["night"] == "night.mp4"
    assert drive["alarm_by_day"] is False and 0 < drive["delay_s"] <= 40
    assert report["figures"]["real"]["calibrated"] is False
    assert drive["verdict_by_day"] == "uncalibrated"
    (said,) = [target for target in report["targets"] if "uncalibrated" in target["name"]]
    assert (said["value"], said["target"], said["met"]) == (1.0, 1.0, True)


def test_what_cannot_be_benched_is_refused() -> None:
    with pytest.raises(BenchError, match="nonsense"):
        bench_drift(DriftSettings(parts=("nonsense",)))
    with pytest.raises(BenchError, match="hours"):
        bench_drift(DriftSettings(hours=0))
