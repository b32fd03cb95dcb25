"""Latency and computation of live conversion with each preset, and its distance from the conversion of whole files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from omegaconf import DictConfig

from rvc_lightning.audio.decode import load_audio
from rvc_lightning.audio.discovery import discover_audio
from rvc_lightning.config.options import Settings, option
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.lengths import PRESETS
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import unknown_choice
from rvc_lightning.evaluation.compare import Comparison, compare
from rvc_lightning.live.build import build_fabric
from rvc_lightning.live.engine import Engine
from rvc_lightning.live.options import Changes, LiveOptions
from rvc_lightning.retrieval.discovery import find_index
from rvc_lightning.training.trainer import build_converting_trainer, set_up_torch
from rvc_lightning.voice.voice import Voice

_STEP_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class LiveSettings(Settings, group="live"):
    """Voice and recordings."""

    voice: str = option(help="the voice, a .pth file")
    audio: str = option(help="recordings, one sentence each")
    clips: int = option(min=1)
    index_rate: float = option(min=0, max=1)
    presets: list[str] = option()


class LiveFigures(NamedTuple):
    """A row of the table."""

    latency_seconds: float
    block_seconds: float
    compute_seconds: list[float]
    comparisons: list[Comparison]


def run(config: DictConfig) -> str:
    """Measure live conversion; return a table in Markdown."""
    return as_table(measure(config))


def measure(config: DictConfig) -> dict[str, LiveFigures]:
    """Return the figures of each preset."""
    set_up_torch(config)
    settings = LiveSettings.from_values(config.live)
    voice, index = Path(settings.voice), find_index(Path(settings.voice))
    converter = VoiceConverter(Voice.load(voice), index, trainer=build_converting_trainer(config))
    options = ConversionOptions(index_rate=settings.index_rate)
    clips = [
        load_audio(Path(settings.audio) / path) for path in discover_audio(settings.audio).recordings[: settings.clips]
    ]
    wholes = [converter.convert(audio, options, rate)[0] for audio, rate in clips]
    results = {}
    for preset in settings.presets:
        if preset not in PRESETS:
            raise unknown_choice("preset", preset, PRESETS)
        lengths = PRESETS[preset]
        make = partial(
            Engine, lambda _: converter, Changes(options, LiveOptions(), str(voice)),
            lengths=lengths, fabric=build_fabric(config),
        )  # fmt: skip
        results[preset] = _measure(make, clips, wholes)
    return results


def _measure(
    make: partial[Engine], clips: Sequence[tuple[np.ndarray, int]], wholes: Sequence[np.ndarray]
) -> LiveFigures:
    """Convert clips as they would arrive, and compare them with the conversions of whole files."""
    seconds: list[float] = []
    comparisons = []
    for (audio, rate), whole in zip(clips, wholes, strict=True):
        engine = make(input_rate=rate)
        engine.warm_up()
        step = round(_STEP_SECONDS * rate)
        pieces = [engine.process(audio[start : start + step]) for start in range(0, len(audio), step)]
        live = np.concatenate([*pieces, engine.finish()])[round(engine.latency_seconds * engine.output_rate) :]
        comparisons.append(compare(live[: len(whole)], whole, engine.output_rate))
        seconds += engine.compute_seconds
    return LiveFigures(engine.latency_seconds, engine.lengths.block_seconds, seconds, comparisons)


def as_table(results: dict[str, LiveFigures]) -> str:
    """Format the figures in Markdown."""
    lines = [
        "| preset | latency | block | compute, median | compute, 99 % | mel distance | pitch correlation |",
        "|---|---|---|---|---|---|---|",
    ]
    for preset, row in results.items():
        shares = [float(np.percentile(row.compute_seconds, share)) / row.block_seconds for share in (50, 99)]
        mel = np.mean([one.mel_distance_db for one in row.comparisons])
        pitch = [one.pitch_correlation for one in row.comparisons if one.pitch_correlation is not None]
        lines.append(
            f"| {preset} | {1000 * row.latency_seconds:.0f} ms | {1000 * row.block_seconds:.0f} ms "
            f"| {shares[0]:.2f} | {shares[1]:.2f} | {mel:.1f} dB | {np.mean(pitch) if pitch else np.nan:.3f} |"
        )
    return "\n".join(lines)
