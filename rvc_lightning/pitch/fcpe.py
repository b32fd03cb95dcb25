"""Pitch by FCPE: wide convolutions over the mel spectrum (SPECIFICATION.md, section 13.2).

Source: Y. Luo et al., "FCPE: A Fast Context-based Pitch Estimation Model", 2025. The weights are read from the package
`torchfcpe` without importing it.

Legend: B items, T samples at 16 kHz, F frames of 10 ms, M = 128 mel bands, C channels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from rvc_lightning.audio.frames import FRAME_SAMPLES, SAMPLE_RATE, frame_count, frame_mask
from rvc_lightning.audio.spectra import mel_filterbank
from rvc_lightning.io.hub import fetch, known_files
from rvc_lightning.pitch.base import PitchNetwork
from rvc_lightning.pitch.decoding import peak_pitch
from rvc_lightning.pitch.mel import MEL_BANDS, N_FFT, FrameMel
from rvc_lightning.pitch.octave import find_high_pitch
from rvc_lightning.pitch.weights import load_network, packaged_file

_PACKAGED = ("torchfcpe", "assets/fcpe_c_v001.pt")
_ALTERNATIVES = (
    "'pip install --no-deps torchfcpe' installs the weights, or set pitch=fcpe pitch.path=FILE; "
    "pitch=swift_f0 needs no download"
)
_GROUPS = 4
_EPSILON = 1e-5
_KERNEL = 31

_NAMES = (
    # (pattern of the name in published files, name in `FcpeNetwork`)
    (r"input_stack\.0\.", "first."),
    (r"input_stack\.1\.", "group_norm."),
    (r"input_stack\.3\.", "second."),
    (r"net\.encoder_layers\.(\d+)\.conformer\.net\.0\.", r"layers.\1.norm."),
    (r"net\.encoder_layers\.(\d+)\.conformer\.net\.2\.", r"layers.\1.expand."),
    (r"net\.encoder_layers\.(\d+)\.conformer\.net\.4\.conv\.", r"layers.\1.depthwise."),
    (r"net\.encoder_layers\.(\d+)\.conformer\.net\.6\.", r"layers.\1.project."),
    (r"output_proj\.", "output."),
)
_UNUSED = re.compile(r"net\.encoder_layers\.\d+\.norm\.(weight|bias)|gaussian_blurred_cent_mask")


class Fcpe(PitchNetwork):
    """FCPE with the weights of its authors.

    One normalization averages over all frames of an item, or of a part of recordings over a minute. The network finds
    no pitch above 1100 Hz, which a second pass adds.
    """

    name: ClassVar[str] = "fcpe"

    def __init__(self, path: str | None = None, threshold: float = 0.3) -> None:
        """Load the network.

        Args:
            path: File of weights; None for the file of an installed `torchfcpe`, or else a download from the hub.
            threshold: Salience that voiced frames exceed, 0 to 1.

        Raises:
            ConfigurationError: The threshold is out of range.
            AssetError: The file cannot be downloaded or contains another network.
        """
        super().__init__(threshold)
        bands = mel_filterbank(SAMPLE_RATE, N_FFT, MEL_BANDS)
        self.mel = FrameMel(bands, pad_samples=(N_FFT - FRAME_SAMPLES) // 2, power_floor=1e-9)
        found = path or packaged_file(*_PACKAGED) or fetch(known_files()["pitch/fcpe/fcpe.pt"], _ALTERNATIVES)
        self.network = load_network(found, _renamed, _build)

    def track(self, wav16k: Tensor, lengths: Tensor) -> Tensor:
        """Estimate the pitch, as `PitchNetwork.track`."""
        return find_high_pitch(self._track_once, wav16k, lengths, self._track_once(wav16k, lengths))

    def _track_once(self, wav16k: Tensor, lengths: Tensor) -> Tensor:
        return self.decode(self.network(self.mel(wav16k, lengths), frame_count(lengths)))

    def decode(self, salience: Tensor) -> Tensor:
        """Decode salience [B, F, 360] into f0_hz [B, F], 0 where unvoiced."""
        return peak_pitch(salience, self.network.cent_table.float(), self.threshold, repeat_edges=True)


class FcpeNetwork(nn.Module):
    """Network from log-mel spectra to the salience of S bins evenly spaced in cents."""

    cent_table: Tensor

    def __init__(self, channels: int = 512, n_layers: int = 6, bins: int = 360) -> None:
        """Build the network.

        Args:
            channels: C.
            n_layers: Number of wide convolutions.
            bins: S.
        """
        super().__init__()
        self.first = nn.Conv1d(MEL_BANDS, channels, 3, padding=1)
        self.group_norm = _MaskedGroupNorm(channels)
        self.second = nn.Conv1d(channels, channels, 3, padding=1)
        self.layers = nn.ModuleList(_WideConvolution(channels) for _ in range(n_layers))
        self.norm = nn.LayerNorm(channels)
        self.output = nn.Linear(channels, bins)
        self.register_buffer("cent_table", torch.zeros(bins))

    def forward(self, log_mel: Tensor, frames: Tensor) -> Tensor:
        """[B, M, F] and the frames of each item [B] -> float32 [B, F, S], 0 to 1."""
        mask = frame_mask(frames, log_mel.shape[2])
        x = self.first(log_mel.to(self.first.weight) * mask[:, None])
        x = functional.leaky_relu(self.group_norm(x, mask), 0.01)
        x = self.second(x * mask[:, None]).mT
        for layer in self.layers:
            x = x + layer(x, mask)
        return self.output(self.norm(x)).float().sigmoid()


class _MaskedGroupNorm(nn.Module):
    """Group norm (Wu and He 2018) over unpadded frames, in float32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, C, F] with mask [B, F] -> [B, C, F]."""
        with torch.autocast(x.device.type, enabled=False):
            grouped = x.float().unflatten(1, (_GROUPS, -1))
            inside = mask[:, None, None]
            count = mask.sum(dim=1)[:, None, None, None] * grouped.shape[2]
            mean = (grouped * inside).sum(dim=(2, 3), keepdim=True) / count
            variance = ((grouped - mean) * inside).square().sum(dim=(2, 3), keepdim=True) / count
            normed = ((grouped - mean) * (variance + _EPSILON).rsqrt()).flatten(1, 2)
            return (normed * self.weight[:, None] + self.bias[:, None]).to(x)


class _WideConvolution(nn.Module):
    """Convolution module of a conformer (Gulati et al. 2020) over 31 frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = 2 * channels
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, 2 * inner)
        self.depthwise = nn.Conv1d(inner, inner, _KERNEL, padding=_KERNEL // 2, groups=inner)
        self.project = nn.Linear(inner, channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, F, C] with mask [B, F] -> [B, F, C]."""
        x = functional.glu(self.expand(self.norm(x))) * mask[:, :, None]
        return self.project(functional.silu(self.depthwise(x.mT).mT))


def _build(weights: Mapping[str, Any]) -> FcpeNetwork:
    n_layers = sum(name.endswith(".depthwise.weight") for name in weights)
    return FcpeNetwork(len(weights["first.weight"]), n_layers, len(weights["output.weight"]))


def _renamed(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the weights of a file, fold weight norm, and convert convolutions over one frame to matrices."""
    weights = {}
    for name, tensor in stored["model"].items():
        if _UNUSED.fullmatch(name):
            continue
        for pattern, replacement in _NAMES:
            name = re.sub(f"^{pattern}", replacement, name)
        weights[name] = tensor[:, :, 0] if name.endswith(("expand.weight", "project.weight")) else tensor
    if {"output.weight_g", "output.weight_v"} <= weights.keys():
        direction = weights.pop("output.weight_v")
        weights["output.weight"] = functional.normalize(direction, dim=1) * weights.pop("output.weight_g")
    return weights
