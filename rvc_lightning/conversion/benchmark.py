"""How fast recordings are converted, one by one and together: random weights of full size, which change no work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import Trainer
from transformers import HubertConfig, HubertModel

from rvc_lightning.content import build_content_encoder
from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.prediction import Throughput
from rvc_lightning.frames import SAMPLE_RATE
from rvc_lightning.models import Synthesizer, SynthesizerConfig
from rvc_lightning.pitch.base import PitchTracker
from rvc_lightning.retrieval import RetrievalIndex, build_index
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


def random_converter(
    config: SynthesizerConfig, pitch: PitchTracker, trainer: Trainer, throughput: Throughput, index_rows: int
) -> VoiceConverter:
    """A converter with a voice of these sizes, an encoder of the size of HuBERT base and an index of so many rows."""
    voice = Voice.from_synthesizer(config, Synthesizer(config).state_dict(), {})
    rows = np.random.default_rng(0).standard_normal((index_rows, config.content_dim), np.float32)
    index = RetrievalIndex(build_index(rows, 0)) if index_rows else None
    content = _random_encoder()
    return VoiceConverter(voice, index, content=content, pitch=pitch, trainer=trainer, throughput=throughput)


def measure(converter: VoiceConverter, clips: Clips, rounds: int, seed: int) -> str:
    """Converts the clips one by one and together, in turns; gives a table in Markdown, of medians."""
    sources = clips.draw(seed)
    ways: dict[str, Callable[[], Any]] = {
        "one by one": lambda: [converter.convert(source, sample_rate=SAMPLE_RATE) for source in sources],
        "together": lambda: converter.convert_many(sources, sample_rate=SAMPLE_RATE),
    }
    # What is done once, such as choosing kernels, does not count.
    converter.convert(sources[0], sample_rate=SAMPLE_RATE)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, convert in ways.items():
            started = perf_counter()
            convert()
            seconds[name].append(perf_counter() - started)
    return _table(seconds, clips)


def _table(seconds: dict[str, Sequence[float]] | dict[str, list[float]], clips: Clips) -> str:
    base = median(seconds["one by one"])
    lines = ["| conversion | clips | s each | s/audio-s | audio-s/s | x one by one |", "|---|---|---|---|---|---|"]
    for name, values in seconds.items():
        share = median(values) / (clips.number * clips.seconds)
        lines.append(
            f"| {name} | {clips.number} | {clips.seconds:g} | {share:.3f} | {1 / share:.2f} "
            f"| {base / median(values):.2f} |"
        )
    return "\n".join(lines)


def _random_encoder() -> ContentEncoder:
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        HubertModel(HubertConfig()).save_pretrained(Path(folder))
        return build_content_encoder("hubert", path=folder)
