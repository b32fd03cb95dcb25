"""Pitch by RMVPE: a U-Net over the mel spectrum and a recurrent layer (SPECIFICATION.md, section 13.1).

Source: H. Wei, X. Cao, T. Dan and Y. Chen, "RMVPE: A Robust Model for Vocal Pitch Estimation in Polyphonic Music",
Interspeech 2023. Module names match the published file `rmvpe.pt`.

Legend: B items, T samples at 16 kHz, F frames of 10 ms, M = 128 mel bands, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rvc_lightning.audio.frames import SAMPLE_RATE, frame_count
from rvc_lightning.io.hub import fetch, known_files
from rvc_lightning.io.imports import import_compiled
from rvc_lightning.pitch.base import PitchNetwork
from rvc_lightning.pitch.decoding import CREPE_BINS, crepe_cents, peak_pitch
from rvc_lightning.pitch.mel import MEL_BANDS, N_FFT, FrameMel
from rvc_lightning.pitch.weights import load_network

_LEVELS = 5
_GRID_FRAMES = 2**_LEVELS
_GROUPS = 4
_BLOCKS = 4
_FEATURE_MAPS = 3
_ALTERNATIVES = "set pitch=rmvpe pitch.path=FILE; pitch=swift_f0 needs no download"


class Rmvpe(PitchNetwork):
    """RMVPE with the published weights.

    The network halves the frame rate five times, so the spectrum of an item is padded to a multiple of 32 frames, by
    reflection, or by zeros if too short.
    """

    name: ClassVar[str] = "rmvpe"

    cents: Tensor

    def __init__(self, path: str | None = None, threshold: float = 0.03) -> None:
        """Load the network.

        Args:
            path: File `rmvpe.pt`; None for a download from the hub.
            threshold: Salience that voiced frames exceed, 0 to 1.

        Raises:
            ConfigurationError: The threshold is out of range.
            AssetError: The file cannot be downloaded or contains another network.
        """
        super().__init__(threshold)
        bands = import_compiled("librosa.filters").mel(
            sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=MEL_BANDS, fmin=30, fmax=8000, htk=True
        )
        self.mel = FrameMel(torch.from_numpy(bands), pad_samples=N_FFT // 2, power_floor=0.0)
        self.register_buffer("cents", crepe_cents(), persistent=False)
        weights_file = path or fetch(known_files()["pitch/rmvpe/rmvpe.pt"], _ALTERNATIVES)
        self.network = load_network(weights_file, dict, _build)

    def track(self, wav16k: Tensor, lengths: Tensor) -> Tensor:
        """Estimate the pitch, as `PitchNetwork.track`; items of the same padded length share a batch."""
        log_mel, frames = self.mel(wav16k, lengths), frame_count(lengths)
        padded = (frames + _GRID_FRAMES - 1) // _GRID_FRAMES * _GRID_FRAMES
        f0_hz = log_mel.new_zeros(len(lengths), int(padded.max()))
        for total in padded.unique().tolist():
            items = padded == total
            salience = self.network(pad_spectrum(log_mel[items], frames[items], total))
            f0_hz[items, :total] = self.decode(salience)
        return f0_hz[:, : log_mel.shape[2]]

    def decode(self, salience: Tensor) -> Tensor:
        """Decode salience [B, F, 360] into f0_hz [B, F], 0 where unvoiced."""
        return peak_pitch(salience, self.cents.float(), self.threshold, repeat_edges=False)


def pad_spectrum(log_mel: Tensor, frames: Tensor, total: int) -> Tensor:
    """Pad each item at its end by reflection, or by zeros if it is too short.

    Args:
        log_mel: [B, M, F], F >= max(frames).
        frames: Frames of each item, int64 [B].
        total: Padded length in frames.

    Returns:
        [B, M, total].
    """
    position = torch.arange(total, device=log_mel.device)
    last = (frames - 1)[:, None]
    is_padding = position > last
    index = torch.where(is_padding, 2 * last - position, position).clamp(min=0)
    reflected = log_mel.gather(2, index[:, None].expand(-1, log_mel.shape[1], -1))
    too_short = 2 * last < total - 1
    return reflected.masked_fill((is_padding & too_short)[:, None], 0.0)


class RmvpeNetwork(nn.Module):
    """Network from log-mel spectra to the salience of 360 bins, 20 cents apart."""

    def __init__(self, channels: int = 16, hidden_channels: int = 256) -> None:
        """Build the network.

        Args:
            channels: Channels of the first level, doubled at each further level.
            hidden_channels: Channels of the recurrent layer in each direction.
        """
        super().__init__()
        self.unet = _UNet(channels)
        self.cnn = nn.Conv2d(channels, _FEATURE_MAPS, 3, padding=1)
        self.fc = nn.Sequential(
            _Recurrent(_FEATURE_MAPS * MEL_BANDS, hidden_channels), nn.Linear(2 * hidden_channels, CREPE_BINS)
        )

    def forward(self, log_mel: Tensor) -> Tensor:
        """[B, M, F], F a multiple of 32 -> float32 [B, F, 360], 0 to 1."""
        maps = self.cnn(self.unet(log_mel.to(self.cnn.weight).mT[:, None]))
        return self.fc(maps.transpose(1, 2).flatten(2)).float().sigmoid()


class _Block(nn.Module):
    """Two convolutions with a residual connection."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *_normed(nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)),
            *_normed(nn.Conv2d(channels, channels, 3, padding=1, bias=False)),
        )
        if in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, F, M] -> [B, C', F, M]."""
        return self.conv(x) + (self.shortcut(x) if hasattr(self, "shortcut") else x)


def _normed(convolution: nn.Conv2d | nn.ConvTranspose2d) -> tuple[nn.Module, ...]:
    return convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU()


def _blocks(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(channels if number else in_channels, channels) for number in range(_BLOCKS)))


