"""Overrides of the commands that the page runs, checked before they start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.initialize import initialize_config_module
from omegaconf import DictConfig, OmegaConf

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import COMPOSITION_ERRORS, explain_error
from rvc_lightning.cli.help_page import choices_of, explanations
from rvc_lightning.cli.overrides import format_override, is_number_like
from rvc_lightning.conversion import options as conversion_options
from rvc_lightning.training.networks import check_networks
from rvc_lightning.training.trainer import TrainerSettings

resolvers.register()
conversion_options.register()

EXPERIMENTS = ("quickstart", "voice", "refinegan")
"""Experiments that train a voice from recordings, the fastest first."""

DATASET_GROUPS = ("sample_rate", "slicing", "pitch", "content")
"""Groups that a dataset depends on."""

GROUPS = ("sample_rate", "pitch", "pretrained", "precision")
"""Groups that the page offers for a training."""
SETTINGS = (
    "author",
    "trainer.max_time",
    "trainer.max_epochs",
    "data.batch_size",
    "data.step_slices",
    "model.accumulate_grad_batches",
    "model.crop_frames",
    "optimizer.lr",
    "data.held_out",
    "callbacks.last.every_minutes",
    "callbacks.overtraining.action",
    "trainer.accelerator",
    "seed",
)
"""Settings that the page offers for a training."""

_WITH_FILES = (("pretrained", "files"), ("content", "hubert"))
"""Choices that require the path of a file or folder."""

# Hydra composes with state of the process.
_lock = Lock()


@dataclass(frozen=True)
class Setting:
    """A setting of a training as the page shows it.

    Attributes:
        name: Name on the command line.
        value: Current value as text.
        help: Comment of its YAML file.
        choices: Choices of a group; empty for a value.
        is_used: Whether the experiment has what it belongs to, such as a callback.
    """

    name: str
    value: str
    help: str
    choices: tuple[str, ...] = ()
    is_used: bool = True


def composed(command: str, overrides: Sequence[str]) -> DictConfig:
    """Return the configuration of a command with Hydra's own part.

    Raises:
        RVCError: An override is wrong; the message is that of the command.
    """
    try:
        with _lock:
            if not GlobalHydra.instance().is_initialized():
                with initialize_config_module("rvc_lightning.conf", version_base="1.3"):
                    return compose(command, overrides=list(overrides), return_hydra_config=True)
            return compose(command, overrides=list(overrides), return_hydra_config=True)
    except COMPOSITION_ERRORS as error:
        raise explain_error(error) from error


def checked_training(overrides: Sequence[str]) -> DictConfig:
    """Compose a training, and check what needs neither recordings nor weights. Raises ConfigurationError."""
    config = composed("train", overrides)
    TrainerSettings.from_config(config.trainer)
    check_networks(config)
    return config


@cache
def settings_of(experiment: str, search_path: tuple[str, ...] = ()) -> dict[str, Setting]:
    """Return the groups and settings that the page offers, with the values of an experiment.

    Args:
        experiment: Name of its file.
        search_path: Override that makes Hydra search another folder for it.
    """
    config = composed("train", [*search_path, f"+experiment={experiment}", "audio=recordings"])
    choices = config.hydra.runtime.choices
    helps = explanations("train", SETTINGS, choices)
    groups = {name: Setting(name, str(choices[name]), helps.get(name, ""), group_choices(name)) for name in GROUPS}
    values = {name: _setting(config, name, helps.get(name, "")) for name in SETTINGS}
    return groups | values


def _setting(config: DictConfig, name: str, help_text: str) -> Setting:
    group = name.rpartition(".")[0]
    is_used = not group or OmegaConf.select(config, group) is not None
    return Setting(name, _shown(OmegaConf.select(config, name)), help_text, is_used=is_used)


def group_choices(group: str) -> tuple[str, ...]:
    """Return the choices of a group without those that require a file of the server."""
    return tuple(name for name in choices_of(group) if (group, name) not in _WITH_FILES)


def dataset_overrides(experiment: str) -> list[str]:
    """Return the overrides of `prepare` for a dataset that an experiment can train on."""
    wanted = composed("train", [f"+experiment={experiment}"]).hydra.runtime.choices
    default = composed("prepare", []).hydra.runtime.choices
    return [f"{group}={wanted[group]}" for group in DATASET_GROUPS if wanted[group] != default[group]]


def typed_override(name: str, text: str) -> str:
    """Return the override for a value as typed into a text field, as on a command line."""
    return f"{name}={text}" if is_number_like(text) else format_override(name, text)


def _shown(value: Any) -> str:
    return "" if value is None else str(value)
