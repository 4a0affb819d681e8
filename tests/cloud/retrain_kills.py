"""Run by test_pipeline_kills.py in a process of its own: does a stage, and dies by SIGKILL on the way.

Arguments: the cloud's cloud.toml, the stage, the run's id, and where to die: `FACT=VALUE` of a progress
event, or `MODULE:NAME`, a function that is not come back from. With `configured` after them, the labelling
services are those of cloud.toml.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from cloud.config import load_config
from cloud.pipeline.job import StageEvent
from cloud.pipeline.opening import opened
from cloud.pipeline.running import run_stage
from tests.retrains import Scripted


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(config: str, stage: str, run_id: str, where: str, services: str = "scripted") -> None:
    fact, _, value = where.partition("=")

    def listen(event: StageEvent) -> None:
        if fact in event.facts and str(event.facts[fact]) == value:
            die()

    if ":" in where:
        module, _, name = where.partition(":")
        place = importlib.import_module(module)
        owner, _, attribute = name.rpartition(".")
        target: Any = getattr(place, owner) if owner else place
        before = getattr(target, attribute)

        def deadly(*arguments: Any, **options: Any) -> None:
            before(*arguments, **options)
            die()

        setattr(target, attribute, deadly)
    source = None if services == "configured" else Scripted({})
    with opened(load_config(Path(config)), listen, source) as pipeline:
        run_stage(pipeline, stage, run_id)


if __name__ == "__main__":
    main(*sys.argv[1:])
