"""A good release and a bad one, staged, to a whole fleet: how long, how many, and what it costs the cloud."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cloud.config import CloudConfig
from cloud.fleet.rollout_report import RolloutLine, rollout_lines
from cloud.store import Store, open_database
from cloud.store.columns import utc_now
from cloud.store.states import RolloutState
from tools.bench.edge.machine import Watched
from tools.bench.edge.turns import Progress
from tools.bench.fleet.processes import Cloud, Events, Probe, vehicles
from tools.bench.fleet.setting import make_setting, release
from tools.bench.fleet.vehicle import BAD
from tools.bench.report import Report, Table, Target
from tools.bench.rounds import BenchError

TARGET_S = 120.0  # a release reaches all
TIMEOUT_S = 600.0  # of each part; a slow machine is told, not waited for
CONNECT_S = 300.0
ENOUGH_FAIL = 10  # vehicles, for some of them to be in the stages before the last
SLACK_PERCENT = 10.0  # a stage's share of the vehicles is by chance
_TAKEN_BACK = (RolloutState.RETURNING.value, RolloutState.RETURNED.value)


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """What is run.

    Attributes:
        vehicles: how many.
        processes: that they run in.
        stages: percent of each stage.
        wait_s: of a stage, at least.
        fails_each: with the bad release, each of so many vehicles puts its last good model back.
        allowed: the share of vehicles that may, before the rollout is halted.
        model_bytes: of a model file, about.
    """

    vehicles: int = 500
    processes: int = 4
    stages: tuple[float, ...] = (10.0, 50.0, 100.0)
    wait_s: float = 5.0
    fails_each: int = 50
    allowed: float = 0.001
    model_bytes: int = 200_000


@dataclass(frozen=True, slots=True)
class Spread:
    """When 50, 90 and 100 % of the vehicles were there, seconds after the release."""

    half_s: float
    most_s: float
    all_s: float

    @classmethod
    def of(cls, moments: Mapping[int, float], began_s: float) -> Spread:
        """Of one vehicle at least."""
        after = np.sort(np.array(list(moments.values())) - began_s)
        at = [after[max(0, int(np.ceil(len(after) * share)) - 1)] for share in (0.5, 0.9, 1.0)]
        return cls(*(round(float(value), 2) for value in at))


@dataclass(frozen=True, slots=True)
class Used:
    """What the cloud's process used in one part, and how fast its control streams were (p50 and p99)."""

    cpu_s: float
    wall_s: float
    control_ms: tuple[float, float]


def bench_fleet(settings: FleetSettings, progress: Progress = lambda done, of: None) -> Report:
    """Bring a good release to all, then one that fails on some vehicles.

    Raises:
        BenchError: the settings make no fleet, or the vehicles did not connect.
        TrafficVisionError: the cloud's folder cannot be made.
    """
    if settings.vehicles < 2 or not 1 <= settings.processes <= settings.vehicles:
        raise BenchError("a fleet has at least two vehicles, and no more processes than vehicles")
    watched = Watched()
    with tempfile.TemporaryDirectory(prefix="traffic-vision-bench-") as name:
        folder = Path(name)
        config = make_setting(folder, settings.vehicles, settings.stages, settings.wait_s, settings.allowed)
        store = open_database(config.store.database)
        try:
            return _Run(settings, folder, config, store, watched, progress).run()
        finally:
            store.close()


