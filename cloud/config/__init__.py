"""The cloud's configuration: one TOML file, read strictly.

A key that nobody knows, a value of the wrong type and a file that is not there are refused at start, in one
line. Paths in the file are relative to the folder that the file is in. Units stand in the names.
"""

from cloud.config.file import ConfigError, load_config
from cloud.config.sections import (
    CloudConfig,
    DatasetConfig,
    FoldersConfig,
    GateConfig,
    LabelsConfig,
    LimitsConfig,
    LogConfig,
    PurityConfig,
    QuotasConfig,
    ReleaseConfig,
    RolloutConfig,
    ServeConfig,
    StageConfig,
    StoreConfig,
    ThresholdsConfig,
    TrainingConfig,
    TriggerConfig,
)
from cloud.config.types import DEFAULT_LISTEN, HostPort

__all__ = [
    "DEFAULT_LISTEN",
    "CloudConfig",
    "ConfigError",
    "DatasetConfig",
    "FoldersConfig",
    "GateConfig",
    "HostPort",
    "LabelsConfig",
    "LimitsConfig",
    "LogConfig",
    "PurityConfig",
    "QuotasConfig",
    "ReleaseConfig",
    "RolloutConfig",
    "ServeConfig",
    "StageConfig",
    "StoreConfig",
    "ThresholdsConfig",
    "TrainingConfig",
    "TriggerConfig",
    "load_config",
]
