"""The daemon's configuration: one TOML file, read strictly.

A key that nobody knows, a value of the wrong type and a file that is not there are refused at start, in one
line.
"""

from edge.config.file import ConfigError, load_cameras, load_config
from edge.config.sections import (
    CameraConfig,
    ClockConfig,
    CloudConfig,
    DiskConfig,
    DriftConfig,
    EdgeConfig,
    HttpConfig,
    LogConfig,
    ModelConfig,
    SamplerConfig,
    ServeConfig,
    SpoolConfig,
    TlsConfig,
    UpdatesConfig,
    VehicleStateConfig,
)
from edge.config.types import DEFAULT_ADDRESS

__all__ = [
    "DEFAULT_ADDRESS",
    "CameraConfig",
    "ClockConfig",
    "CloudConfig",
    "ConfigError",
    "DiskConfig",
    "DriftConfig",
    "EdgeConfig",
    "HttpConfig",
    "LogConfig",
    "ModelConfig",
    "SamplerConfig",
    "ServeConfig",
    "SpoolConfig",
    "TlsConfig",
    "UpdatesConfig",
    "VehicleStateConfig",
    "load_cameras",
    "load_config",
]
