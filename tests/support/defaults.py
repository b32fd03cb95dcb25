"""Settings with the defaults of the shipped configuration, for tests that build components in Python."""

from pathlib import Path

from omegaconf import OmegaConf

import rvc_lightning
from rvc_lightning.data.datamodule import RVCDataModule
from rvc_lightning.data.features import ExtractionConfig
from rvc_lightning.data.recipe import Recipe
from rvc_lightning.data.selection import SelectionConfig
from rvc_lightning.data.slicing import SlicingConfig
from rvc_lightning.retrieval.index import IndexConfig

CONF = Path(rvc_lightning.__file__).parents[1] / "conf"


def shipped(group, name="default"):
    """Return the values of a configuration file."""
    return OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))


def make_index_config(**changes):
    return IndexConfig.from_values(OmegaConf.to_container(OmegaConf.load(CONF / "indexing.yaml")) | changes)


def make_slicing(**changes):
    return SlicingConfig.from_values(shipped("slicing", "automatic") | changes)


def make_extraction(**changes):
    batches = {name: shipped("preparation")[name] for name in ("batch_seconds", "batch_slices")}
    return ExtractionConfig.from_values(batches | {"num_workers": 0} | changes)


def make_recipe(**changes):
    """Return a recipe whose pitch and content need no download."""
    settings = {"sample_rate": 24000, "pitch": {"name": "swift_f0"}, "content": {"name": "spectral"}}
    selection = SelectionConfig(speakers="numbered")
    return Recipe(**settings | {"slicing": make_slicing(), "selection": selection} | changes)


def make_data(folder, **changes):
    settings = {"segment_frames": 36, "accumulate_grad_batches": 1, "seed": 0, "num_workers": 0}
    values = shipped("data") | settings | changes
    return RVCDataModule(folder, **{name: values[name] for name in values if name not in ("_target_", "folder")})
