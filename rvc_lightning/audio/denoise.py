"""Remove steady noise from a recording, block by block.

    samples ─▶ spectra every 16 ms ─▶ power of the noise in each bin ─▶ gain of each bin ─▶ samples

The power of the noise is tracked by the probability of speech (Gerkmann and Hendriks 2012, "Unbiased
MMSE-based noise power estimation with low complexity and low tracking delay"); the gain is Wiener's on the
decision-directed ratio of speech to noise (Ephraim and Malah 1984; Scalart and Filho 1996). Both are
causal, so that the result does not depend on the blocks, and preserve held notes, which gates that compare with an
average over time, as in noisereduce, remove as noise.

Legend: N samples, H samples of a hop, K bins of a spectrum, H + 1.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import percentile_filter

from rvc_lightning.audio.stages import Stage

_HOP_SECONDS = 0.016
# From Gerkmann and Hendriks: speech is 15 dB above the noise. The probability of speech is limited in the long term, so
# that the estimate cannot get stuck; our limit is ten times weaker because of held notes.
_SPEECH_SNR = 10**1.5
_PROBABILITY_SMOOTHING = 0.9
_MAX_PROBABILITY = 0.999
_NOISE_SMOOTHING = 0.8
# From Ephraim and Malah.
_SNR_SMOOTHING = 0.98
_MIN_SNR = 10**-2.5
# The initial estimate is a low quantile of the first seconds, scaled to the mean of noise.
_FIRST_SECONDS = 2.0
# 780 Hz, which covers partials and the gaps between them for every voice.
_BROAD_BINS = 25
_QUANTILE = 0.1
_MEAN_TO_QUANTILE = -1 / math.log(1 - _QUANTILE)
_TINY_POWER = 1e-12


class Denoiser(Stage):
    """Remove steady noise; digital silence is unchanged."""

    def __init__(self, strength: float, sample_rate: int) -> None:
        """Start a recording.

        Args:
            strength: Share of the noise to remove, 0 to 1.
            sample_rate: In Hz.
        """
        self._strength = strength
        self._hop = max(round(_HOP_SECONDS * sample_rate), 1)
        # Square root of the Hann window for analysis and synthesis: windows that overlap by half sum to one.
        self._window = np.sin(math.pi * (np.arange(2 * self._hop) + 0.5) / (2 * self._hop))
        # Every sample lies in two windows; zeros precede the first hop.
        self._buffer = np.zeros(self._hop, dtype=np.float32)
        self._overlap = np.zeros(self._hop)
        self._lead = self._hop
        self._tracker: NoiseTracker | None = None
        self._warmup_samples = round(_FIRST_SECONDS * sample_rate)
        self._n_in = self._n_out = 0

    def push(self, block: np.ndarray) -> np.ndarray:
        """See `Stage`."""
        self._n_in += len(block)
        self._buffer = np.concatenate([self._buffer, block])
        return self._process_hops() if self._n_in >= self._warmup_samples else np.zeros(0, dtype=np.float32)

    def finish(self) -> np.ndarray:
        """See `Stage`."""
        self._buffer = np.pad(self._buffer, (0, 2 * self._hop))
        missing = self._n_in - self._n_out
        return self._process_hops()[:missing]

    def _process_hops(self) -> np.ndarray:
        """Process the whole hops of the buffer."""
        hops = len(self._buffer) // self._hop - 1
        if hops < 1:
            return np.zeros(0, dtype=np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(self._buffer, 2 * self._hop)[: hops * self._hop : self._hop]
        spectra = np.fft.rfft(frames * self._window)
        gains = self._gains(np.square(np.abs(spectra)))
        pieces = np.fft.irfft(spectra * (1 - self._strength * (1 - gains)), n=2 * self._hop) * self._window
        self._buffer = self._buffer[hops * self._hop :]
        return self._overlap_add(pieces)

    def _gains(self, power: np.ndarray) -> np.ndarray:
        """Return gains [frames, K] of power spectra [frames, K]."""
        if self._tracker is None:
            self._tracker = NoiseTracker(power[: max(self._warmup_samples // self._hop, 1)])
        return np.stack([self._tracker.gain(frame) for frame in power])

    def _overlap_add(self, pieces: np.ndarray) -> np.ndarray:
        """Add overlapping pieces [frames, 2·H]; return finished samples [frames·H] without the leading zeros."""
        first_halves, second_halves = pieces[:, : self._hop].copy(), pieces[:, self._hop :]
        first_halves[0] += self._overlap
        first_halves[1:] += second_halves[:-1]
        self._overlap = second_halves[-1]
        ready = first_halves.reshape(-1)[self._lead :].astype(np.float32)
        self._lead = 0
        self._n_out += len(ready)
        return ready


class NoiseTracker:
    """Estimate of the power of the noise in each bin, and the gain that results from it."""

    def __init__(self, first_power: np.ndarray, hop_seconds: float = _HOP_SECONDS) -> None:
        """Estimate the noise from the first power spectra [frames, K], which are `hop_seconds` apart."""
        hops = hop_seconds / _HOP_SECONDS
        self._keep_probability, self._keep_noise = _PROBABILITY_SMOOTHING**hops, _NOISE_SMOOTHING**hops
        sounding = first_power[first_power.max(axis=1) > _TINY_POWER]
        quantile = np.quantile(sounding if len(sounding) else first_power, _QUANTILE, axis=0)
        # Noise is broad; a constant peak among its neighbours is a note that is held from the start.
        quantile = np.minimum(quantile, 2 * percentile_filter(quantile, 25, size=_BROAD_BINS, mode="nearest"))
        self._noise = np.maximum(_MEAN_TO_QUANTILE * quantile, _TINY_POWER)
        self._probability = np.zeros(first_power.shape[1])
        self._clean = np.zeros(first_power.shape[1])

    def gain(self, power: np.ndarray) -> np.ndarray:
        """Return the gain of each bin, 0 to 1, for the next power spectrum: [K] -> [K]."""
        if power.max() <= _TINY_POWER:
            # Digital silence carries no information about the noise.
            return np.ones_like(power)
        self._update_noise(power)
        posterior = power / self._noise
        snr = _SNR_SMOOTHING * self._clean / self._noise + (1 - _SNR_SMOOTHING) * np.maximum(posterior - 1, 0)
        snr = np.maximum(snr, _MIN_SNR)
        gain = snr / (1 + snr)
        self._clean = np.square(gain) * power
        return gain

    def _update_noise(self, power: np.ndarray) -> None:
        """Update the power of the noise by the probability of speech in each bin."""
        exponent = np.minimum(power / self._noise * (_SPEECH_SNR / (1 + _SPEECH_SNR)), 200)
        probability = 1 / (1 + (1 + _SPEECH_SNR) * np.exp(-exponent))
        self._probability = self._keep_probability * self._probability + (1 - self._keep_probability) * probability
        stuck = self._probability > _MAX_PROBABILITY
        probability = np.where(stuck, np.minimum(probability, _MAX_PROBABILITY), probability)
        expected = probability * self._noise + (1 - probability) * power
        self._noise = np.maximum(self._keep_noise * self._noise + (1 - self._keep_noise) * expected, _TINY_POWER)
