"""Command-line overrides of `train` for networks of given sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from importlib.resources import files
from typing import Any

from omegaconf import OmegaConf
from torch import Tensor

from rvc_lightning.cli.overrides import format_override
from rvc_lightning.config.values import plain
from rvc_lightning.models import Discriminator, DiscriminatorConfig, SynthesizerConfig
from rvc_lightning.models.layers import build_on_meta
from rvc_lightning.models.states import state_difference

_NOT_IN_MODEL = ("generator", "content_dim", "speaker_count")
"""Sizes that other groups or the dataset determine."""


def synthesizer_overrides(sizes: SynthesizerConfig) -> list[str]:
    """Return the overrides for a synthesizer of these sizes: sample rate, generator and every other difference."""
    values, overrides = asdict(sizes), [f"generator={sizes.generator}"]
    defaults = dict(config_choices("model"))["full"]["synthesizer"]
    for name, choice in config_choices("sample_rate"):
        rate_values = choice["synthesizer"]
        if all(values[key] == value for key, value in rate_values.items()):
            overrides.insert(0, f"sample_rate={name}")
            defaults |= rate_values
            break
    changed = {key: value for key, value in values.items() if key not in _NOT_IN_MODEL and key not in defaults}
    changed |= {key: values[key] for key, value in defaults.items() if values[key] != value}
    return overrides + [format_override(f"model.synthesizer.{key}", value) for key, value in changed.items()]


def discriminator_choice(weights: Mapping[str, Tensor]) -> str | None:
    """Return the choice of `discriminator=` with these tensors; None if no choice has them.

    Args:
        weights: State dict of a discriminator.
    """
    for name, values in config_choices("discriminator"):
        sizes = DiscriminatorConfig.from_values(values)
        if not state_difference(build_on_meta(partial(Discriminator, sizes)).state_dict(), weights):
            return name
    return None


def config_choices(group: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the names and values of a configuration group."""
    paths = sorted((files("rvc_lightning.conf") / group).iterdir(), key=lambda path: path.name)
    choices: dict[str, Any] = {
        path.name: OmegaConf.create(path.read_text(encoding="utf-8")) for path in paths if path.name.endswith(".yaml")
    }
    return [(name.removesuffix(".yaml"), plain(node)) for name, node in choices.items()]
