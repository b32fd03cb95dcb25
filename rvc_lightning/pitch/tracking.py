"""Pitch of generated audio."""

from __future__ import annotations

import torch
from torch import Tensor

from rvc_lightning.audio.decode import resample
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.pitch.base import PitchTracker, measure


def track(extract: PitchTracker, waveform: Tensor, sample_rate: int) -> Tensor:
    """Estimate the pitch of a waveform at any sample rate.

    Args:
        extract: Extractor or network.
        waveform: Mono waveform, [N], on any device.
        sample_rate: Sample rate in Hz.

    Returns:
        f0_hz on the host, [N * 100 / sample_rate + 1]; 0 where unvoiced.
    """
    audio = waveform.detach().float().cpu().numpy()
    return torch.from_numpy(measure(extract, resample(audio, sample_rate, SAMPLE_RATE)))
