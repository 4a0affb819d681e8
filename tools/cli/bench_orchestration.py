"""`traffic-vision bench orchestration`: one retrain by the embedded runner and on Airflow."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command("orchestration")
@click.option(
    "--airflow",
    type=click.Path(path_type=Path),
    default=Path(".venv-airflow/bin/airflow"),
    show_default=True,
    help="Airflow's command, as `make setup-airflow` installs it.",
)
@click.option("--rounds", type=click.IntRange(1), default=2, show_default=True, help="Retrains each way.")
@click.option("--samples", type=click.IntRange(12), default=24, show_default=True, help="Of each retrain.")
@click.option("--epochs", type=click.IntRange(1), default=3, show_default=True, help="Of its training.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(airflow: Path, rounds: int, samples: int, epochs: int, as_json: bool) -> None:
    """The same small retrain by the embedded runner and on Airflow, in turns: time and memory.

    Memory is that of all their processes, the stages' among them, pages that they share counted once.
    """
    from tools.bench.orchestration.run import bench_orchestration
    from tools.bench.orchestration.setting import Work
    from tools.replay.progress import ProgressLine

    with ProgressLine(sys.stderr, "retrain") as progress:
        report = bench_orchestration(airflow, rounds, Work(samples=samples, epochs=epochs), progress.show)
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report.to_text())
