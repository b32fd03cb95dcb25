"""Network of speaker embeddings: convolutions over mel spectra, and statistics over time.

Source: D. Snyder et al., "X-Vectors: Robust DNN Embeddings for Speaker Recognition", 2018.

Legend: B items, J spectra of 10 ms, M mel bands, C channels, E channels of an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rvc_lightning.config.options import Settings, option
from rvc_lightning.models.phonetic import LOG_MEL_DEVIATION

_FIRST_KERNEL, _STRIDE = 5, 2
_DILATIONS = (1, 2, 3)
MIN_SPECTRA = _FIRST_KERNEL + _STRIDE * 2 * sum(_DILATIONS) + _STRIDE
"""Fewest spectra of an item: two frames after all convolutions."""
_EPSILON = 1e-4
_MAX_MAGNITUDE = 20.0
"""Largest magnitude of a band, relative to the RMS of the item."""


@dataclass(frozen=True, kw_only=True)
class SpeakerConfig(Settings, group="model.sizes"):
    """Sizes of the network; the defaults are in `conf/pretraining_speaker.yaml`."""

    n_mels: int = option(help="Mel bands", min=1)
    channels: int = option(help="Channels of the convolutions", min=1)
    embedding: int = option(help="Channels of an embedding", min=1)


class SpeakerNetwork(nn.Module):
    """Map log-mel spectra, as `PhoneticNetwork.log_mel` computes them, to unit vectors that represent the speaker."""

    def __init__(self, config: SpeakerConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.convolutions = nn.ModuleList(
            [
                nn.Conv1d(config.n_mels, channels, _FIRST_KERNEL, stride=_STRIDE),
                *(nn.Conv1d(channels, channels, 3, dilation=dilation) for dilation in _DILATIONS),
                nn.Conv1d(channels, 2 * channels, 1),
            ]
        )
        widths = [channels] * (1 + len(_DILATIONS)) + [2 * channels]
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in widths)
        self.embedding = nn.Linear(4 * channels, config.embedding)

    def forward(self, log_mel: Tensor) -> Tensor:
        """[B, J, M], J >= `MIN_SPECTRA` -> [B, E]; the level of an item has no effect."""
        # Not the logarithm, in which pauses and noise weigh as much as voiced speech.
        magnitude = (0.5 * LOG_MEL_DEVIATION * log_mel).exp()
        x = (magnitude / magnitude.square().mean((1, 2), keepdim=True).sqrt()).clamp(max=_MAX_MAGNITUDE)
        x = (x - x.mean((1, 2), keepdim=True)).mT
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = norm(functional.relu(convolution(x)))
        statistics = torch.cat([x.mean(2), (x.var(2) + _EPSILON).sqrt()], dim=1)
        return functional.normalize(self.embedding(statistics), dim=1)


def from_file(stored: Mapping[str, Any]) -> SpeakerNetwork:
    """Build the network from the output of `network_file.to_file`, in float32 and evaluation mode."""
    network = SpeakerNetwork(SpeakerConfig.from_values(stored["config"]))
    network.load_state_dict(stored["weights"])
    return network.eval()
