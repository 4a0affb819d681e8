"""What a candidate costs beside the champion, and whether the hardware profile allows it.

Both are timed in turns, as the vehicle runs them, so that whatever else this machine does hits both alike.
Memory is measured in a process of its own for each model: an allocator gives little back, so that within one
process the second model would look small.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud.config import HardwareConfig
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.gate import RuleResult
from cloud.pipeline.intervals import Interval
from cloud.store.states import VerdictKind
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.model_file import read_model_file

WARM_UP = 3  # rounds that are not counted
MEMORY_TIMEOUT_S = 300.0
MB = 1_000_000
HARDWARE = "hardware"

_ROOT = Path(__file__).resolve().parents[2]

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class HardwareFigures:
    """What both cost on this machine.

    Attributes:
        champion_ms, challenger_ms: from pixels to boxes.
        champion_p99_ms, challenger_p99_ms: the same, for the record.
        slower_ms: the challenger's less the champion's, of the same round.
        champion_mb, challenger_mb: that the loaded model adds to its process, at its most.
        rounds: so many.
    """

    champion_ms: Interval
    challenger_ms: Interval
    champion_p99_ms: float
    challenger_p99_ms: float
    slower_ms: Interval
    champion_mb: float
    challenger_mb: float
    rounds: int

    def to_json(self) -> dict[str, Any]:
        """Give JSON-able values."""
        return asdict(self)


def measure_hardware(
    champion: Path,
    challenger: Path,
    pictures: Sequence[Picture],
    profile: HardwareConfig,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> HardwareFigures:
    """Time both models and measure their memory.

    Args:
        champion: its model file.
        challenger: its model file.
        pictures: `uint8[H, W, 3]` BGR, in turns.
        profile: how vehicles run a model, and how often to time it here.
        tell: is told how many rounds are done.

    Raises:
        PipelineError: there is no picture, or a model's process ended.
        TrafficVisionError: a model cannot be run as the profile says.
    """
    if not pictures:
        raise PipelineError("there is no picture to time the models with")
    options = DetectorOptions(providers=profile.providers, threads=profile.threads)
    times = _in_turns(
        [Detector(read_model_file(path), options) for path in (champion, challenger)],
        pictures,
        profile.rounds,
        tell,
    )
    memory = [memory_mb(path, pictures[0].shape[:2], profile) for path in (champion, challenger)]
    p99 = np.percentile(times, 99, axis=1)
    return HardwareFigures(
        Interval.of(times[0].tolist()),
        Interval.of(times[1].tolist()),
        float(p99[0]),
        float(p99[1]),
        Interval.of((times[1] - times[0]).tolist()),
        memory[0],
        memory[1],
        profile.rounds,
    )


def _in_turns(
    detectors: Sequence[Detector],
    pictures: Sequence[Picture],
    rounds: int,
    tell: Callable[[int, int], None],
) -> npt.NDArray[np.float64]:
    """Milliseconds `[models, rounds]`; who goes first changes from round to round."""
    times = np.zeros((len(detectors), rounds))
    for number in range(-WARM_UP, rounds):
        picture = pictures[number % len(pictures)]
        order = list(range(len(detectors)))
        for place in order if number % 2 else reversed(order):
            began = time.perf_counter_ns()
            detectors[place].detect(picture)
            if number >= 0:
                times[place, number] = (time.perf_counter_ns() - began) / 1e6
        tell(max(number + 1, 0), rounds)
    return times


def memory_mb(model: Path, picture_hw: Sequence[int], profile: HardwareConfig) -> float:
    """Measure what a loaded model adds to a process of its own, at its most, in MB.

    Raises:
        PipelineError: the process ended, or took longer than `MEMORY_TIMEOUT_S`.
    """
    plan = {
        "model": str(model.absolute()),
        "picture_hw": list(picture_hw),
        "providers": list(profile.providers),
        "threads": profile.threads,
    }
    command = [sys.executable, "-m", "cloud.pipeline.model_memory", json.dumps(plan)]
    try:
        done = subprocess.run(
            command, cwd=_ROOT, capture_output=True, text=True, timeout=MEMORY_TIMEOUT_S, check=True
        )
        added: int = json.loads(done.stdout)["bytes"]
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise PipelineError(
            f"{model}: its memory was not measured, its process ended with {error.returncode}: {last}"
        ) from None
    except subprocess.TimeoutExpired:
        raise PipelineError(f"{model}: its memory was not measured within {MEMORY_TIMEOUT_S:.0f} s") from None
    return added / MB


def hardware_rules(figures: HardwareFigures, profile: HardwareConfig) -> list[RuleResult]:
    """Hold the figures against the profile.

    Args:
        figures: as measured on this machine.
        profile: what a vehicle allows.
    """
    results = []
    if profile.max_latency_ms is not None:
        time_there = figures.challenger_ms
        low, high = time_there.low * profile.slowdown, time_there.high * profile.slowdown
        results.append(_bounded("latency", low, high, profile.max_latency_ms, "ms"))
    allowed = max((profile.slower_ratio - 1) * figures.champion_ms.median, profile.slower_ms)
    results.append(
        _bounded("time beyond the champion's", figures.slower_ms.low, figures.slower_ms.high, allowed, "ms")
    )
    if profile.max_memory_mb is not None:
        used = figures.challenger_mb
        results.append(_bounded("memory", used, used, profile.max_memory_mb, "MB"))
    room = max((profile.larger_ratio - 1) * figures.champion_mb, profile.larger_mb)
    more = figures.challenger_mb - figures.champion_mb
    results.append(_bounded("memory beyond the champion's", more, more, room, "MB"))
    return results


def _bounded(rule: str, low: float, high: float, most: float, unit: str) -> RuleResult:
    shown = f"{low:.1f} {unit}" if low == high else f"{low:.1f} to {high:.1f} {unit}"
    if high <= most:
        verdict, why = VerdictKind.PASS, f"{shown}, at most {most:.1f}"
    elif low > most:
        verdict, why = VerdictKind.FAIL, f"{shown}, more than {most:.1f}"
    else:
        verdict, why = VerdictKind.INCONCLUSIVE, f"{shown} has {most:.1f} in it"
    return RuleResult(rule, HARDWARE, most, verdict, why, unit)
