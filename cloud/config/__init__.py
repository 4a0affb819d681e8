"""The cloud's configuration: one TOML file, read strictly.

A key that nobody knows, a value of the wrong type and a file that is not there are refused at start, in one
line. Paths in the file are relative to the folder that the file is in. Units stand in the names.
"""

from cloud.config.file import ConfigError, load_config
from cloud.config.gate import BehaviourConfig, GateConfig, GateRuleConfig, HardwareConfig
from cloud.config.labels import LabelsConfig, LabelStudioConfig, TeacherConfig
from cloud.config.purity import PurityConfig, PurityRule, PurityRules
from cloud.config.sections import (
    CloudConfig,
    DatasetConfig,
    FoldersConfig,
    LimitsConfig,
    LogConfig,
    OrchestrationConfig,
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
    "BehaviourConfig",
    "CloudConfig",
    "ConfigError",
    "DatasetConfig",
    "FoldersConfig",
    "GateConfig",
    "GateRuleConfig",
    "HardwareConfig",
    "HostPort",
    "LabelStudioConfig",
    "LabelsConfig",
    "LimitsConfig",
    "LogConfig",
    "OrchestrationConfig",
    "PurityConfig",
    "PurityRule",
    "PurityRules",
    "QuotasConfig",
    "ReleaseConfig",
    "RolloutConfig",
    "ServeConfig",
    "StageConfig",
    "StoreConfig",
    "TeacherConfig",
    "ThresholdsConfig",
    "TrainingConfig",
    "TriggerConfig",
    "load_config",
]
