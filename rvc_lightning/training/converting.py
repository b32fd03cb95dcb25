"""Build the converter of a command from its configuration."""

from __future__ import annotations

from omegaconf import DictConfig

from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.lengths import ChunkLengths
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.conversion.tasks import Throughput
from rvc_lightning.conversion.voice_settings import VoiceSettings
from rvc_lightning.pitch import chosen_pitch
from rvc_lightning.training.trainer import build_converting_trainer, set_up_torch
from rvc_lightning.voice.onnx_voice import open_voice


def build_converter(config: DictConfig, settings: VoiceSettings, options: ConversionOptions) -> VoiceConverter:
    """Load the voice and its index, and return a converter with the device and the lengths of the configuration.

    Raises:
        RVCError: A setting is invalid, or the voice cannot be loaded.
    """
    set_up_torch(config)
    return VoiceConverter(
        open_voice(settings.voice),
        settings.index_path() if options.index_rate else None,
        content_path=settings.content_path,
        pitch=chosen_pitch(config.get("pitch")),
        trainer=build_converting_trainer(config),
        lengths=ChunkLengths.from_values(config.chunks),
        throughput=Throughput.from_config(config),
    )
