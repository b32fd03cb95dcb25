"""Build the engine from the configuration of a command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lightning import Fabric
from omegaconf import DictConfig, OmegaConf

from rvc_lightning.conversion.converter import VoiceConverter, check_precision
from rvc_lightning.conversion.lengths import BlockSettings
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.conversion.voice_settings import VoiceSettings
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.live.engine import Engine
from rvc_lightning.live.options import Changes, LiveOptions
from rvc_lightning.pitch import chosen_pitch
from rvc_lightning.training.trainer import build_fabric, set_up_torch
from rvc_lightning.voice.onnx_voice import open_voice


@dataclass(frozen=True, kw_only=True)
class EngineSettings(VoiceSettings):
    """Files of an engine, and whether its networks are compiled, as in `conf/live.yaml`."""

    record_input: str | None
    record_output: str | None
    compile: bool


def changes_from(config: Mapping[str, Any]) -> Changes:
    """Return the options among the settings of a command. Raises ConfigurationError as `Changes`."""
    files = EngineSettings.from_config(config)
    return Changes(
        ConversionOptions.from_config(config),
        LiveOptions.from_config(config),
        voice=files.voice,
        record_input=files.record_input,
        record_output=files.record_output,
    )


def build_engine(
    settings: Mapping[str, Any],
    input_rate: int,
    output_rate: int | None = None,
    values: Mapping[str, Any] | None = None,
) -> Engine:
    """Build the engine in the process that runs it.

    Args:
        settings: Settings of a command, as plain values.
        input_rate: Sampling rate of the input in Hz.
        output_rate: Sampling rate of the output in Hz; None for that of the voice.
        values: Options that replace those of the settings, as in `Engine.change`.

    Raises:
        RVCError: A setting is invalid, or the voice cannot be loaded.
    """
    config, files = OmegaConf.create(dict(settings)), EngineSettings.from_config(settings)
    set_up_torch(config)

    def load(path: str) -> VoiceConverter:
        chosen = replace(files, voice=path, index=files.index if path == files.voice else None)
        converter = VoiceConverter(
            open_voice(path),
            chosen.index_path(),
            content_path=files.content_path,
            pitch=chosen_pitch(config.get("pitch")),
        )
        if files.compile:
            converter.inference.compile_networks()
        return converter

    return Engine(
        load,
        changes_from(settings).merged(values or {}),
        input_rate=input_rate,
        output_rate=output_rate,
        lengths=BlockSettings.from_config(settings).lengths(),
        fabrics=stream_fabrics(config),
    )


def stream_fabrics(config: DictConfig) -> list[Fabric]:
    """Return the device in the configured precision, and in float32, which is faster for some voices.

    Raises:
        ConfigurationError: Lightning has no such device or precision, or there are several devices.
    """
    # The group `precision` is shared with training, where it belongs to the trainer.
    check_precision(config.trainer.precision)
    precisions = dict.fromkeys((config.trainer.precision, "32-true"))
    fabrics = [build_fabric(config, precision=precision) for precision in precisions]
    if fabrics[0].world_size > 1:
        raise ConfigurationError(f"trainer.devices={config.trainer.devices}: a stream is converted on one device")
    return fabrics
