"""Build the engine from the configuration of a command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Fabric
from omegaconf import DictConfig, OmegaConf

from rvc_lightning.config.options import option_fields
from rvc_lightning.config.values import instantiate, optional, plain
from rvc_lightning.conversion.converter import PRECISIONS, VoiceConverter
from rvc_lightning.conversion.options import options_from
from rvc_lightning.conversion.streaming import StreamLengths
from rvc_lightning.errors import ConfigurationError, unknown_choice
from rvc_lightning.live.engine import Engine
from rvc_lightning.live.options import Changes, LiveOptions
from rvc_lightning.pitch import chosen_pitch
from rvc_lightning.retrieval.discovery import find_index
from rvc_lightning.training.trainer import set_up_torch
from rvc_lightning.voice.voice import Voice


def changes_from(config: Mapping[str, Any]) -> Changes:
    """Return the options among the settings of a command. Raises ConfigurationError as `Changes`."""
    live = LiveOptions.from_values({one.name: config[one.name] for one in option_fields(LiveOptions)})
    files = {name: config[name] for name in ("voice", "record_input", "record_output")}
    return Changes(options_from(config), live).merged(files)


def settings_of(config: DictConfig) -> dict[str, Any]:
    """Return the settings of a command as plain values, which can be sent to another process."""
    return plain(config)


def build_engine(settings: Mapping[str, Any], input_rate: int, output_rate: int | None = None) -> Engine:
    """Build the engine in the process that runs it.

    Args:
        settings: Settings of a command, from `settings_of`.
        input_rate: Sampling rate of the input in Hz.
        output_rate: Sampling rate of the output in Hz; None for that of the voice.

    Raises:
        RVCError: A setting is invalid, or the voice cannot be loaded.
    """
    config = OmegaConf.create(dict(settings))
    set_up_torch(config)
    first = config.voice

    def load(path: str) -> VoiceConverter:
        chosen = optional(config, "index", "the voice's index, a file") if path == first else None
        return VoiceConverter(
            Voice.load(path),
            find_index(Path(path)) if chosen is None else chosen,
            content_path=optional(config, "content_path", "the folder of the content encoder"),
            pitch=chosen_pitch(config.get("pitch")),
        )

    return Engine(
        load,
        changes_from(config),
        input_rate=input_rate,
        output_rate=output_rate,
        lengths=StreamLengths.from_values(config.stream),
        fabric=build_fabric(config),
    )


def build_fabric(config: DictConfig) -> Fabric:
    """Return device and precision. Raises ConfigurationError for those that Lightning rejects."""
    # The group `precision` is shared with training, where it belongs to the trainer.
    chosen = {name: config.trainer[name] for name in ("accelerator", "devices", "precision")}
    if chosen["precision"] not in PRECISIONS:
        raise unknown_choice("precision", chosen["precision"], PRECISIONS)
    fabric = instantiate({"_target_": "lightning.Fabric", **chosen}, "trainer")
    if fabric.world_size > 1:
        raise ConfigurationError(f"trainer.devices={config.trainer.devices}: a stream is converted on one device")
    return fabric
