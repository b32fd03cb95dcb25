"""Loudness and true peaks of finished audio, as in ITU-R BS.1770: measure, match and limit.

Loudness is measured by pyloudnorm. The true peak is that of audio at four times its rate. The limiter looks ahead, so
that its gain falls before a peak without distorting it:

    gain needed      ‾‾‾‾‾‾‾‾|_|‾‾‾‾‾‾‾‾
    lowest nearby    ‾‾‾‾|_________|‾‾‾‾    within half a window on either side
    smoothed         ‾‾‾-.._______..-‾‾‾    never above the gain needed

Legend: N samples, C channels.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import soxr
from scipy.ndimage import minimum_filter1d
from scipy.signal import oaconvolve

from rvc_lightning.audio.samples import spans
from rvc_lightning.io.packages import import_extra

log = logging.getLogger(__name__)

_OVERSAMPLING = 4
_CONTEXT_SAMPLES = 64
_WINDOW_SECONDS = 0.02
_BLOCK_SECONDS = 0.4
_TOLERANCE_DB = 0.05
_MAX_ROUNDS = 8


def loudness_lufs(audio: np.ndarray, sample_rate: int) -> float:
    """Return the integrated loudness of audio [N, C] in LUFS; minus infinity for silence.

    Raises:
        ConfigurationError: pyloudnorm is not installed.
    """
    # One block at least; silence does not count.
    missing = max(math.ceil(_BLOCK_SECONDS * sample_rate) + 1 - len(audio), 0)
    audio = np.pad(audio.astype(np.float64), ((0, missing), (0, 0)))
    return float(import_pyloudnorm().Meter(sample_rate).integrated_loudness(audio))


def true_peak(audio: np.ndarray) -> float:
    """Return the true peak of audio [N, C], relative to full scale."""
    return float(_local_peaks(audio).max(initial=0.0))


def match_loudness(audio: np.ndarray, sample_rate: int, target_lufs: float) -> np.ndarray:
    """Scale audio [N, C] to a loudness; silence, and audio whose target is silence, are returned unchanged."""
    gain_db = target_lufs - loudness_lufs(audio, sample_rate)
    return audio * np.float32(10 ** (gain_db / 20)) if math.isfinite(gain_db) else audio


def master(audio: np.ndarray, sample_rate: int, target_lufs: float, peak_db: float) -> np.ndarray:
    """Bring audio to a loudness, with true peaks below a limit.

    Args:
        audio: float32 [N, C].
        sample_rate: In Hz.
        target_lufs: Integrated loudness; a warning is logged if the limit does not allow it.
        peak_db: Limit of the true peak, relative to full scale.

    Returns:
        float32 [N, C]; silence is returned unchanged.

    Raises:
        ConfigurationError: pyloudnorm is not installed.
    """
    reached = loudness_lufs(audio, sample_rate)
    if not math.isfinite(reached):
        return audio
    peaks, limit, gain_db = _local_peaks(audio), 10 ** (peak_db / 20), target_lufs - reached
    for _ in range(_MAX_ROUNDS):
        # Limiting reduces the loudness.
        limited = audio * _limiting_gain(peaks, sample_rate, 10 ** (gain_db / 20), limit)[:, None]
        reached = loudness_lufs(limited, sample_rate)
        if abs(target_lufs - reached) < _TOLERANCE_DB:
            break
        gain_db += target_lufs - reached
    else:
        log.warning("The loudness is %.1f LUFS: %.1f needs peaks above peak_db=%g", reached, target_lufs, peak_db)
    # Changes of the gain may raise peaks between samples a little.
    return limited * np.float32(min(1.0, limit / max(true_peak(limited), limit)))


def import_pyloudnorm() -> Any:
    """Return the module. Raises ConfigurationError if it is not installed."""
    return import_extra("pyloudnorm", "covers", "loudness")


def _limiting_gain(peaks: np.ndarray, sample_rate: int, gain: float, limit: float) -> np.ndarray:
    """Return `gain` reduced around the samples whose peaks would exceed the limit, float32 [N]."""
    half = round(_WINDOW_SECONDS * sample_rate / 2)
    needed = np.minimum(gain, limit / np.maximum(peaks, 1e-9))
    lowest = np.pad(minimum_filter1d(needed, 2 * half + 1), half, mode="edge")
    window = np.hanning(2 * half + 3)[1:-1]
    return oaconvolve(lowest, window / window.sum(), mode="valid").astype(np.float32)


def _local_peaks(audio: np.ndarray) -> np.ndarray:
    """Return the largest absolute value from each sample to the next, in any channel: [N, C] -> float32 [N]."""
    peaks = np.zeros(len(audio), np.float32)
    for span in spans(len(audio)):
        first = max(span.start - _CONTEXT_SAMPLES, 0)
        block = audio[first : span.stop + _CONTEXT_SAMPLES]
        fine = np.abs(soxr.resample(block, 1, _OVERSAMPLING, quality="HQ")).max(axis=1)
        fine = np.pad(fine, (0, max(_OVERSAMPLING * len(block) - len(fine), 0)))[: _OVERSAMPLING * len(block)]
        coarse = np.maximum(fine.reshape(-1, _OVERSAMPLING).max(axis=1), np.abs(block).max(axis=1))
        peaks[span] = coarse[span.start - first :][: span.stop - span.start]
    return peaks
