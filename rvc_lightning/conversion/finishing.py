"""What happens to a converted recording before it is written, block by block.

    voice ─▶ clean_noise ─▶ tail ─▶ effects ─▶ output_sample_rate ─▶ clipped to full scale ─▶ cut to length

Nothing at all happens where no option asks for it.

Letters: N samples.
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


def finishing(options: ConversionOptions, sample_rate: int, samples: int | None = None) -> Chain:
    """The stages that the options ask for.

    Args:
        options: Of the conversion.
        sample_rate: Of the voice, in Hz.
        samples: Length of the result, `finished_samples`; None where it is not known beforehand.

    Raises:
        ConfigurationError: There are effects, but pedalboard is not installed.
    """
    stages: list[Stage] = []
    if options.clean_noise:
        stages.append(Denoiser(options.clean_noise, sample_rate))
    if options.tail_seconds:
        stages.append(_Tail(math.ceil(options.tail_seconds * sample_rate)))
    stages += effect_stages(options.effects, sample_rate)
    if finished_rate(options, sample_rate) != sample_rate:
        stages.append(Resampler(sample_rate, finished_rate(options, sample_rate)))
    if stages:
        stages.append(_Clipper())
    if samples is not None:
        stages.append(_Cut(samples))
    return Chain(stages)


def finished_rate(options: ConversionOptions, sample_rate: int) -> int:
    """Sampling rate of the result in Hz; `sample_rate` is that of the voice."""
    return options.output_sample_rate or sample_rate


def finished_samples(options: ConversionOptions, sample_rate: int, source_samples: int, source_rate: int) -> int:
    """Length of the result: that of the source, rounded up to a sample, and the tail where one is asked for.

    Args:
        options: Of the conversion.
        sample_rate: Of the voice, in Hz.
        source_samples: Of the recording.
        source_rate: Of the recording, in Hz.
    """
    rate = finished_rate(options, sample_rate)
    return -(-source_samples * rate // source_rate) + int(options.tail_seconds * rate)


class _Tail(Stage):
    """Silence after the end, for effects to ring in."""

    def __init__(self, samples: int) -> None:
        self._samples = samples

    def push(self, block: np.ndarray) -> np.ndarray:
        return block

    def finish(self) -> np.ndarray:
        return np.zeros(self._samples, dtype=np.float32)


class _Clipper(Stage):
    """Cuts what effects have made too loud, and says so."""

    def __init__(self) -> None:
        self._clipped = 0

    def push(self, block: np.ndarray) -> np.ndarray:
        self._clipped += int(np.count_nonzero(np.abs(block) > 1))
        return np.clip(block, -1, 1)

    def finish(self) -> np.ndarray:
        if self._clipped:
            log.warning("%d samples beyond full scale are clipped: add the effect limiter as the last", self._clipped)
        return np.zeros(0, dtype=np.float32)


class _Cut(Stage):
    """The first samples of what comes."""

    def __init__(self, samples: int) -> None:
        self._missing = samples

    def push(self, block: np.ndarray) -> np.ndarray:
        block = block[: self._missing]
        self._missing -= len(block)
        return block

    def finish(self) -> np.ndarray:
        return np.zeros(0, dtype=np.float32)
