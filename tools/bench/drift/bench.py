"""`bench drift`: its parts, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.bench.drift.alternation import measure_alternation
from tools.bench.drift.cost import measure_cost
from tools.bench.drift.delay import measure_delay
from tools.bench.drift.outcome import Outcome
from tools.bench.drift.peers import measure_peers
from tools.bench.drift.promise import measure_promise
from tools.bench.drift.real import measure_real
from tools.bench.drift.setting import PARTS, DriftSettings, Progress
from tools.bench.drift.simulated import measure_simulated
from tools.bench.report import Report
from tools.bench.rounds import BenchError

_MEASURES: dict[str, Callable[[DriftSettings, Progress], Outcome]] = {
    "promise": measure_promise,
    "delay": measure_delay,
    "peers": measure_peers,
    "alternation": measure_alternation,
    "cost": measure_cost,
    "simulated": measure_simulated,
    "real": measure_real,
}


def bench_drift(
    settings: DriftSettings, progress: Callable[[str, int, int], None] = lambda part, done, of: None
) -> Report:
    """Measure the parts that are asked for.

    Args:
        settings: how much.
        progress: told which part is at work, how much of it is done, of how much.

    Raises:
        BenchError: a part is not known, or an amount makes no sense.
        TrafficVisionError: a part cannot be measured.
    """
    unknown = [part for part in settings.parts if part not in PARTS]
    if unknown or not settings.parts:
        raise BenchError(f"parts are {', '.join(PARTS)}, not {', '.join(unknown) or 'none'}")
    if min(settings.replicates, settings.trials, settings.workers) < 1:
        raise BenchError("replicates, trials and workers must be 1 or more")
    if min(settings.hours, settings.peer_hours, settings.simulated_hours) <= 0:
        raise BenchError("hours must be more than 0")
    found: dict[str, Outcome] = {}
    for part in settings.parts:

        def told(done: int, of: int, part: str = part) -> None:
            progress(part, done, of)

        found[part] = _MEASURES[part](settings, told)
    notes = [note for outcome in found.values() for note in outcome.notes]
    if settings.quick or settings.tuning:
        notes.append(
            f"a {'quick' if settings.quick else 'tuning'} run: these figures are not for publication"
        )
    figures: dict[str, Any] = {part: outcome.figures for part, outcome in found.items()}
    figures["quick"], figures["tuning"] = settings.quick, settings.tuning
    return Report(
        bench="drift",
        figures=figures,
        targets=[target for outcome in found.values() for target in outcome.targets],
        tables=[table for outcome in found.values() for table in outcome.tables],
        notes=notes,
    )
