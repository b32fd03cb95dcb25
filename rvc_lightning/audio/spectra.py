"""Spectra in float32 under any precision, on the device of the waveform (SPECIFICATION.md, section 6).

Legend: B batch, N samples, T frames, S = n_fft/2 + 1 bins, M mel bands.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from rvc_lightning.io.imports import import_compiled

POWER_FLOOR = 1e-6
MEL_FLOOR = 1e-5


def reflect_pad(waveform: Tensor, lengths: Tensor, samples: int) -> Tensor:
    """Pad each item by reflection at its ends: [B, N], [B] -> [B, N + 2·samples].

    The spectrum of an item does not depend on the padding of its batch. Values more than `samples` after the end of an
    item are undefined.
    """
    position = torch.arange(-samples, waveform.shape[1] + samples, device=waveform.device).abs()
    last = (lengths - 1)[:, None]
    index = torch.where(position > last, 2 * last - position, position)
    return waveform.gather(1, index.clamp(min=0, max=waveform.shape[1] - 1))


def magnitudes(waveform: Tensor, window: Tensor, hop_samples: int, *, center: bool) -> Tensor:
    """Return STFT magnitudes, with a floor that bounds the gradient of the root: [B, N] -> [B, S, T].

    Args:
        waveform: Float32.
        window: Window of length n_fft.
        hop_samples: Hop between frames.
        center: Whether frames are centred on their samples, with reflection at the ends.
    """
    spectrum = torch.stft(waveform, len(window), hop_samples, window=window.float(), center=center, return_complex=True)
    return torch.sqrt(spectrum.real**2 + spectrum.imag**2 + POWER_FLOOR)


def mel_filterbank(sample_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Return Slaney mel filters of equal area from 0 to half the rate: [M, S]."""
    return torch.from_numpy(import_compiled("librosa.filters").mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels))


class LinearSpectrogram(nn.Module):
    """STFT magnitudes with one frame per hop (SPECIFICATION.md, section 6.1)."""

    window: Tensor

    def __init__(self, n_fft: int, hop_samples: int) -> None:
        super().__init__()
        self.n_fft, self.hop_samples = n_fft, hop_samples
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Transform a waveform [B, N], with lengths in samples [B] if items are padded, to float32 [B, S, N / hop]."""
        with torch.autocast(waveform.device.type, enabled=False):
            if lengths is None:
                lengths = torch.full(waveform.shape[:1], waveform.shape[1], device=waveform.device)
            padded = reflect_pad(waveform.float(), lengths, (self.n_fft - self.hop_samples) // 2)
            return magnitudes(padded, self.window, self.hop_samples, center=False)


class LogMel(nn.Module):
    """Natural logarithm of the mel spectrum of a linear spectrogram (SPECIFICATION.md, section 6.2)."""

    filterbank: Tensor

    def __init__(self, sample_rate: int, n_fft: int, n_mels: int) -> None:
        super().__init__()
        self.register_buffer("filterbank", mel_filterbank(sample_rate, n_fft, n_mels), persistent=False)

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Transform magnitudes [B, S, T] to float32 [B, M, T]."""
        with torch.autocast(spectrogram.device.type, enabled=False):
            return torch.log((self.filterbank.float() @ spectrogram.float()).clamp(min=MEL_FLOOR))


class MelScale(nn.Module):
    """Decadic log-mel spectrum at one resolution, four frames per window (SPECIFICATION.md, section 6.3)."""

    window: Tensor
    filterbank: Tensor

    def __init__(self, sample_rate: int, n_mels: int, n_fft: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("filterbank", mel_filterbank(sample_rate, n_fft, n_mels), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Transform a waveform [B, N] to float32 [B, M, T]."""
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = magnitudes(waveform.float(), self.window, len(self.window) // 4, center=True)
            return torch.log10((self.filterbank.float() @ spectrum).clamp(min=MEL_FLOOR))


class MultiScaleMel(nn.ModuleList):
    """Log-mel spectra from fine resolution in time to fine in frequency (SPECIFICATION.md, section 6.3)."""

    SCALES = ((5, 32), (10, 64), (20, 128), (40, 256), (80, 512), (160, 1024), (320, 2048))
    """Mel bands and window in samples of each resolution."""
    MIN_SAMPLES = 1025
    """Minimum length of a waveform for reflection at every resolution."""

    def __init__(self, sample_rate: int) -> None:
        with warnings.catch_warnings():
            # In short transforms some low filters lie between two bins and are empty, as intended.
            warnings.filterwarnings("ignore", message="Empty filters detected")
            super().__init__(MelScale(sample_rate, n_mels, n_fft) for n_mels, n_fft in self.SCALES)

    def forward(self, waveform: Tensor) -> list[Tensor]:
        """Transform a waveform [B, N], N >= `MIN_SAMPLES`, to float32 [B, M, T] at each resolution."""
        return [scale(waveform) for scale in self]
