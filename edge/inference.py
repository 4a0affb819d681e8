"""How the daemon runs its models, by its configuration."""

from __future__ import annotations

from edge.config import EdgeConfig
from edge.perception.detector import DetectorOptions

ENGINES = "engines"  # the folder in the state folder where built engines are kept


def detector_options(config: EdgeConfig) -> DetectorOptions:
    """The options of every model that drives, is checked, or runs in shadow."""
    model = config.model
    builds = any("tensorrt" in name.lower() for name in model.providers)
    cache = config.state_folder / ENGINES if builds and model.engine_cache else None
    return DetectorOptions(providers=model.providers, threads=model.threads, engine_cache=cache)
