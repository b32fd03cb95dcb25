"""Loss that keeps the words of generated speech: the distance of its content to that of the recording.

Legend: B batch, N samples, F content frames.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.content.phonetic import PhoneticEncoder


class ContentLoss(nn.Module):
    """Distance of two waveforms in the content of the included phonetic encoder, whichever encoder the voice uses.

    A frame of content has a squared norm of its channels, so that the distance is 0 for equal and about 1 for
    unrelated phones.
    """

    def __init__(self, sample_rate: int) -> None:
        """Load the encoder.

        Args:
            sample_rate: Sampling rate of the waveforms in Hz.
        """
        super().__init__()
        self.encoder = PhoneticEncoder()
        self.sample_rate = sample_rate

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the mean over frames of half the squared distance: [B, 1, N], [B, 1, N] -> scalar."""
        with torch.no_grad():
            expected = self._content(real)
        return (expected - self._content(fake)).square().mean() / 2

    def _content(self, waveform: Tensor) -> Tensor:
        """Return the content of whole waveforms, float32 [B, F, C]."""
        wav16k = self._resample(waveform.squeeze(1).float())
        return self.encoder(wav16k, torch.full((len(wav16k),), wav16k.shape[1], device=wav16k.device))

    def _resample(self, waveform: Tensor) -> Tensor:
        """Resample to 16 kHz by cutting the spectrum: [B, N] -> [B, N · 16000 / sample_rate]."""
        samples = waveform.shape[1] * SAMPLE_RATE // self.sample_rate
        spectrum = torch.fft.rfft(waveform)[:, : samples // 2 + 1]
        return torch.fft.irfft(spectrum, samples) * (samples / waveform.shape[1])
