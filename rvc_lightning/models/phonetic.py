"""Network of the phonetic content encoder: convolutions over log-mel spectra.

Legend: B items, T samples at 16 kHz, J spectra of 10 ms, F content frames of 20 ms, M mel bands, C channels.

    content frame f      spectrum 2f, of samples [320 f, 320 f + 400)
    receptive field      frames f - 1 - n_blocks * PAST ... f + 1 + n_blocks * AHEAD
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rvc_lightning.audio.frames import (
    CONTENT_REPEAT,
    FRAME_SAMPLES,
    SAMPLE_RATE,
    WINDOW_SAMPLES,
    content_lengths,
    frame_mask,
)
from rvc_lightning.config.options import Settings, option

PAST = 4
AHEAD = 2

PHONE_SHARE = 0.8
"""Share of the phone probabilities in the squared norm of a content frame."""

_FFT_SAMPLES = 512
_LOWEST_HZ = 60.0
# Formants are scaled up to this frequency; the remaining band is stretched or compressed.
_WARPED_TO_HZ = 5500.0
_FLOOR_POWER = 1e-6
# Approximate statistics of log-mel spectra of speech.
_LOG_MEL_MEAN, LOG_MEL_DEVIATION = -3.0, 4.0


@dataclass(frozen=True, kw_only=True)
class PhoneticConfig(Settings, group="model.sizes"):
    """Sizes of the network; the defaults are in `conf/pretraining_train.yaml`."""

    n_mels: int = option(help="Mel bands.", min=1)
    channels: int = option(help="Channels of the blocks.", min=1)
    n_blocks: int = option(help="Number of blocks.", min=1)
    expansion: int = option(help="Width of the inner layer of a block, as a multiple of its channels.", min=1)
    n_phones: int = option(help="Phone classes.", min=1)
    bottleneck: int = option(help="Width of the layer before the phone classifier.", min=1)

    @property
    def content_dim(self) -> int:
        """Channels of the content features."""
        return self.n_phones + self.bottleneck


class PhoneticNetwork(nn.Module):
    """Network from speech to content: phone probabilities and the bottleneck features below them.

    A content frame concatenates the square roots of the phone probabilities and the bottleneck features, scaled to a
    norm of sqrt(C). Euclidean and cosine distance then give the same order, and mostly measure the Hellinger distance
    of phone probabilities. Padding does not affect the content of an item.
    """

    window: Tensor
    mel: Tensor

    def __init__(self, config: PhoneticConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window", torch.hann_window(WINDOW_SAMPLES), persistent=False)
        self.register_buffer("mel", mel_filters(config.n_mels), persistent=False)
        self.stem = nn.Conv1d(config.n_mels, config.channels, 5, stride=2)
        self.blocks = nn.ModuleList(Block(config.channels, config.expansion) for _ in range(config.n_blocks))
        self.norm = nn.LayerNorm(config.channels)
        self.bottleneck = nn.Linear(config.channels, config.bottleneck)
        self.phones = nn.Linear(config.bottleneck, config.n_phones)

    def forward(self, wav16k: Tensor, lengths: Tensor) -> Tensor:
        """Encode speech.

        Args:
            wav16k: [B, T] at 16 kHz, full scale 1, T >= 400.
            lengths: Samples of each item, [B].

        Returns:
            Content [B, F, C], zero in padded frames.
        """
        log_mel = self.log_mel(wav16k)
        bottleneck, log_phones = self.encode(log_mel, lengths)
        frames = content_lengths(lengths)
        return self.content(bottleneck, log_phones) * frame_mask(frames, bottleneck.shape[1]).unsqueeze(2)

    def log_mel(self, wav16k: Tensor, mel: Tensor | None = None) -> Tensor:
        """Compute log-mel spectra in the precision of the weights: [B, T] -> [B, J, M].

        Args:
            wav16k: [B, T] at 16 kHz, full scale 1, T >= 400.
            mel: Mel filters of each item, [B, M, bins], for speaker augmentation; None for the standard filters.
        """
        frames = wav16k.to(self.window.dtype).unfold(1, WINDOW_SAMPLES, FRAME_SAMPLES) * self.window
        power = torch.fft.rfft(frames, _FFT_SAMPLES).abs().square()
        filtered = power @ (self.mel if mel is None else mel).mT
        return ((filtered + _FLOOR_POWER).log() - _LOG_MEL_MEAN) / LOG_MEL_DEVIATION

    def content(self, bottleneck: Tensor, log_phones: Tensor) -> Tensor:
        """Combine the outputs of `encode` into content: [B, F, bottleneck], [B, F, n_phones] -> [B, F, C]."""
        phones = (0.5 * log_phones).exp() * math.sqrt(PHONE_SHARE)
        rest = bottleneck * math.sqrt((1 - PHONE_SHARE) / bottleneck.shape[2])
        return math.sqrt(self.config.content_dim) * torch.cat([phones, rest], dim=2)

    def encode(self, log_mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute bottleneck features and log probabilities of phones.

        Args:
            log_mel: [B, J, M].
            lengths: Samples of each item, [B].

        Returns:
            Bottleneck features [B, F, bottleneck], each frame normalized, and log probabilities [B, F, n_phones].
        """
        count = (lengths - WINDOW_SAMPLES).clamp(min=0) // FRAME_SAMPLES + 1
        spectra = log_mel * frame_mask(count, log_mel.shape[1]).unsqueeze(2)
        total = (log_mel.shape[1] + 1) // CONTENT_REPEAT
        mask = frame_mask(content_lengths(lengths), total).unsqueeze(2)
        hidden = self.stem(functional.pad(spectra, (0, 0, 2, 3)).mT).mT[:, :total]
        for block in self.blocks:
            hidden = block(hidden, mask)
        bottleneck = self.bottleneck(self.norm(hidden))
        bottleneck = functional.layer_norm(bottleneck, bottleneck.shape[-1:])
        return bottleneck, self.phones(bottleneck).log_softmax(dim=2)


