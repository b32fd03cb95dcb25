"""Pitch above the range of an extractor, by a second pass over the recording at half the speed, an octave lower.

The second pass only counts where a frame contains a tone from 1000 to 2100 Hz and little below it, and where the first
pass found no pitch or that of the octave below. It is left out unless there are such frames for 50 ms: speech has
hardly any.

Legend: B items, T samples at 16 kHz, F frames of 10 ms.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import signal
from torch import Tensor
from torch.nn import functional

from rvc_lightning.audio.frames import FRAME_SAMPLES, SAMPLE_RATE, frame_count

_N_FFT = 1024
_LOW_HZ, _TONE_HZ = (50, 900), (1000, 2100)
_MAX_LOW_SHARE = 0.05
"""Power below the tone, relative to the band of the tone."""
_MIN_CREST = 12.0
"""Largest power of a bin relative to the mean of the band: about 30 for a tone, 5 for noise."""
_MIN_FRAMES = 5
_HALF_TAPS = 31
_FIRST_HIGHEST_HZ = 1100.0
_SLOW_LOWEST_HZ = 400.0


def find_high_pitch(
    track: Callable[[Tensor, Tensor], Tensor], wav16k: Tensor, lengths: Tensor, f0_hz: Tensor
) -> Tensor:
    """Add pitch from 1000 Hz up to a track.

    Args:
        track: Extractor, from audio and lengths to pitch, as `PitchNetwork.track`.
        wav16k: [B, T] at 16 kHz, zero in padded samples.
        lengths: int64 [B], samples of each item.
        f0_hz: Pitch of the first pass, [B, F], 0 where unvoiced.

    Returns:
        f0_hz, [B, F].
    """
    is_high = high_tones(wav16k)[:, : f0_hz.shape[1]] & (f0_hz < _TONE_HZ[0])
    if not (functional.avg_pool1d(is_high.float(), _MIN_FRAMES, 1, _MIN_FRAMES // 2) == 1).any():
        return f0_hz
    slow_hz = track(half_speed(wav16k), 2 * lengths)[:, ::2]
    high_hz = 2 * slow_hz[:, : f0_hz.shape[1]]
    return torch.where(is_high & (high_hz >= _TONE_HZ[0]), high_hz, f0_hz)


def track_in_two_passes(
    track: Callable[[np.ndarray, float, float], np.ndarray], wav16k: np.ndarray, fmin_hz: float, fmax_hz: float
) -> np.ndarray:
    """Measure pitch on the host up to 1100 Hz, and above it by `find_high_pitch`.

    One pass over a wider range would classify more noise as voiced.

    Args:
        track: Extractor, from float32 [T] at 16 kHz, lowest and highest pitch in Hz to pitch in Hz, float32 [F].
        wav16k: float32 [T] at 16 kHz.
        fmin_hz: Lowest pitch.
        fmax_hz: Highest pitch.

    Returns:
        f0_hz, float32 [F]; 0 where unvoiced.
    """
    f0_hz = track(wav16k, fmin_hz, min(fmax_hz, _FIRST_HIGHEST_HZ))
    if fmax_hz <= _FIRST_HIGHEST_HZ:
        return f0_hz

    def track_slow(waves: Tensor, lengths: Tensor) -> Tensor:
        return torch.from_numpy(track(waves[0].numpy(), _SLOW_LOWEST_HZ, fmax_hz / 2))[None]

    wave, samples = torch.from_numpy(wav16k)[None], torch.tensor([len(wav16k)])
    return find_high_pitch(track_slow, wave, samples, torch.from_numpy(f0_hz)[None])[0].numpy()


def high_tones(wav16k: Tensor) -> Tensor:
    """Return whether each frame has a tone from 1000 to 2100 Hz and little below it: [B, T] -> bool [B, F]."""
    with torch.autocast(wav16k.device.type, enabled=False):
        window = torch.hann_window(_N_FFT, device=wav16k.device)
        padded = functional.pad(wav16k.float(), (_N_FFT // 2, _N_FFT // 2 + FRAME_SAMPLES))
        spectrum = torch.stft(padded, _N_FFT, FRAME_SAMPLES, window=window, center=False, return_complex=True)
        power = spectrum.abs().square()[:, :, : frame_count(wav16k.shape[1])]
    low, tone = (power[:, hz[0] * _N_FFT // SAMPLE_RATE : hz[1] * _N_FFT // SAMPLE_RATE] for hz in (_LOW_HZ, _TONE_HZ))
    is_tone = tone.amax(dim=1) > _MIN_CREST * tone.mean(dim=1)
    return is_tone & (low.sum(dim=1) < _MAX_LOW_SHARE * tone.sum(dim=1))


def half_speed(wav16k: Tensor) -> Tensor:
    """Return audio at half its speed: [B, T] -> [B, 2 T]."""
    weights = wav16k.new_tensor(2 * signal.firwin(2 * _HALF_TAPS + 1, 0.5))
    slow = functional.conv_transpose1d(
        wav16k[:, None], weights[None, None], stride=2, padding=_HALF_TAPS, output_padding=1
    )
    return slow[:, 0]
