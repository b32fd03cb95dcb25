"""Latency and computation of live conversion with each preset, and its distance from the conversion of whole files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from omegaconf import DictConfig

from rvc_lightning.audio.decode import load_audio, resample
from rvc_lightning.audio.discovery import discover_audio
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.config.options import Settings, option
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.lengths import PRESETS
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import unknown_choice
from rvc_lightning.evaluation.compare import Comparison, compare
from rvc_lightning.evaluation.metrics import OPTIONAL_METRICS, MetricSuite, build_metrics
from rvc_lightning.evaluation.phones import phone_error_rate
from rvc_lightning.live.build import stream_fabrics
from rvc_lightning.live.engine import Engine
from rvc_lightning.live.options import Changes, LiveOptions
from rvc_lightning.retrieval.discovery import find_index
from rvc_lightning.training.trainer import build_converting_trainer, set_up_torch
from rvc_lightning.voice.onnx_voice import open_voice

_STEP_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class LiveSettings(Settings, group="live"):
    """Voice and recordings."""

    voice: str = option(help="the voice, a .pth file")
    audio: str = option(help="recordings, one sentence each")
    clips: int = option(min=1)
    index_rate: float = option(min=0, max=1)
    presets: list[str] = option()
    compile: bool


class ClipScores(NamedTuple):
    """Scores of a conversion by the optional metrics of `evaluation`; None if the package of a metric is missing."""

    mos: float | None
    """Estimated mean opinion score, 1 to 5."""
    speaker: float | None
    """Speaker similarity to the conversion of the whole file, -1 to 1."""
    phone_error: float | None
    """Phone error rate with respect to the source."""


class LiveFigures(NamedTuple):
    """A row of the table."""

    latency_seconds: float
    block_seconds: float
    compute_seconds: list[float]
    comparisons: list[Comparison]
    scores: list[ClipScores]


def run(config: DictConfig) -> str:
    """Measure live conversion; return a table in Markdown."""
    return as_table(*measure(config))


def measure(config: DictConfig) -> tuple[dict[str, LiveFigures], list[ClipScores]]:
    """Return the figures of each preset, and the scores of the conversions of whole files."""
    set_up_torch(config)
    settings = LiveSettings.from_values(config.live)
    voice, index = Path(settings.voice), find_index(Path(settings.voice))

    def load() -> VoiceConverter:
        return VoiceConverter(open_voice(voice), index, trainer=build_converting_trainer(config))

    converter, live_converter = load(), load()
    if settings.compile:
        live_converter.inference.compile_networks()
    options = ConversionOptions(index_rate=settings.index_rate)
    clips = [
        load_audio(Path(settings.audio) / path) for path in discover_audio(settings.audio).recordings[: settings.clips]
    ]
    rate = converter.voice.sample_rate
    wholes = [converter.convert(audio, options, source_rate)[0] for audio, source_rate in clips]
    scorer = _Scorer(build_metrics(tuple(OPTIONAL_METRICS)), clips, wholes, rate)
    figures = {}
    for preset in settings.presets:
        if preset not in PRESETS:
            raise unknown_choice("live.presets", preset, PRESETS)
        make = partial(
            Engine, lambda _: live_converter, Changes(options, LiveOptions(), str(voice)),
            lengths=PRESETS[preset], fabrics=stream_fabrics(config),
        )  # fmt: skip
        engines, lives = zip(*(_convert(make, *clip) for clip in clips), strict=True)
        lives = [live[: len(whole)] for live, whole in zip(lives, wholes, strict=True)]
        figures[preset] = LiveFigures(
            engines[0].latency_seconds,
            engines[0].lengths.block_seconds,
            [seconds for engine in engines for seconds in engine.compute_seconds],
            [compare(live, whole, rate) for live, whole in zip(lives, wholes, strict=True)],
            scorer.score(lives),
        )
    return figures, scorer.score(wholes)


def _convert(make: partial[Engine], audio: np.ndarray, rate: int) -> tuple[Engine, np.ndarray]:
    """Convert a clip in steps, as it would arrive; return the engine, and the output without the latency."""
    engine = make(input_rate=rate)
    engine.warm_up()
    step = round(_STEP_SECONDS * rate)
    pieces = [engine.process(audio[start : start + step]) for start in range(0, len(audio), step)]
    output = np.concatenate([*pieces, engine.finish()])
    return engine, output[round(engine.latency_seconds * engine.output_rate) :]


class _Scorer:
    """Scores conversions of the same clips."""

    def __init__(
        self,
        metrics: MetricSuite,
        sources: Sequence[tuple[np.ndarray, int]],
        wholes: Sequence[np.ndarray],
        sample_rate: int,
    ) -> None:
        self._metrics, self._rate = metrics, sample_rate
        words, speaker = metrics.words, metrics.speaker
        self._phones = [
            words.transcribe(resample(audio, rate, SAMPLE_RATE)) if words else [] for audio, rate in sources
        ]
        self._embeddings = [speaker.embed(self._at_16k(whole)) if speaker else None for whole in wholes]

    def score(self, conversions: Sequence[np.ndarray]) -> list[ClipScores]:
        """Return the scores of each conversion [N]."""
        return [self._score_clip(self._at_16k(audio), number) for number, audio in enumerate(conversions)]

    def _score_clip(self, wav16k: np.ndarray, number: int) -> ClipScores:
        metrics, embedding = self._metrics, self._embeddings[number]
        return ClipScores(
            metrics.quality.estimate(wav16k).overall if metrics.quality else None,
            float(metrics.speaker.embed(wav16k) @ embedding) if metrics.speaker and embedding is not None else None,
            phone_error_rate(metrics.words.transcribe(wav16k), self._phones[number]) if metrics.words else None,
        )

    def _at_16k(self, audio: np.ndarray) -> np.ndarray:
        return resample(audio, self._rate, SAMPLE_RATE)


def as_table(figures: dict[str, LiveFigures], wholes: list[ClipScores]) -> str:
    """Format the figures in Markdown."""
    lines = [
        "| preset | latency | block | compute, median | compute, 99 % | mel distance | pitch correlation | MOS "
        "| speaker | phone error |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for preset, row in figures.items():
        shares = [float(np.percentile(row.compute_seconds, share)) / row.block_seconds for share in (50, 99)]
        mel = np.mean([comparison.mel_distance_db for comparison in row.comparisons])
        cells = [
            preset, f"{1000 * row.latency_seconds:.0f} ms", f"{1000 * row.block_seconds:.0f} ms",
            *(f"{share:.2f}" for share in shares), f"{mel:.1f} dB",
            _mean(comparison.pitch_correlation for comparison in row.comparisons), *_score_cells(row.scores),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(f"| {' | '.join(['whole files', *['-'] * 6, *_score_cells(wholes)])} |")
    return "\n".join(lines)


def _score_cells(clips: list[ClipScores]) -> list[str]:
    return [_mean(values) for values in zip(*clips, strict=True)]


def _mean(values: Iterable[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    return f"{np.mean(numbers):.3f}" if numbers else "-"
