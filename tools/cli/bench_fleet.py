"""`traffic-vision bench fleet`: many vehicles against one cloud process."""

from __future__ import annotations

import json
import sys

import click


@click.command("fleet")
@click.option("--vehicles", type=click.IntRange(2), default=500, show_default=True, help="How many.")
@click.option(
    "--processes", type=click.IntRange(1), default=4, show_default=True, help="That the vehicles run in."
)
@click.option(
    "--wait", "wait_s", type=click.FloatRange(0), default=5.0, show_default=True, help="Of a stage, s."
)
@click.option(
    "--fails-each",
    type=click.IntRange(2),
    default=50,
    show_default=True,
    help="One in so many puts the bad release back.",
)
@click.option("--model-kb", type=click.IntRange(1), default=200, show_default=True, help="Of a model, about.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(
    vehicles: int, processes: int, wait_s: float, fails_each: int, model_kb: int, as_json: bool
) -> None:
    """A staged release to simulated vehicles, and one that fails on some of them and is halted.

    Vehicles have real control streams, mutual TLS, TUF and slots; cameras and inference are simulated.
    """
    from tools.bench.fleet.run import FleetSettings, bench_fleet
    from tools.replay.progress import ProgressLine

    settings = FleetSettings(
        vehicles=vehicles,
        processes=min(processes, vehicles),
        wait_s=wait_s,
        fails_each=fails_each,
        model_bytes=1000 * model_kb,
    )
    with ProgressLine(sys.stderr, "vehicle") as progress:
        report = bench_fleet(settings, progress.show)
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report.to_text())
