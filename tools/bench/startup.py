"""`bench cli`: how long the command line takes to answer, in fresh processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.bench.report import Report, Table, Target
from tools.bench.rounds import BenchError, Spread, interleave

TARGET_S = 0.5
FLOOR, HELP = "python -c pass", "traffic-vision --help"


def bench_startup(rounds: int, progress: Callable[[int, int], None] = lambda done, of: None) -> Report:
    """Time `traffic-vision --help` beside an interpreter that does nothing.

    Args:
        rounds: how often.
        progress: told how many rounds are done.

    Raises:
        BenchError: fewer than one round, or the command fails.
    """
    script = Path(sys.executable).with_name("traffic-vision")
    in_python = [sys.executable, "-c", "from tools.cli import main; main()"]
    command = [str(script)] if script.is_file() else in_python
    commands = {
        FLOOR: [sys.executable, "-c", "pass"],
        HELP: [*command, "--help"],
        "traffic-vision replay --help": [*command, "replay", "--help"],
    }
    starts = {name: _start(words) for name, words in commands.items()}
    times = interleave(starts, rounds, warm_up=1, progress=progress)
    spreads = {name: Spread.of(spent) for name, spent in times.items()}
    floor = spreads[FLOOR].p50
    figures = {
        "rounds": rounds,
        "commands": {
            name: {**spread.to_json("ms"), "p50_ratio_to_floor": round(spread.p50 / floor, 4)}
            for name, spread in spreads.items()
        },
    }
    rows = [(name, s.min, s.p50, s.p99, s.p50 / floor) for name, s in spreads.items()]
    return Report(
        bench="cli",
        figures=figures,
        targets=[Target(f"{HELP}, p50 s", round(spreads[HELP].p50 / 1e3, 4), TARGET_S)],
        tables=[Table(f"fresh processes, {rounds} rounds", ("ms", "min", "p50", "p99", "ratio"), rows)],
    )


def _start(command: Sequence[str]) -> Callable[[int], object]:
    def run(number: int) -> object:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise BenchError(f"{' '.join(command)} failed: {done.stderr.strip()[-300:]}")
        return None

    return run
