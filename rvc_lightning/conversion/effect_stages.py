"""Apply effects by optional dependencies (`pip install "rvc-lightning[effects]"`).

`pitch_shift` requires python-stretch (MIT), the others pedalboard (GPL 3).

Legend: N samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from rvc_lightning.audio.pitch_shift import import_stretch, shift_pitch
from rvc_lightning.audio.stages import Parts, Stage
from rvc_lightning.conversion.effects import Effect, PitchShift
from rvc_lightning.io.packages import import_extra

_BUFFER_SAMPLES = 8192


def effect_stages(effects: Sequence[Effect], sample_rate: int) -> list[Stage]:
    """Return the stages that apply `effects` in their order, each without changing length or timing.

    Raises ConfigurationError if a required package is not installed.
    """
    return [_stage(effect, sample_rate) for effect in effects]


def check_installed(effects: Sequence[Effect]) -> None:
    """Raise ConfigurationError if a package that `effects` require is not installed."""
    plugins = [effect for effect in effects if not isinstance(effect, PitchShift)]
    if plugins:
        _pedalboard(plugins)
    if len(plugins) < len(effects):
        import_stretch("effects")


def _stage(effect: Effect, sample_rate: int) -> Stage:
    if isinstance(effect, PitchShift):
        import_stretch("effects")
        return Parts(partial(_shift, effect.semitones, sample_rate), sample_rate)
    return _Plugin(getattr(_pedalboard([effect]), type(effect).__name__)(**asdict(effect)), sample_rate)


def _shift(semitones: float, sample_rate: int, audio: np.ndarray) -> np.ndarray:
    """Shift the pitch of audio: [N] -> [N]."""
    return shift_pitch(audio[:, None], sample_rate, semitones)[:, 0]


class _Plugin(Stage):
    """An effect of pedalboard that returns as many samples as it gets and keeps its state between blocks."""

    def __init__(self, plugin: Any, sample_rate: int) -> None:
        self._plugin, self._sample_rate = plugin, sample_rate

    def push(self, block: np.ndarray) -> np.ndarray:
        return self._plugin.process(block, self._sample_rate, buffer_size=_BUFFER_SAMPLES, reset=False)

    def finish(self) -> np.ndarray:
        return np.zeros(0, dtype=np.float32)


def _pedalboard(effects: Sequence[Effect]) -> Any:
    return import_extra("pedalboard", "effects", f"effects=[{', '.join(effect.name for effect in effects)}]")
