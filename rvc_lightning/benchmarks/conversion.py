"""Speed of conversion, recording by recording and batched, with full-size random weights: the values do not affect it.

The baseline converts like other RVC tools: each clip with one second of padding on either side, each network once over
all of it, in float32 and in the memory format of torch. It has the same networks, pitch extractor and index, but does
not measure or adjust levels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from transformers import HubertConfig, HubertModel

from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.config.options import Settings, option
from rvc_lightning.config.values import plain
from rvc_lightning.content import build_content_encoder
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.inference import Window
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.conversion.positional_noise import Position
from rvc_lightning.conversion.tasks import Throughput
from rvc_lightning.models import Synthesizer, SynthesizerConfig
from rvc_lightning.models.generators.hifigan import HiFiGAN
from rvc_lightning.pitch import build_pitch_extractor
from rvc_lightning.pitch.base import measure as measure_pitch
from rvc_lightning.retrieval.index import RetrievalIndex, build_index
from rvc_lightning.training.trainer import build_converting_trainer, build_fabric, set_up_torch
from rvc_lightning.voice.voice import Voice


@dataclass(frozen=True, kw_only=True)
class Clips(Settings, group="conversion"):
    """Recordings to convert."""

    clips: int = option(min=1)
    """Number of recordings."""
    seconds: float = option(min=0.1)
    """Length of each, in seconds."""
    index_rows: int = option(min=0)
    """Rows of the index; 0 for none."""
    batch_seconds: float = option(min=1)
    """Audio converted in one batch, in seconds."""

    def generate(self, seed: int) -> list[np.ndarray]:
        """Return frequency sweeps with noise, each with a different pitch, float32 at 16 kHz."""
        time = np.arange(round(self.seconds * SAMPLE_RATE)) / SAMPLE_RATE
        noise = np.random.default_rng(seed)
        sweeps = [np.sin(2 * np.pi * (120 + 7 * step + 9 * time) * time) for step in range(self.clips)]
        return [(0.3 * sweep + 0.01 * noise.standard_normal(len(time))).astype(np.float32) for sweep in sweeps]


def run(config: DictConfig) -> str:
    """Measure conversion; return a table in Markdown."""
    clips = Clips.from_values(config.conversion)
    return as_table(measure(config, clips), clips)


def measure(config: DictConfig, clips: Clips) -> dict[str, list[float]]:
    """Return the seconds of each round for all clips: the baseline, one by one and together, in alternation."""
    set_up_torch(config)
    converter, recordings = _random_converter(config, clips), clips.generate(config.seed)
    convert_baseline = _baseline(config, clips)
    ways: dict[str, Callable[[], Any]] = {
        "plain": lambda: [convert_baseline(clip) for clip in recordings],
        "one by one": lambda: [converter.convert(clip, sample_rate=SAMPLE_RATE) for clip in recordings],
        "together": lambda: converter.convert_many(recordings, sample_rate=SAMPLE_RATE),
    }
    # Warm up: one-time work such as kernel selection is not measured.
    converter.convert(recordings[0], sample_rate=SAMPLE_RATE)
    convert_baseline(recordings[0])
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(config.rounds):
        for name, convert in ways.items():
            started = perf_counter()
            convert()
            seconds[name].append(perf_counter() - started)
    return seconds


def as_table(seconds: Mapping[str, Sequence[float]], clips: Clips) -> str:
    """Format the medians in Markdown."""
    base = median(seconds["plain"])
    lines = ["| conversion | clips | s each | s/audio-s | audio-s/s | x plain |", "|---|---|---|---|---|---|"]
    for name, values in seconds.items():
        share = median(values) / (clips.clips * clips.seconds)
        lines.append(
            f"| {name} | {clips.clips} | {clips.seconds:g} | {share:.3f} | {1 / share:.2f} "
            f"| {base / median(values):.2f} |"
        )
    return "\n".join(lines)


def _baseline(config: DictConfig, clips: Clips) -> Callable[[np.ndarray], None]:
    """Return a function that converts a clip at 16 kHz [N] like other RVC tools, see the top of this module."""
    converter = _random_converter(config, clips)
    if isinstance(generator := converter.voice.synthesizer.generator, HiFiGAN):
        generator.block_frames = None
    inference = converter.inference.eval()
    build_fabric(config, precision="32-true").to_device(inference)

    def convert(clip: np.ndarray) -> None:
        padded = np.pad(clip, SAMPLE_RATE, mode="reflect")
        f0_hz = None if converter.pitch is None else measure_pitch(converter.pitch, padded)
        inference.convert([Window(padded, f0_hz, Position("", 0))], ConversionOptions(), converter.index)

    return convert


def _random_converter(config: DictConfig, clips: Clips) -> VoiceConverter:
    """Build a converter with a voice, an encoder and an index of the configured sizes."""
    sizes = SynthesizerConfig.from_values(plain(config.model)["synthesizer"] | {"content_dim": config.content_dim})
    torch.manual_seed(config.seed)
    voice = Voice.from_synthesizer(sizes, Synthesizer(sizes).state_dict(), {})
    rows = np.random.default_rng(config.seed).standard_normal((clips.index_rows, sizes.content_dim), np.float32)
    with TemporaryDirectory() as folder:
        HubertModel(HubertConfig(**plain(config.encoder))).save_pretrained(Path(folder))
        content = build_content_encoder("hubert", path=folder)
    return VoiceConverter(
        voice,
        RetrievalIndex(build_index(rows, config.seed)) if clips.index_rows else None,
        content=content,
        pitch=build_pitch_extractor(**plain(config.pitch)),
        trainer=build_converting_trainer(config),
        throughput=Throughput(clips.batch_seconds),
    )