class Block(nn.Module):
    """ConvNeXt block: a depthwise convolution over time, two linear layers and a residual (Liu et al. 2022)."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(channels, channels, PAST + 1 + AHEAD, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.inner = nn.Linear(channels, channels * expansion)
        self.outer = nn.Linear(channels * expansion, channels)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """[B, F, C] with mask [B, F, 1] -> [B, F, C]."""
        # As a convolution of images, whose channels may be last in memory: five times faster on a CPU.
        image = functional.pad(hidden * mask, (0, 0, PAST, AHEAD)).mT.unsqueeze(3)
        weight = self.depthwise.weight.unsqueeze(3)
        surroundings = functional.conv2d(image, weight, self.depthwise.bias, groups=image.shape[1]).squeeze(3).mT
        return hidden + self.outer(functional.gelu(self.inner(self.norm(surroundings))))


def mel_filters(n_mels: int, formant_ratio: float = 1.0) -> Tensor:
    """Return triangular filters on O'Shaughnessy's mel scale with a peak of 1, [M, bins].

    Args:
        n_mels: M.
        formant_ratio: Factor of the frequency axis for vocal tract length perturbation (Jaitly and Hinton 2013): the
            filters map a speaker whose formants are higher by this factor to the standard positions.
    """
    top_hz = SAMPLE_RATE / 2
    mels = torch.linspace(_to_mel(_LOWEST_HZ), _to_mel(top_hz), n_mels + 2, dtype=torch.float64)
    hz = 700 * (10 ** (mels / 2595) - 1)
    bend_hz = _WARPED_TO_HZ / max(formant_ratio, 1.0)
    upper_ratio = (top_hz - bend_hz * formant_ratio) / (top_hz - bend_hz)
    edges_hz = torch.where(hz <= bend_hz, hz * formant_ratio, top_hz - (top_hz - hz) * upper_ratio)
    bins_hz = torch.linspace(0, top_hz, _FFT_SAMPLES // 2 + 1, dtype=torch.float64)
    below, peak, above = (edges_hz[start : start + n_mels, None] for start in range(3))
    # A filter is at least one bin wide.
    bin_hz = SAMPLE_RATE / _FFT_SAMPLES
    rising = (bins_hz - below) / (peak - below).clamp(min=bin_hz)
    falling = (above - bins_hz) / (above - peak).clamp(min=bin_hz)
    return torch.minimum(rising, falling).clamp(0, 1).float()


def _to_mel(hz: float) -> float:
    return 2595 * math.log10(1 + hz / 700)


def from_file(stored: Mapping[str, Any]) -> PhoneticNetwork:
    """Build the network from the output of `network_file.to_file`, in float32 and evaluation mode."""
    network = PhoneticNetwork(PhoneticConfig.from_values(stored["config"]))
    network.load_state_dict(stored["weights"])
    return network.eval()
