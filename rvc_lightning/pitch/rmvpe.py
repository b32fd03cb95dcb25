"""Pitch by RMVPE: a U-Net over the mel spectrum and a recurrent layer (specification 13.1).

Source: H. Wei, X. Cao, T. Dan and Y. Chen, "RMVPE: A Robust Model for Vocal Pitch Estimation in Polyphonic Music",
Interspeech 2023. The modules are called what the community's `rmvpe.pt` calls them.

Letters: B items, T samples at 16 kHz, F frames of 10 ms, M = 128 mel bands, C channels.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import librosa
import torch
from torch import Tensor, nn

from rvc_lightning.audio.frames import SAMPLE_RATE, frame_count
from rvc_lightning.io.hub import fetch, known_files
from rvc_lightning.models.layers import build_on_meta
from rvc_lightning.pitch.base import PitchNetwork
from rvc_lightning.pitch.decoding import CREPE_BINS, crepe_cents, peak_pitch
from rvc_lightning.pitch.mel import MEL_BANDS, N_FFT, FrameMel
from rvc_lightning.pitch.weights import check_threshold, fill, read_weights, size_in

_LEVELS = 5
_GRID_FRAMES = 2**_LEVELS
_GROUPS = 4
_BLOCKS = 4
_FEATURE_MAPS = 3
_OTHERWISE = "name the file where it lies: pitch=rmvpe pitch.path=FILE; pitch=swift_f0 needs no download"


class Rmvpe(PitchNetwork):
    """RMVPE with the community's weights.

    The network halves the frame rate five times, so an item is filled up to a multiple of 32 frames: by reflection of
    its spectrum, as the weights have mostly been used, or by zeros where it is too short to be reflected.
    """

    name: ClassVar[str] = "rmvpe"

    cents: Tensor

    def __init__(self, path: str | None = None, threshold: float = 0.03) -> None:
        """Loads the network.

        Args:
            path: The file `rmvpe.pt`; None fetches it from the hub.
            threshold: Salience above which a frame is voiced, 0 to 1.

        Raises:
            ConfigurationError: The threshold is out of range.
            AssetError: The file cannot be had, or holds another network.
        """
        super().__init__()
        check_threshold(threshold)
        self.path, self.threshold = path, threshold
        bands = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=MEL_BANDS, fmin=30, fmax=8000, htk=True)
        self.mel = FrameMel(torch.from_numpy(bands), pad_samples=N_FFT // 2, power_floor=0.0)
        self.register_buffer("cents", crepe_cents(), persistent=False)
        self.network = _load(str(path or fetch(known_files()["pitch/rmvpe/rmvpe.pt"], _OTHERWISE)))

    def track(self, wav16k: Tensor, lengths: Tensor) -> Tensor:
        """As `PitchNetwork.track`; items that fill up to the same number of frames share a batch."""
        log_mel, frames = self.mel(wav16k, lengths), frame_count(lengths)
        filled = (frames + _GRID_FRAMES - 1) // _GRID_FRAMES * _GRID_FRAMES
        f0_hz = log_mel.new_zeros(len(lengths), int(filled.max()))
        for total in filled.unique().tolist():
            items = filled == total
            salience = self.network(fill_up(log_mel[items], frames[items], total))
            f0_hz[items, :total] = self.decode(salience)
        return f0_hz[:, : log_mel.shape[2]]

    def decode(self, salience: Tensor) -> Tensor:
        """Salience [B, F, 360] -> f0_hz [B, F], 0 where unvoiced."""
        return peak_pitch(salience, self.cents.float(), self.threshold, repeat_edges=False)


def fill_up(log_mel: Tensor, frames: Tensor, total: int) -> Tensor:
    """Fills every item up at its own end, by reflection or by zeros where that is too short.

    Args:
        log_mel: [B, M, at least `frames`].
        frames: int64 [B], of each item.
        total: Frames to have.

    Returns:
        [B, M, total].
    """
    position = torch.arange(total, device=log_mel.device)
    last = (frames - 1)[:, None]
    beyond = position > last
    index = torch.where(beyond, 2 * last - position, position).clamp(min=0)
    filled = log_mel.gather(2, index[:, None].expand(-1, log_mel.shape[1], -1))
    too_short = 2 * last < total - 1
    return filled.masked_fill((beyond & too_short)[:, None], 0.0)


class RmvpeNetwork(nn.Module):
    """Log-mel spectrum to the salience of 360 bins, 20 cents apart."""

    def __init__(self, channels: int = 16, hidden_channels: int = 256) -> None:
        """Builds it.

        Args:
            channels: Of the first level; each further one has twice as many.
            hidden_channels: Of the recurrent layer, in each direction.
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
    """Two convolutions beside a shortcut."""

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
    """[B, 1, F, M] -> [B, 16 C, F / 32, M / 32] and the maps of every level."""

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
    """Twice the resolution, joined with the encoder's maps there."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        upsample = nn.ConvTranspose2d(2 * channels, channels, 3, stride=2, padding=1, output_padding=1, bias=False)
        self.conv1 = nn.Sequential(*_normed(upsample))
        self.conv2 = _blocks(2 * channels, channels)

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        """[B, 2 C, F / 2, M / 2], [B, C, F, M] -> [B, C, F, M]."""
        return self.conv2(torch.cat([self.conv1(x), kept], dim=1))


class _Decoder(nn.Module):
    """[B, 32 C, F / 32, M / 32] and the maps of the encoder's levels -> [B, C, F, M]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_DecoderLevel(channels << level) for level in reversed(range(_LEVELS)))

    def forward(self, x: Tensor, maps: list[Tensor]) -> Tensor:
        for layer, kept in zip(self.layers, reversed(maps), strict=True):
            x = layer(x, kept)
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
    """A bidirectional GRU in the precision of its weights, [B, F, C] -> [B, F, 2 C']."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.gru = nn.GRU(in_channels, channels, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        # Automatic casts stop at recurrent layers on some devices.
        with torch.autocast(x.device.type, enabled=False):
            return self.gru(x.to(next(self.gru.parameters())))[0]


def _load(path: str) -> RmvpeNetwork:
    """The network of a file, sizes included. Raises AssetError if it is another one."""
    weights: dict[str, Any] = read_weights(path)
    channels = size_in(weights, "unet.encoder.layers.0.conv.0.conv.0.weight", 0, path)
    hidden_channels = size_in(weights, "fc.0.gru.weight_hh_l0", 1, path)
    return fill(build_on_meta(lambda: RmvpeNetwork(channels, hidden_channels)), weights, path)
