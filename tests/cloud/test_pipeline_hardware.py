"""What a model costs: the profile's rules, and that time and memory are measured on real models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.config import HardwareConfig
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.hardware import HardwareFigures, hardware_rules, measure_hardware, memory_mb
from cloud.pipeline.intervals import Interval
from cloud.store.states import VerdictKind
from tests import models_factory as factory

HW = (64, 96)
SAME = Interval(20.0, 19.0, 21.0)
FIGURES = HardwareFigures(SAME, SAME, 25.0, 25.0, Interval(0.0, -0.5, 0.5), 100.0, 100.0, 60)


def verdicts(figures: HardwareFigures, **profile: float) -> dict[str, VerdictKind]:
    return {result.rule: result.verdict for result in hardware_rules(figures, HardwareConfig(**profile))}  # type: ignore[arg-type]


def test_an_equal_model_passes_and_without_budgets_only_the_champion_counts() -> None:
    assert verdicts(FIGURES) == {
        "time beyond the champion's": VerdictKind.PASS,
        "memory beyond the champion's": VerdictKind.PASS,
    }


@pytest.mark.parametrize(
    ("budget_ms", "slowdown", "verdict"),
    [
        (30.0, 1.0, VerdictKind.PASS),
        (20.0, 1.0, VerdictKind.INCONCLUSIVE),
        (15.0, 1.0, VerdictKind.FAIL),
        (30.0, 4.0, VerdictKind.FAIL),  # a vehicle's computer that is four times as slow
        (90.0, 4.0, VerdictKind.PASS),
    ],
)
def test_the_budget_is_the_vehicles(budget_ms: float, slowdown: float, verdict: VerdictKind) -> None:
    assert verdicts(FIGURES, max_latency_ms=budget_ms, slowdown=slowdown)["latency"] is verdict


def test_slower_is_beyond_ratio_and_milliseconds() -> None:
    slower = replace(FIGURES, slower_ms=Interval(5.5, 5.2, 5.8))
    rule = "time beyond the champion's"
    assert verdicts(slower, slower_ratio=1.2, slower_ms=5.0)[rule] is VerdictKind.FAIL
    assert verdicts(slower, slower_ratio=1.5, slower_ms=5.0)[rule] is VerdictKind.PASS
    assert verdicts(slower, slower_ratio=1.2, slower_ms=6.0)[rule] is VerdictKind.PASS
    assert verdicts(slower, slower_ratio=1.2, slower_ms=5.5)[rule] is VerdictKind.INCONCLUSIVE


def test_memory_has_a_budget_and_is_held_against_the_champions() -> None:
    larger = replace(FIGURES, challenger_mb=160.0)
    assert verdicts(larger)["memory beyond the champion's"] is VerdictKind.FAIL
    assert verdicts(larger, larger_mb=60.0)["memory beyond the champion's"] is VerdictKind.PASS
    assert verdicts(larger, max_memory_mb=150.0)["memory"] is VerdictKind.FAIL
    assert verdicts(larger, max_memory_mb=160.0)["memory"] is VerdictKind.PASS


@given(st.lists(st.floats(0, 100), min_size=1, max_size=80))
def test_the_interval_holds_the_median_and_lies_within_what_was_seen(values: list[float]) -> None:
    found = Interval.of(values)
    assert min(values) <= found.low <= found.median <= found.high <= max(values)


def test_both_are_timed_and_weighed_on_this_machine(tmp_path: Path) -> None:
    paths = []
    for version in ("1", "2"):
        paths.append(tmp_path / f"{version}.onnx")
        paths[-1].write_bytes(factory.rectangles_model(HW, version=version))
    told: list[tuple[int, int]] = []
    picture = factory.picture(HW, (10, 10, 40, 50, "red"))
    figures = measure_hardware(
        *paths, [picture], HardwareConfig(rounds=5, threads=1), lambda done, of: told.append((done, of))
    )
    assert told[-1] == (5, 5) and figures.rounds == 5
    for times in (figures.champion_ms, figures.challenger_ms):
        assert 0 < times.low <= times.median <= times.high
    for size in (figures.champion_mb, figures.challenger_mb):
        assert 0.1 < size < 500
    assert {result.slice for result in hardware_rules(figures, HardwareConfig())} == {"hardware"}
    with pytest.raises(PipelineError, match="no picture to time"):
        measure_hardware(*paths, [], HardwareConfig())


def test_a_model_whose_process_ends_is_said(tmp_path: Path) -> None:
    path = tmp_path / "none.onnx"
    path.write_bytes(np.zeros(10).tobytes())
    with pytest.raises(PipelineError, match="memory was not measured, its process ended with 1"):
        memory_mb(path, HW, HardwareConfig())
