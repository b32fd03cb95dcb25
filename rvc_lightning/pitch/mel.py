"""Mel spectra for the pitch networks (SPECIFICATION.md, sections 13.1 and 13.2), always in float32.

Legend: B items, T samples at 16 kHz, F frames of 10 ms, S = 513 bins of the Fourier transform, M mel bands.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rvc_lightning.audio.frames import FRAME_SAMPLES, frame_count
from rvc_lightning.audio.spectra import MEL_FLOOR, reflect_pad

N_FFT = 1024
MEL_BANDS = 128


class FrameMel(nn.Module):
    """Log-mel spectrum (natural logarithm) on the grid of pitch frames.

    Items are padded by reflection, or by zeros if too short. If padding yields fewer than F frames, the last frame is
    repeated.
    """

    window: Tensor
    filterbank: Tensor

    def __init__(self, filterbank: Tensor, pad_samples: int, power_floor: float) -> None:
        """Initialize the transform.

        Args:
            filterbank: Mel filters, [M, S].
            pad_samples: Padding on both sides.
            power_floor: Constant added to the power of every bin.
        """
        super().__init__()
        self.pad_samples, self.power_floor = pad_samples, power_floor
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)
        self.register_buffer("filterbank", filterbank, persistent=False)

    def forward(self, wav16k: Tensor, lengths: Tensor) -> Tensor:
        """[B, T], zero in padded samples, with lengths [B] -> float32 [B, M, F]."""
        with torch.autocast(wav16k.device.type, enabled=False):
            padded = self._pad(wav16k.float(), lengths)
            spectrum = torch.stft(
                padded, N_FFT, FRAME_SAMPLES, window=self.window.float(), center=False, return_complex=True
            )
            magnitude = torch.sqrt(spectrum.real**2 + spectrum.imag**2 + self.power_floor)
            log_mel = torch.log((self.filterbank.float() @ magnitude).clamp(min=MEL_FLOOR))
        last = ((lengths + 2 * self.pad_samples - N_FFT) // FRAME_SAMPLES).clamp(min=0)
        frame = torch.arange(frame_count(wav16k.shape[1]), device=wav16k.device)
        index = torch.minimum(frame, last[:, None])
        return log_mel.gather(2, index[:, None].expand(-1, log_mel.shape[1], -1))

    def _pad(self, wave: Tensor, lengths: Tensor) -> Tensor:
        """[B, T] -> [B, T + 2 * pad], at least one window."""
        long_enough = (lengths > self.pad_samples)[:, None]
        with_zeros = functional.pad(wave, (self.pad_samples, self.pad_samples))
        padded = torch.where(long_enough, reflect_pad(wave, lengths, self.pad_samples), with_zeros)
        return functional.pad(padded, (0, max(N_FFT - padded.shape[1], 0)))
