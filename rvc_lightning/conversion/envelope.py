"""The loudness of one recording imposed on another (specification 10.5).

Legend: N output samples, M source samples, K points of an envelope, two a second.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_LEAST_RMS = 1e-6


def rms_envelope(audio: Tensor, sample_rate: int) -> Tensor:
    """Root mean square over a second around every half second: [N] -> [K], K = N // (sample_rate // 2) + 1.

    Beyond the ends there is silence.
    """
    hop_samples = sample_rate // 2
    squares = F.pad(audio.float().square(), (hop_samples, hop_samples))
    return squares.unfold(0, 2 * hop_samples, hop_samples).mean(dim=1).sqrt()


def mix_envelope(converted: Tensor, sample_rate: int, source: Tensor, source_rate: int, share: float) -> Tensor:
    """Gives `converted` the loudness of `source`, in part or in full.

    Args:
        converted: [N].
        sample_rate: Rate of `converted` in Hz.
        source: The recording that was converted, [M].
        source_rate: Rate of `source` in Hz.
        share: Of the loudness `converted` has already: 1 leaves it alone, 0 imposes that of `source`.

    Returns:
        [N]; silence where `share` is below 1 and `source` is silent.
    """
    if share == 1 or converted.numel() == 0:
        return converted
    wanted = _stretched(rms_envelope(source, source_rate), converted.numel())
    present = _stretched(rms_envelope(converted, sample_rate), converted.numel()).clamp(min=_LEAST_RMS)
    return converted * (wanted / present).pow(1 - share)


def _stretched(envelope: Tensor, samples: int) -> Tensor:
    """[K] -> [samples], linearly, each point standing for the middle of its share of the samples."""
    # float64 where positions are computed: float32 has too few digits for the samples of a long recording.
    return F.interpolate(envelope.double()[None, None], size=samples, mode="linear")[0, 0].to(torch.float32)
