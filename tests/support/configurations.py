"""Compose configurations for tests."""

from pathlib import Path

from hydra import compose, initialize_config_module

import rvc_lightning
from rvc_lightning.cli import resolvers
from rvc_lightning.conversion import options as conversion_options
from rvc_lightning.data.manifest import DatasetHeader

resolvers.register()
conversion_options.register()


ROOT = Path(rvc_lightning.__file__).parents[1]
CONF = ROOT / "conf"
PARTS = ("console", "indexing", "quiet", "recordings", "run_folder")
"""Configurations that commands include."""
COMMANDS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem not in PARTS)
SMALL_DISCRIMINATOR = [
    f"model.discriminator.{name}={value}"
    for name, value in {
        "period_channels": "[2,2]",
        "scale_channels": "[1,1,1,1,1,1]",
        "scale_groups": "[1,1,1,1,1,1]",
        "resolution_channels": "[2,2,2,2,2]",
    }.items()
]


def compose_config(*overrides, command="train", run="unused"):
    """Compose the configuration of a command; `run` is the run folder of `train`."""
    if command == "train":
        overrides = (*overrides, f"paths.run={run}")
    with initialize_config_module("rvc_lightning.conf", version_base="1.3"):
        return compose(command, overrides=list(overrides))


def header_for(config, **changes):
    """Return the header of a dataset that fits a training configuration."""
    values = {"sample_rate": config.model.synthesizer.sample_rate, "pitch": {}, "content": {"dim": 768}}
    return DatasetHeader(**values | changes)