class _Run:
    def __init__(
        self,
        settings: FleetSettings,
        folder: Path,
        config: CloudConfig,
        store: Store,
        watched: Watched,
        progress: Progress,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._config = config
        self._store = store
        self._watched = watched
        self._progress = progress
        self._events = Events()

    def run(self) -> Report:
        settings, events = self._settings, self._events
        cloud = Cloud(self._folder)
        try:
            fleet = vehicles(
                self._folder,
                cloud.address,
                settings.vehicles,
                settings.processes,
                settings.fails_each,
                events,
            )
            probe = Probe()
            with fleet, probe.running(self._folder, cloud.address):
                began_s = time.monotonic()
                self._wait(lambda: len(events.when("connected")), CONNECT_S, "connected")
                connecting_s = time.monotonic() - began_s
                good, good_used = self._part(cloud, probe, self._good)
                bad, bad_used = self._part(cloud, probe, self._bad)
            return self._report(
                good, good_used, bad, bad_used, connecting_s, cloud.peak_rss_bytes, cloud.cores()
            )
        finally:
            cloud.stop()

    def _part(self, cloud: Cloud, probe: Probe, part: Any) -> tuple[dict[str, Any], Used]:
        cpu_s, wall_s, probes = cloud.cpu_s(), time.monotonic(), len(probe.latencies_ms)
        found = part()
        latencies = probe.latencies_ms[probes:] or [float("nan")]
        p50, p99 = (round(float(value), 1) for value in np.percentile(latencies, [50, 99]))
        used = Used(round(cloud.cpu_s() - cpu_s, 2), round(time.monotonic() - wall_s, 2), (p50, p99))
        return found, used

    def _good(self) -> dict[str, Any]:
        began_s = time.monotonic()
        counter = release(self._config, "good", self._settings.model_bytes)
        self._wait(lambda: len(self._events.confirmed(counter)), TIMEOUT_S, "confirmed the release")
        runs = Spread.of(self._events.when("runs good"), began_s)
        confirmed = Spread.of(self._events.confirmed(counter), began_s)
        return {"counter": counter, "runs": runs, "confirmed": confirmed}

    def _bad(self) -> dict[str, Any]:
        """Until it is halted and taken back, and every vehicle that had it runs the good model again."""
        events = self._events
        began_s = time.monotonic()
        counter = release(self._config, BAD, self._settings.model_bytes)
        halted = events.wait(lambda: self._line(counter).state in _TAKEN_BACK, TIMEOUT_S)
        halted_s = time.monotonic() - began_s
        events.wait(lambda: self._line(counter).state == RolloutState.RETURNED.value, TIMEOUT_S)
        line = self._line(counter)

        def left() -> int:
            """Vehicles that have the bad one: that confirmed it, or are on probation with it."""
            outcomes = self._line(counter).outcomes
            return outcomes.get("running", 0) + outcomes.get("begun", 0)

        events.wait(lambda: not left() and self._has_returned(counter), TIMEOUT_S if halted else 0.0)
        return {
            "counter": counter,
            "halted": halted,
            "halted_s": round(halted_s, 2),
            "returned_s": round(time.monotonic() - began_s, 2),
            "got_it": len(events.when(f"runs {BAD}")),
            "stage": line.stage,
            "why": line.next,
            "outcomes": dict(self._line(counter).outcomes),
        }

    def _has_returned(self, counter: int) -> bool:
        """All that were in the bad one's rollout have confirmed the release that takes it back."""
        back = self._line(counter + 1)
        return back.outcomes.get("confirmed", 0) == back.vehicles

    def _line(self, counter: int) -> RolloutLine:
        with self._store.reading() as session:
            lines = {line.release: line for line in rollout_lines(session, utc_now())}
        empty = RolloutLine(counter, "", "", "", utc_now(), 0, {}, {}, "", {})
        return lines.get(counter, empty)

    def _wait(self, reached: Any, timeout_s: float, what: str) -> None:
        def holds() -> bool:
            count = reached()
            self._progress(count, self._settings.vehicles)
            return bool(count >= self._settings.vehicles)

        if not self._events.wait(holds, timeout_s):
            raise BenchError(
                f"only {reached()} of {self._settings.vehicles} vehicles have {what} within {timeout_s:g} s;"
                " is the machine busy with something else?"
            )

    def _report(
        self,
        good: dict[str, Any],
        good_used: Used,
        bad: dict[str, Any],
        bad_used: Used,
        connecting_s: float,
        rss_bytes: int,
        cores: list[int],
    ) -> Report:
        settings = self._settings
        spreads = [("runs", good["runs"]), ("confirmed", good["confirmed"])]
        tables = [
            Table(
                f"a good release to {settings.vehicles} vehicles, s after it",
                ("vehicles", "50 %", "90 %", "100 %"),
                [(name, spread.half_s, spread.most_s, spread.all_s) for name, spread in spreads],
            ),
            Table(
                f"a bad one, which one in {settings.fails_each} puts back",
                ("", "value"),
                [
                    ("halted after, s", bad["halted_s"]),
                    ("all back on the good one after, s", bad["returned_s"]),
                    ("vehicles that ran it", float(bad["got_it"])),
                ],
            ),
            Table(
                "the cloud's process",
                ("part", "CPU s", "of s", "control p50 ms", "control p99 ms"),
                [
                    ("good", good_used.cpu_s, good_used.wall_s, *good_used.control_ms),
                    ("bad", bad_used.cpu_s, bad_used.wall_s, *bad_used.control_ms),
                ],
            ),
        ]
        targets = [
            Target(f"a release to all {settings.vehicles} vehicles, s", good["runs"].all_s, TARGET_S),
            Target("the bad release was halted, rollouts", float(bad["halted"]), 1.0, at_least=True),
        ]
        if len(settings.stages) > 1 and settings.vehicles >= ENOUGH_FAIL * settings.fails_each:
            reached = round(100 * bad["got_it"] / settings.vehicles, 1)
            limit = settings.stages[-2] + SLACK_PERCENT
            targets.append(Target("vehicles that got the bad release, % of all", reached, limit))
        notes = [
            f"stages of {', '.join(f'{percent:g} %' for percent in settings.stages)}, {settings.wait_s:g} s"
            f" each; models of {settings.model_bytes / 1e3:.0f} kB;"
            f" vehicles in {settings.processes} processes",
            f"the cloud's threads may use {len(cores) or 'all'} cores{f' ({cores})' if cores else ''};"
            " the vehicles use all, these among them",
            f"connecting took {connecting_s:.1f} s; the cloud held {rss_bytes / 1e6:.0f} MB at most",
            f"halted at stage {bad['stage']}: {bad['why']}",
            f"the bad release on its vehicles: {bad['outcomes']}",
            self._watched.to_text(),
        ]
        figures = {
            "vehicles": settings.vehicles,
            "stages_percent": list(settings.stages),
            "wait_s": settings.wait_s,
            "good": {name: _spread(spread) for name, spread in spreads},
            "bad": {key: value for key, value in bad.items() if key != "counter"},
            "cloud": {
                "cpu_s": {"good": good_used.cpu_s, "bad": bad_used.cpu_s},
                "wall_s": {"good": good_used.wall_s, "bad": bad_used.wall_s},
                "control_p99_ms": {"good": good_used.control_ms[1], "bad": bad_used.control_ms[1]},
                "peak_rss_bytes": rss_bytes,
                "cores": cores,
            },
            "connecting_s": round(connecting_s, 2),
            "machine_state": self._watched.to_json(),
        }
        return Report("fleet", figures, targets, tables, notes)


def _spread(spread: Spread) -> dict[str, float]:
    return {"p50_s": spread.half_s, "p90_s": spread.most_s, "p100_s": spread.all_s}
