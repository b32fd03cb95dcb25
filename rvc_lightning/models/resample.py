"""Decimation by an integer factor (SPECIFICATION.md, section 4.9.1; windowed sinc, Kaiser and Schafer 1980).

Legend: B batch, C channels, N samples.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

ZERO_CROSSINGS = 64
"""Zero crossings of the sinc on each side of its center."""
ROLLOFF = 0.9475937167399596
"""Cutoff of the low-pass, as a fraction of the Nyquist frequency of the lower rate."""
KAISER_BETA = 14.769656459379492
"""Shape of the Kaiser window: larger values attenuate the stopband more and widen the transition band."""


def lowpass_kernel(factor: int) -> Tensor:
    """Return the taps of the anti-aliasing filter, float32 [2·width + factor], computed in float64.

    Tap `width` is centered on the sample that is kept.
    """
    width = math.ceil(ZERO_CROSSINGS * factor / ROLLOFF)
    crossings = np.arange(-width, width + factor) * ROLLOFF / factor
    crossings = crossings.clip(-ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = np.i0(KAISER_BETA * np.sqrt(1 - (crossings / ZERO_CROSSINGS) ** 2)) / np.i0(KAISER_BETA)
    kernel = ROLLOFF / factor * np.sinc(crossings) * window
    # Computed by NumPy, so that the kernel has values even if the network is built on the meta device.
    return torch.from_numpy(kernel.astype(np.float32))


class Decimator(nn.Module):
    """Low-pass filter and decimation of each channel, always in float32."""

    kernel: Tensor

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.register_buffer("kernel", lowpass_kernel(factor), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, N] -> [B, C, N / factor]; N is a multiple of the factor."""
        if self.factor == 1:
            return x
        with torch.autocast(x.device.type, enabled=False):
            width = (len(self.kernel) - self.factor) // 2
            channels = x.shape[1]
            # One group per channel takes a fifth of the time of channels as batch items on a CPU.
            kernel = self.kernel.float().expand(channels, 1, -1)
            padded = F.pad(x.float(), (width, width))
            return F.conv1d(padded, kernel, stride=self.factor, groups=channels).to(x.dtype)
