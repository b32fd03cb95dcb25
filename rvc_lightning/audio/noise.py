"""Reduction of background noise.

Spectral gating (noisereduce; Sainburg et al. 2020): in each band of the spectrum, what does not rise above the noise is
turned down. The noise is learned from the quietest tenth of the recording, its pauses. The peers (specification 14.2)
learn it from all of the recording, which takes speech for noise: measured on sentences in white noise, half of the
speech's level goes at full strength; here a tenth, with as much noise taken away.

Letters: N samples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rvc_lightning.audio.samples import Samples, blocks_of
from rvc_lightning.errors import ConfigurationError

_SLOT_SECONDS = 0.1
_QUIET_SHARE = 0.1
_MOST_SLOTS = 50
_SPECTRUM_SAMPLES = 1024
# Whole hops of a quarter spectrum, so that all blocks see the same frames; what lies around a block covers the gate's
# smoothing over 50 ms up to 192 kHz. Together less than noisereduce takes at once.
_BLOCK_SAMPLES = 1 << 19
_CONTEXT_SAMPLES = 1 << 14


def reduce_noise(audio: np.ndarray, sample_rate: int, strength: float) -> np.ndarray:
    """Turn the background noise of a recording down.

    Args:
        audio: float32 [N]; digital silence comes back as it is.
        sample_rate: Hz, 6000 to 192000.
        strength: share of the noise that is taken away, 0 (nothing) to 1.

    Returns:
        float32 [N], not delayed.
    """
    return audio if strength == 0 else np.concatenate([audio[:0], *noise_reduced(audio, sample_rate, strength)])


def noise_reduced(audio: Samples, sample_rate: int, strength: float) -> Iterator[np.ndarray]:
    """`reduce_noise` block by block, which takes memory for a block alone; float32 [n] each."""
    noise = noise_profile(audio, sample_rate)
    if noise is None:
        yield from blocks_of(audio)
        return
    # It takes seconds to import.
    from noisereduce import noisereduce

    for start in range(0, len(audio), _BLOCK_SAMPLES):
        before = min(start, _CONTEXT_SAMPLES)
        part = audio[start - before : start + _BLOCK_SAMPLES + _CONTEXT_SAMPLES]
        reduced = noisereduce.reduce_noise(
            part, sample_rate, stationary=True, y_noise=noise, prop_decrease=strength, n_fft=_SPECTRUM_SAMPLES
        )
        yield reduced[before : before + _BLOCK_SAMPLES]


def check_strength(setting: str, strength: float) -> None:
    """Raises ConfigurationError unless `strength` is one."""
    if not 0 <= strength <= 1:
        raise ConfigurationError(f"{setting}={strength}: choose a share from 0 (off) to 1")


def noise_profile(audio: Samples, sample_rate: int) -> np.ndarray | None:
    """The quietest parts of a recording, of a tenth of a second each, one behind the other.

    Args:
        audio: float32 [N].
        sample_rate: Hz.

    Returns:
        At most five seconds, from all over the recording; None where nothing sounds at all.
    """
    slot_samples = min(round(_SLOT_SECONDS * sample_rate), max(len(audio), 1))
    starts = np.arange(0, len(audio) - slot_samples + 1, slot_samples)
    slots = (audio[start : start + slot_samples] for start in starts)
    energy = np.array([np.dot(slot, slot) for slot in slots])
    # Digital silence is no noise of the room.
    sounding = np.flatnonzero(energy)
    if len(sounding) == 0:
        return None
    quietest = sounding[np.argsort(energy[sounding], kind="stable")[: max(round(_QUIET_SHARE * len(sounding)), 1)]]
    chosen = np.sort(quietest)[:: -(-len(quietest) // _MOST_SLOTS)]
    profile = np.concatenate([audio[start : start + slot_samples] for start in starts[chosen]])
    return np.resize(profile, max(len(profile), _SPECTRUM_SAMPLES))