class _Group(nn.Module):
    """Four blocks at one resolution, [B, C, F, M] -> [B, C', F, M]."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = _blocks(in_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _Encoder(nn.Module):
    """[B, 1, F, M] -> [B, 16 C, F / 32, M / 32] and the feature maps of every level."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(1)
        widths = [1] + [channels << level for level in range(_LEVELS)]
        self.layers = nn.ModuleList(_Group(*pair) for pair in pairwise(widths))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x, maps = self.bn(x), []
        for layer in self.layers:
            maps.append(layer(x))
            x = nn.functional.avg_pool2d(maps[-1], 2)
        return x, maps


class _Intermediate(nn.Module):
    """[B, 16 C, F / 32, M / 32] -> [B, 32 C, F / 32, M / 32]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = channels << _LEVELS
        self.layers = nn.Sequential(*(_Group(width if number else width // 2, width) for number in range(_GROUPS)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class _DecoderLevel(nn.Module):
    """Upsampling by 2, concatenated with the feature maps of the encoder."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        upsample = nn.ConvTranspose2d(2 * channels, channels, 3, stride=2, padding=1, output_padding=1, bias=False)
        self.conv1 = nn.Sequential(*_normed(upsample))
        self.conv2 = _blocks(2 * channels, channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """[B, 2 C, F / 2, M / 2], [B, C, F, M] -> [B, C, F, M]."""
        return self.conv2(torch.cat([self.conv1(x), skip], dim=1))


class _Decoder(nn.Module):
    """[B, 32 C, F / 32, M / 32] and the feature maps of the encoder -> [B, C, F, M]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_DecoderLevel(channels << level) for level in reversed(range(_LEVELS)))

    def forward(self, x: Tensor, maps: list[Tensor]) -> Tensor:
        for layer, skip in zip(self.layers, reversed(maps), strict=True):
            x = layer(x, skip)
        return x


class _UNet(nn.Module):
    """[B, 1, F, M] -> [B, C, F, M], F and M multiples of 32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.encoder = _Encoder(channels)
        self.intermediate = _Intermediate(channels)
        self.decoder = _Decoder(channels)

    def forward(self, x: Tensor) -> Tensor:
        x, maps = self.encoder(x)
        return self.decoder(self.intermediate(x), maps)


class _Recurrent(nn.Module):
    """Bidirectional GRU in the precision of its weights, [B, F, C] -> [B, F, 2 C']."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.gru = nn.GRU(in_channels, channels, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        # Autocast does not support recurrent layers on some devices.
        with torch.autocast(x.device.type, enabled=False):
            return self.gru(x.to(next(self.gru.parameters())))[0]


def _build(weights: Mapping[str, Any]) -> RmvpeNetwork:
    channels = len(weights["unet.encoder.layers.0.conv.0.conv.0.weight"])
    return RmvpeNetwork(channels, hidden_channels=weights["fc.0.gru.weight_hh_l0"].shape[1])
