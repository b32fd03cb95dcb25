"""Spectra, computed where the waveform is, in float32 under any precision (specification 6).

Legend: B batch, N samples, T frames, S = n_fft/2 + 1 bins, M mel bands.
"""

from __future__ import annotations

import librosa
import torch
from torch import Tensor, nn

POWER_FLOOR = 1e-6
MEL_FLOOR = 1e-5


def reflect_pad(waveform: Tensor, lengths: Tensor, samples: int) -> Tensor:
    """Pads every item by reflection at its own ends: [B, N], [B] -> [B, N + 2·samples].

    An item's spectrum then does not depend on how far its batch is padded. What lies more than `samples` behind
    the end of an item is of no meaning.
    """
    position = torch.arange(-samples, waveform.shape[1] + samples, device=waveform.device).abs()
    last = (lengths - 1)[:, None]
    index = torch.where(position > last, 2 * last - position, position)
    return waveform.gather(1, index.clamp(min=0, max=waveform.shape[1] - 1))


class LinearSpectrogram(nn.Module):
    """Magnitudes of the short-time Fourier transform, one frame a hop (specification 6.1)."""

    window: Tensor

    def __init__(self, n_fft: int, hop_samples: int) -> None:
        super().__init__()
        self.n_fft, self.hop_samples = n_fft, hop_samples
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Waveform [B, N] (and lengths in samples [B] where items are padded) -> float32 [B, S, N / hop]."""
        with torch.autocast(waveform.device.type, enabled=False):
            if lengths is None:
                lengths = torch.full(waveform.shape[:1], waveform.shape[1], device=waveform.device)
            padded = reflect_pad(waveform.float(), lengths, (self.n_fft - self.hop_samples) // 2)
            spectrum = torch.stft(
                padded,
                self.n_fft,
                self.hop_samples,
                window=self.window.float(),
                center=False,
                return_complex=True,
            )
            return torch.sqrt(spectrum.real**2 + spectrum.imag**2 + POWER_FLOOR)


class LogMel(nn.Module):
    """Natural logarithm of the mel spectrum of a linear spectrogram (specification 6.2)."""

    filterbank: Tensor

    def __init__(self, sample_rate: int, n_fft: int, n_mels: int) -> None:
        super().__init__()
        bank = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels)
        self.register_buffer("filterbank", torch.from_numpy(bank), persistent=False)

    def forward(self, spectrogram: Tensor) -> Tensor:
        """[B, S, T] -> float32 [B, M, T]."""
        with torch.autocast(spectrogram.device.type, enabled=False):
            return torch.log((self.filterbank.float() @ spectrogram.float()).clamp(min=MEL_FLOOR))
