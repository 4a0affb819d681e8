"""The bench of the drift monitor: its streams, its counting, and what it says."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edge.drift import fit, scan
from tools.bench.drift.bench import bench_drift
from tools.bench.drift.onsets import alarm_onsets
from tools.bench.drift.promise import Kept, Stretch
from tools.bench.drift.setting import DriftSettings
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


@pytest.mark.parametrize(
    "family", [JUDGED[0], TUNED[3], JUDGED[7], JUDGED[8]], ids=lambda family: family.name
)
def test_counted_onsets_are_those_of_the_monitor(family: Family) -> None:
    names = ["a", "b", "c", "d"]
    reference = fit(family.series(7, 0, 9000, 4), family.rate_hz, names, target_hours=0.3)
    series = family.series(7, 1, 7000, 4)
    series[2000:2300, 0] += 3
    series[2200:2600, 3] -= 1
    series[5000:5100, 1] += 4
    states = scan(reference, series, family.rate_hz)
    stride = round(family.rate_hz)
    alarm = np.array([False] + [state.alarm for state in states])
    begins = (np.flatnonzero(alarm[1:] & ~alarm[:-1]) + 1) * stride - 1
    assert len(begins)
    assert alarm_onsets(reference, series).tolist() == begins.tolist()


def test_an_interval_of_a_mean_time_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for alarms in rng.poisson(6.0, 1000):
        kept = Kept.of([Stretch(0, 8, 24.0, True, 60.0, int(alarms)), Stretch(0, 8, 24.0, True, 84.0, 0)])
        assert kept.low <= kept.at_least_hours * (1 if alarms else math.inf) and kept.hours == 144.0
        covered += kept.low <= 24.0 <= kept.high
    # Garwood's interval holds its level; ties make it a little wider.
    assert 945 <= covered <= 995


@given(st.integers(0, 200), st.floats(1, 5000))
def test_a_family_is_called_broken_only_where_chance_does_not_explain_it(alarms: int, hours: float) -> None:
    kept = Kept.of([Stretch(0, 8, 24.0, True, hours, alarms)])
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


def test_what_cannot_be_benched_is_refused() -> None:
    with pytest.raises(BenchError, match="nonsense"):
        bench_drift(DriftSettings(parts=("nonsense",)))
    with pytest.raises(BenchError, match="hours"):
        bench_drift(DriftSettings(hours=0))
