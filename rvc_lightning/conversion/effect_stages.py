"""Effects made heard, by pedalboard (an extra of its own: `pip install -e ".[effects]"`, licensed under the GPL 3).

Legend: N samples.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from rvc_lightning.audio.stages import Parts, Stage
from rvc_lightning.conversion.effects import Effect, PitchShift
from rvc_lightning.errors import ConfigurationError

_BUFFER_SAMPLES = 8192


def effect_stages(effects: Sequence[Effect], sample_rate: int) -> list[Stage]:
    """The stages that make `effects` heard, in their order; each keeps the length, and tells time to the sample.

    Args:
        effects: The chain.
        sample_rate: Of the audio, in Hz.

    Raises:
        ConfigurationError: pedalboard is not installed; the message says how it is.
    """
    return [_stage(effect, sample_rate) for effect in effects]


def check_installed(effects: Sequence[Effect]) -> None:
    """Raises ConfigurationError if there are effects, but no pedalboard to make them."""
    if effects:
        _pedalboard(effects)


def _stage(effect: Effect, sample_rate: int) -> Stage:
    make = getattr(_pedalboard([effect]), effect.pedalboard_name)
    if isinstance(effect, PitchShift):
        return Parts(partial(_shifted, make, effect, sample_rate), sample_rate)
    return _Plugin(make(**asdict(effect)), sample_rate)


def _shifted(stretch: Callable[..., np.ndarray], effect: PitchShift, sample_rate: int, audio: np.ndarray) -> np.ndarray:
    """[N] -> [N]."""
    shifted = stretch(
        audio,
        sample_rate,
        pitch_shift_in_semitones=effect.semitones,
        preserve_formants=effect.preserve_formants,
    )[0, : len(audio)]
    return np.pad(shifted, (0, len(audio) - len(shifted)))


class _Plugin(Stage):
    """An effect of pedalboard that gives as many samples as it gets, and remembers what went before."""

    def __init__(self, plugin: Any, sample_rate: int) -> None:
        self._plugin, self._sample_rate = plugin, sample_rate

    def push(self, block: np.ndarray) -> np.ndarray:
        """See `Stage`."""
        return self._plugin.process(block, self._sample_rate, buffer_size=_BUFFER_SAMPLES, reset=False)

    def finish(self) -> np.ndarray:
        """See `Stage`."""
        return np.zeros(0, dtype=np.float32)


def _pedalboard(effects: Sequence[Effect]) -> Any:
    try:
        return importlib.import_module("pedalboard")
    except ImportError as error:
        names = ", ".join(effect.name for effect in effects)
        raise ConfigurationError(
            f"effects=[{names}] need the package pedalboard, which is not installed ({error}): "
            'pip install -e ".[effects]"'
        ) from error
