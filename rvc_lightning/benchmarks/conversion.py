"""How fast recordings are converted, one by one and together: random weights of full size, which change no work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig
from transformers import HubertConfig, HubertModel

from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.config.values import plain
from rvc_lightning.content import build_content_encoder
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.tasks import Throughput
from rvc_lightning.models import Synthesizer, SynthesizerConfig
from rvc_lightning.pitch import build_pitch_extractor
from rvc_lightning.retrieval.index import RetrievalIndex, build_index
from rvc_lightning.training.trainer import build_converting_trainer, set_up_torch
from rvc_lightning.voice.voice import Voice


class Clips(NamedTuple):
    """What is converted."""

    number: int
    """How many."""
    seconds: float
    """Length of each."""

    def draw(self, seed: int) -> list[np.ndarray]:
        """Glides with noise, float32 at 16 kHz, each of another pitch."""
        time = np.arange(round(self.seconds * SAMPLE_RATE)) / SAMPLE_RATE
        noise = np.random.default_rng(seed)
        glides = [np.sin(2 * np.pi * (120 + 7 * step + 9 * time) * time) for step in range(self.number)]
        return [(0.3 * glide + 0.01 * noise.standard_normal(len(time))).astype(np.float32) for glide in glides]


def clips_of(config: DictConfig) -> Clips:
    """Those that the configuration asks for."""
    return Clips(config.conversion.clips, config.conversion.seconds)


def run_table(config: DictConfig) -> dict[str, list[float]]:
    """Seconds that all clips take, one by one and together, in each round; the two take turns."""
    set_up_torch(config)
    converter, clips = _random_converter(config), clips_of(config).draw(config.seed)
    ways: dict[str, Callable[[], Any]] = {
        "one by one": lambda: [converter.convert(clip, sample_rate=SAMPLE_RATE) for clip in clips],
        "together": lambda: converter.convert_many(clips, sample_rate=SAMPLE_RATE),
    }
    # What is done once, such as choosing kernels, does not count.
    converter.convert(clips[0], sample_rate=SAMPLE_RATE)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(config.rounds):
        for name, convert in ways.items():
            started = perf_counter()
            convert()
            seconds[name].append(perf_counter() - started)
    return seconds


def as_table(seconds: Mapping[str, Sequence[float]], clips: Clips) -> str:
    """The medians in Markdown."""
    base = median(seconds["one by one"])
    lines = ["| conversion | clips | s each | s/audio-s | audio-s/s | x one by one |", "|---|---|---|---|---|---|"]
    for name, values in seconds.items():
        share = median(values) / (clips.number * clips.seconds)
        lines.append(
            f"| {name} | {clips.number} | {clips.seconds:g} | {share:.3f} | {1 / share:.2f} "
            f"| {base / median(values):.2f} |"
        )
    return "\n".join(lines)


def _random_converter(config: DictConfig) -> VoiceConverter:
    """With a voice and an encoder of the configured sizes, and an index of so many rows."""
    sizes = SynthesizerConfig.from_values(plain(config.model)["synthesizer"] | {"content_dim": config.content_dim})
    torch.manual_seed(config.seed)
    voice = Voice.from_synthesizer(sizes, Synthesizer(sizes).state_dict(), {})
    n_rows = config.conversion.index_rows
    rows = np.random.default_rng(config.seed).standard_normal((n_rows, sizes.content_dim), np.float32)
    with TemporaryDirectory() as folder:
        HubertModel(HubertConfig(**plain(config.encoder))).save_pretrained(Path(folder))
        content = build_content_encoder("hubert", path=folder)
    return VoiceConverter(
        voice,
        RetrievalIndex(build_index(rows, config.seed)) if n_rows else None,
        content=content,
        pitch=build_pitch_extractor(**plain(config.pitch)),
        trainer=build_converting_trainer(config),
        throughput=Throughput(config.conversion.batch_seconds),
    )
