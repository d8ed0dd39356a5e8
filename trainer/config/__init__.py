"""Every setting of a training run: YAML by `--config FILE`, single values by dotted options.

An unknown name is an error. What a run was given is saved as `config.yaml` in its folder.
"""

from trainer.config.checks import check, from_dict
from trainer.config.command import parse, parser, save_config, saved_config
from trainer.config.settings import (
    DEMO_TRAIN,
    FIXED_ON_RESUME,
    SETTINGS,
    Config,
    Data,
    Loss,
    Model,
    Options,
    Run,
    Train,
)

__all__ = [
    "DEMO_TRAIN",
    "FIXED_ON_RESUME",
    "SETTINGS",
    "Config",
    "Data",
    "Loss",
    "Model",
    "Options",
    "Run",
    "Train",
    "check",
    "from_dict",
    "parse",
    "parser",
    "save_config",
    "saved_config",
]
