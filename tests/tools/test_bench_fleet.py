"""`bench fleet` on a small fleet: real processes, mutual TLS, TUF and slots; no figure is held to a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from edge.perception.model_file import parse_model_file
from tools.bench.fleet.processes import CLOUD_CORES, cores_of, on_cores
from tools.bench.fleet.run import FleetSettings, Spread, bench_fleet
from tools.bench.fleet.setting import tiny_model
from tools.bench.rounds import BenchError
from tools.cli import root


def test_the_moments_of_a_fleet() -> None:
    assert Spread.of({number: 10.0 + number for number in range(1, 11)}, 10.0) == Spread(5.0, 9.0, 10.0)
    assert Spread.of({0: 3.0}, 1.0) == Spread(2.0, 2.0, 2.0)


def test_the_tiny_model_is_a_model_file_of_the_size_that_is_asked_for() -> None:
    data = tiny_model("good", 100_000)
    assert parse_model_file(data, "here").metadata.version == "good"
    assert 100_000 < len(data) < 110_000


def test_a_process_of_a_block_is_on_so_many_cores_with_all_its_threads_and_this_one_is_not() -> None:
    before = os.sched_getaffinity(0)
    threads = (
        "import threading; [threading.Thread(target=input).start() for _ in '12']; print('there', flush=True)"
    )
    with on_cores(1):
        process = subprocess.Popen(
            [sys.executable, "-c", threads], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    with process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "there\n"
        assert cores_of(process.pid) == sorted(before)[:1]
        process.stdin.close()
    assert os.sched_getaffinity(0) == before


def test_no_fleet_is_refused() -> None:
    with pytest.raises(BenchError, match="at least two vehicles"):
        bench_fleet(FleetSettings(vehicles=3, processes=4))


@pytest.mark.services
def test_a_good_release_reaches_all_and_a_bad_one_is_halted_and_taken_back() -> None:
    arguments = ["bench", "fleet", "--vehicles", "20", "--processes", "2", "--wait", "0", "--fails-each", "4"]
    done = CliRunner().invoke(root, [*arguments, "--json"], catch_exceptions=False)
    report = json.loads(done.stdout)
    assert report["bench"] == "fleet"
    figures = report["figures"]
    assert 0 < figures["good"]["runs"]["p50_s"] <= figures["good"]["runs"]["p100_s"]
    assert figures["good"]["runs"]["p100_s"] <= figures["good"]["confirmed"]["p100_s"]
    bad = figures["bad"]
    assert bad["halted"] is True
    assert "rolled back" in bad["why"] and "brings the model of release 1" in bad["why"]
    assert 1 <= bad["outcomes"]["rolled back"] <= 5
    assert sum(bad["outcomes"].values()) >= bad["got_it"]
    assert figures["cloud"]["cpu_s"]["good"] > 0
    assert figures["cloud"]["peak_rss_bytes"] > 10**7
    allowed = os.sched_getaffinity(0)
    assert figures["cloud"]["cores"] == sorted(allowed)[:CLOUD_CORES]
    names = [target["name"] for target in report["targets"]]
    assert names == ["a release to all 20 vehicles, s", "the bad release was halted, rollouts"]
