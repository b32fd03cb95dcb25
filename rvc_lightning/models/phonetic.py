"""The network of the phonetic content encoder: convolutions over log-mel spectra.

Letters: B items, T samples at 16 kHz, J spectra of 10 ms, F content frames of 20 ms, M mel bands, C channels.

    content frame f          spectrum 2f, of samples [320 f, 320 f + 400)
    it depends on frames     f - 1 - n_blocks * PAST ... f + 1 + n_blocks * AHEAD, and nothing beyond
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

PAST = 4
AHEAD = 2

PHONE_SHARE = 0.8
"""Of the square of a frame's length, what the phones have."""

_FFT_SAMPLES = 512
_LOWEST_HZ = 60.0
# Above it, a voice with longer or shorter formants is squeezed or stretched into what is left of the band.
_WARPED_TO_HZ = 5500.0
_FLOOR_POWER = 1e-6
# Of log-mel spectra of speech, roughly.
_MEAN, _DEVIATION = -3.0, 4.0


@dataclass(frozen=True)
class PhoneticConfig:
    """Sizes of the network.

    Attributes:
        n_mels: M.
        channels: Width of the blocks.
        n_blocks: Their number.
        expansion: How much wider their inner layer is.
        n_phones: Classes that it tells apart.
        bottleneck: Width of the layer that they are read from.
    """

    n_mels: int = 80
    channels: int = 256
    n_blocks: int = 6
    expansion: int = 2
    n_phones: int = 40
    bottleneck: int = 216

    @property
    def content_dim(self) -> int:
        """C."""
        return self.n_phones + self.bottleneck


class PhoneticNetwork(nn.Module):
    """From speech to content: which phone is likely, and the layer below, which knows what lies between phones.

    A frame is the square roots of the phones' probabilities and that layer, each of one length, sqrt(C) together. So
    Euclidean distance and angle order alike, and mean, for the most part, Hellinger's distance of probabilities.
    An item's content depends on the item alone, and each frame on the frames near it alone.
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
        """Content of speech: [B, T] and samples [B] of 400 or more to [B, F, C], zeros beyond the end of an item."""
        log_mel = self.log_mel(wav16k)
        below, log_phones = self.heard(log_mel, lengths)
        frames = content_lengths(lengths)
        return self.content(below, log_phones) * frame_mask(frames, below.shape[1]).unsqueeze(2)

    def log_mel(self, wav16k: Tensor, mel: Tensor | None = None) -> Tensor:
        """Log-mel spectra in the precision of the weights: [B, T] to [B, J, M].

        Args:
            wav16k: At 16 kHz, full scale 1, 400 samples or more.
            mel: Filters of each item [B, M, bins], as of another speaker; None for the plain ones.
        """
        frames = wav16k.to(self.window.dtype).unfold(1, WINDOW_SAMPLES, FRAME_SAMPLES) * self.window
        power = torch.fft.rfft(frames, _FFT_SAMPLES).abs().square()
        filtered = power @ (self.mel if mel is None else mel).mT
        return ((filtered + _FLOOR_POWER).log() - _MEAN) / _DEVIATION

    def content(self, below: Tensor, log_phones: Tensor) -> Tensor:
        """Content of what `heard` gives: [B, F, bottleneck] and [B, F, n_phones] to [B, F, C]."""
        phones = (0.5 * log_phones).exp() * math.sqrt(PHONE_SHARE)
        rest = below * math.sqrt((1 - PHONE_SHARE) / below.shape[2])
        return math.sqrt(self.config.content_dim) * torch.cat([phones, rest], dim=2)

    def heard(self, log_mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The last layer but one, each frame of length sqrt(bottleneck), and log-probabilities of phones.

        Args:
            log_mel: [B, J, M].
            lengths: Samples of each item [B].
        """
        count = (lengths - WINDOW_SAMPLES).clamp(min=0) // FRAME_SAMPLES + 1
        spectra = log_mel * frame_mask(count, log_mel.shape[1]).unsqueeze(2)
        total = (log_mel.shape[1] + 1) // CONTENT_REPEAT
        mask = frame_mask(content_lengths(lengths), total).unsqueeze(2)
        hidden = self.stem(functional.pad(spectra, (0, 0, 2, 3)).mT).mT[:, :total]
        for block in self.blocks:
            hidden = block(hidden, mask)
        below = self.bottleneck(self.norm(hidden))
        below = functional.layer_norm(below, below.shape[-1:])
        return below, self.phones(below).log_softmax(dim=2)


class Block(nn.Module):
    """A depthwise convolution over time and two layers at each time, beside the identity (Liu et al. 2022)."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(channels, channels, PAST + 1 + AHEAD, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.inner = nn.Linear(channels, channels * expansion)
        self.outer = nn.Linear(channels * expansion, channels)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """[B, F, C] to the same, what lies beyond an item being taken as zero."""
        surroundings = self.depthwise(functional.pad((hidden * mask).mT, (PAST, AHEAD))).mT
        return hidden + self.outer(functional.gelu(self.inner(self.norm(surroundings))))


def mel_filters(n_mels: int, formant_ratio: float = 1.0) -> Tensor:
    """Triangles on the mel scale (O'Shaughnessy's), each with its peak at 1: [M, bins].

    Args:
        n_mels: M.
        formant_ratio: A speaker with formants this much higher looks, through these, as with `formant_ratio` 1 does one
            with formants where they are (Jaitly and Hinton 2013).
    """
    top_hz = SAMPLE_RATE / 2
    mels = torch.linspace(_to_mel(_LOWEST_HZ), _to_mel(top_hz), n_mels + 2, dtype=torch.float64)
    hz = 700 * (10 ** (mels / 2595) - 1)
    bend_hz = _WARPED_TO_HZ / max(formant_ratio, 1.0)
    rest = (top_hz - bend_hz * formant_ratio) / (top_hz - bend_hz)
    edges_hz = torch.where(hz <= bend_hz, hz * formant_ratio, top_hz - (top_hz - hz) * rest)
    bins_hz = torch.linspace(0, top_hz, _FFT_SAMPLES // 2 + 1, dtype=torch.float64)
    below, peak, above = (edges_hz[begin : begin + n_mels, None] for begin in range(3))
    # A filter narrower than a bin still sees the nearest ones.
    bin_hz = SAMPLE_RATE / _FFT_SAMPLES
    rising = (bins_hz - below) / (peak - below).clamp(min=bin_hz)
    falling = (above - bins_hz) / (above - peak).clamp(min=bin_hz)
    return torch.minimum(rising, falling).clamp(0, 1).float()


def _to_mel(hz: float) -> float:
    return 2595 * math.log10(1 + hz / 700)


def to_file(network: PhoneticNetwork) -> dict[str, Any]:
    """Sizes and weights as plain values, the weights in half precision."""
    weights = {name: weight.half().cpu().contiguous() for name, weight in network.state_dict().items()}
    return {"config": vars(network.config), "weights": weights}


def from_file(stored: Mapping[str, Any]) -> PhoneticNetwork:
    """The network that `to_file` gave, in float32 and evaluation mode."""
    network = PhoneticNetwork(PhoneticConfig(**stored["config"]))
    network.load_state_dict(stored["weights"])
    return network.eval()
