"""Lowering the rate of a signal by a whole factor (specification 4.9.1; windowed sinc, Kaiser and Schafer 1980).

Legend: B batch, C channels, N samples.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

ZERO_CROSSINGS = 64
"""Of the sinc on each side of its centre."""
ROLLOFF = 0.9475937167399596
"""Edge of the low-pass, as a share of the highest frequency that the lower rate holds."""
KAISER_BETA = 14.769656459379492
"""Shape of the window: the more, the less passes above the edge, and the wider the edge is."""


def lowpass_kernel(factor: int) -> Tensor:
    """Taps of the low-pass before every `factor`-th sample is kept: float32 [2·width + factor].

    Tap `width` lies on the sample that is kept. Computed in float64.
    """
    width = math.ceil(ZERO_CROSSINGS * factor / ROLLOFF)
    crossings = np.arange(-width, width + factor) * ROLLOFF / factor
    crossings = crossings.clip(-ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = np.i0(KAISER_BETA * np.sqrt(1 - (crossings / ZERO_CROSSINGS) ** 2)) / np.i0(KAISER_BETA)
    kernel = ROLLOFF / factor * np.sinc(crossings) * window
    # By numpy, since torch would make it on the meta device where a voice is built before it is read.
    return torch.from_numpy(kernel.astype(np.float32))


class Decimator(nn.Module):
    """Low-pass, then every `factor`-th sample, each channel by itself; always in float32."""

    kernel: Tensor

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.register_buffer("kernel", lowpass_kernel(factor), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, N] -> [B, C, N / factor]; N divides by the factor."""
        if self.factor == 1:
            return x
        with torch.autocast(x.device.type, enabled=False):
            width = (len(self.kernel) - self.factor) // 2
            channels = x.shape[1]
            # A group for each channel: on a CPU a fifth of the time of channels taken as items of the batch.
            kernel = self.kernel.float().expand(channels, 1, -1)
            padded = F.pad(x.float(), (width, width))
            return F.conv1d(padded, kernel, stride=self.factor, groups=channels).to(x.dtype)
