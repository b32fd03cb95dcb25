"""Processing of the converted audio before it is written, block by block.

    voice ─▶ clean_noise ─▶ tail ─▶ effects ─▶ output_sample_rate ─▶ clipped to full scale ─▶ cut to length

Stages that no option requests are left out.

Legend: N samples.
"""

from __future__ import annotations

import logging
import math

import numpy as np

from rvc_lightning.audio.denoise import Denoiser
from rvc_lightning.audio.stages import Chain, Resampler, Stage
from rvc_lightning.conversion.effect_stages import effect_stages
from rvc_lightning.conversion.options import ConversionOptions

log = logging.getLogger(__name__)


def finishing_chain(options: ConversionOptions, sample_rate: int, samples: int | None = None) -> Chain:
    """Return the stages that the options request.

    Args:
        options: Options of the conversion.
        sample_rate: Sampling rate of the voice in Hz.
        samples: Length of the result, from `output_samples`; None if it is not known yet.

    Raises:
        ConfigurationError: An effect requires a package that is not installed.
    """
    stages: list[Stage] = []
    if options.clean_noise:
        stages.append(Denoiser(options.clean_noise, sample_rate))
    if options.tail_seconds:
        stages.append(_Tail(math.ceil(options.tail_seconds * sample_rate)))
    stages += effect_stages(options.effects, sample_rate)
    if output_rate(options, sample_rate) != sample_rate:
        stages.append(Resampler(sample_rate, output_rate(options, sample_rate)))
    if stages:
        stages.append(_Clipper())
    if samples is not None:
        stages.append(_Cut(samples))
    return Chain(stages)


def output_rate(options: ConversionOptions, sample_rate: int) -> int:
    """Return the sampling rate of the result in Hz; `sample_rate` is that of the voice."""
    return options.output_sample_rate or sample_rate


def output_samples(options: ConversionOptions, sample_rate: int, source_samples: int, source_rate: int) -> int:
    """Return the length of the result: that of the source, rounded up to a sample, plus the tail.

    `sample_rate` is that of the voice, `source_rate` that of the source, in Hz.
    """
    rate = output_rate(options, sample_rate)
    return -(-source_samples * rate // source_rate) + int(options.tail_seconds * rate)


class _Tail(Stage):
    """Silence after the end, in which effects decay."""

    def __init__(self, samples: int) -> None:
        self._samples = samples

    def push(self, block: np.ndarray) -> np.ndarray:
        return block

    def finish(self) -> np.ndarray:
        return np.zeros(self._samples, dtype=np.float32)


class _Clipper(Stage):
    """Clips samples beyond full scale, and logs how many there were."""

    def __init__(self) -> None:
        self._clipped = 0

    def push(self, block: np.ndarray) -> np.ndarray:
        self._clipped += int(np.count_nonzero(np.abs(block) > 1))
        return np.clip(block, -1, 1)

    def finish(self) -> np.ndarray:
        if self._clipped:
            log.warning(
                "%d samples exceeded full scale and were clipped: add limiter as the last effect", self._clipped
            )
        return np.zeros(0, dtype=np.float32)


class _Cut(Stage):
    """Drops samples beyond a length."""

    def __init__(self, samples: int) -> None:
        self._missing = samples

    def push(self, block: np.ndarray) -> np.ndarray:
        block = block[: self._missing]
        self._missing -= len(block)
        return block

    def finish(self) -> np.ndarray:
        return np.zeros(0, dtype=np.float32)
