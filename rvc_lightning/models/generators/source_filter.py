"""Source-filter generator: pulses and noise, each shaped by a filter that a small network predicts for each frame.

Sources: J. Engel et al., "DDSP: Differentiable Digital Signal Processing", 2020; the filters follow Z. Liu et al.,
"Neural Homomorphic Vocoder", 2020.

    latent, speaker ──▶ frame network ──▶ cepstra of two filters
                                             │          │
    f0_hz ──▶ pulses ── windows of two hops ─▶ × ──▶ + ◀─ × ◀── windows of two hops ── noise
                                                     ▼
                                                overlap-add ──▶ waveform

The network predicts frame-rate parameters only, so it is intelligible after minutes of training instead of hours, at
about a tenth of the computation of HiFi-GAN. Detail within a frame of 10 ms is smoothed.

Legend: B batch, L latent channels, T frames, G speaker channels, N = T·hop samples, C channels, W = 4·hop FFT size,
S = W/2 + 1 bins, Q quefrencies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rvc_lightning.models.config import SynthesizerConfig
from rvc_lightning.models.generators.base import Generator
from rvc_lightning.models.generators.hifigan import ParallelBlocks, residual_blocks
from rvc_lightning.models.layers import LEAKY_SLOPE
from rvc_lightning.models.noise import randn_like
from rvc_lightning.models.source import at_sample_rate, phase_cycles

TRANSFORM_HOPS = 4
"""FFT size in hops: a window of two hops, and one hop on each side for the impulse response of the filter."""
MAX_LOG_GAIN = 4.0
"""Largest gain of a filter, as a natural logarithm, which keeps the output finite."""
INITIAL_LOG_GAIN = -4.0
"""Gain of both filters before training, as a natural logarithm."""


class Pulses(nn.Module):
    """Pulse train of power 1: all harmonics of f0 below the Nyquist frequency, equally loud and in phase."""

    def __init__(self, sample_rate: int, hop_samples: int) -> None:
        super().__init__()
        self.sample_rate, self.hop_samples = sample_rate, hop_samples

    @torch.no_grad()
    def forward(self, f0_hz: Tensor) -> Tensor:
        """f0_hz [B, T] (0 = unvoiced) -> float32 [B, N], zero in unvoiced frames.

        The sum of K cosines has a closed form, Dirichlet's kernel. K is constant within a frame, so that the highest
        harmonic starts and ends at frame borders.
        """
        with torch.autocast(f0_hz.device.type, enabled=False):
            f0_hz = f0_hz.float()
            harmonics = (torch.ceil(self.sample_rate / 2 / f0_hz.clamp(min=1.0)) - 1).clamp(min=1)
            harmonics = harmonics.repeat_interleave(self.hop_samples, dim=1)
            voiced = (f0_hz > 0).repeat_interleave(self.hop_samples, dim=1)
            cycles = phase_cycles(at_sample_rate(f0_hz, self.hop_samples, "voiced"), self.sample_rate)
            # From -pi/2 to pi/2; the pulse is at 0.
            half = torch.pi * (cycles - torch.round(cycles))
            kernel = torch.sin((2 * harmonics + 1) * half) / torch.sin(half)
            # Limit at the pulse, where both sines are 0.
            kernel = torch.where(half.abs() * harmonics < 1e-3, 2 * harmonics + 1, kernel)
            return torch.where(voiced, (kernel - 1) / torch.sqrt(2 * harmonics), 0.0)


class CepstralFilter(nn.Module):
    """Frequency response of each frame from its complex cepstrum: log gain from the even part, phase from the odd."""

    cosines: Tensor
    sines: Tensor

    def __init__(self, quefrencies: int, n_bins: int) -> None:
        """Initialize the transform.

        Args:
            quefrencies: Q, without quefrency 0, which is the gain.
            n_bins: S.
        """
        super().__init__()
        number = torch.arange(quefrencies + 1, dtype=torch.float64)
        angle = number[:, None] * torch.arange(n_bins, dtype=torch.float64) * torch.pi / (n_bins - 1)
        # Cepstra of speech decay with quefrency (NHV, section 2.3); the scale makes all coefficients similar in size.
        scale = 1 / number.clamp(min=1)[:, None]
        self.register_buffer("cosines", (scale * torch.cos(angle)).float(), persistent=False)
        self.register_buffer("sines", (scale * torch.sin(angle)).float()[1:], persistent=False)

    def forward(self, even: Tensor, odd: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Compute gain and phase.

        Args:
            even: Even part of the cepstrum, [B, T, Q + 1].
            odd: Odd part, [B, T, Q]; None for zero phase.

        Returns:
            Gain [B, T, S], and phase [B, T, S] or None.
        """
        gain = torch.exp((even @ self.cosines).clamp(max=MAX_LOG_GAIN))
        return gain, None if odd is None else odd @ self.sines


class SourceFilter(Generator):
    """Pulses and noise through filters that change from frame to frame.

    `initial_channels`, `resblock_kernel_sizes` and `resblock_dilations` describe the frame-rate network. With
    `variational=False`, the content decoder does its work. `upsample_rates` is unused.
    """

    window: Tensor

    def __init__(self, config: SynthesizerConfig) -> None:
        super().__init__(config)
        self.hop_samples, self.quefrencies = config.hop_samples, config.hop_samples // 2
        self.source = Pulses(config.sample_rate, config.hop_samples)
        self.variational, channels = config.variational, config.latent_channels
        if config.variational:
            channels = config.initial_channels
            self.conv_pre = nn.Conv1d(config.latent_channels, channels, 7, padding=3)
            self.cond = nn.Conv1d(config.speaker_channels, channels, 1)
            self.blocks = ParallelBlocks(residual_blocks(channels, config))
        # Channels of the even and odd part of the pulse filter and of the even part of the noise filter.
        self._parts = (self.quefrencies + 1, self.quefrencies, self.quefrencies + 1)
        self.conv_post = nn.Conv1d(channels, sum(self._parts), 3, padding=1)
        self.filter = CepstralFilter(self.quefrencies, TRANSFORM_HOPS * config.hop_samples // 2 + 1)
        self.register_buffer("window", torch.hann_window(2 * config.hop_samples), persistent=False)
        bias = torch.zeros(sum(self._parts))
        bias[[0, self._parts[0] + self._parts[1]]] = INITIAL_LOG_GAIN
        self.conv_post.bias = nn.Parameter(bias)
        if not config.variational:
            # The cepstra of a deep network with random weights are far too large.
            nn.init.zeros_(self.conv_post.weight)

    def forward(self, latent: Tensor, f0_hz: Tensor | None, speaker_code: Tensor) -> Tensor:
        """Latent [B, L, T], f0_hz [B, T] (0 = unvoiced), speaker_code [B, G, 1] -> waveform [B, 1, N]."""
        assert f0_hz is not None
        x = self.blocks(self.conv_pre(latent) + self.cond(speaker_code)) if self.variational else latent
        cepstra = self.conv_post(F.leaky_relu(x, LEAKY_SLOPE)).mT
        # Half precision is not accurate enough for Fourier transforms.
        with torch.autocast(latent.device.type, enabled=False):
            pulses = self.source(f0_hz).to(self.window.dtype)
            cepstra = cepstra.to(self.window.dtype)
            return self._filter_sources(pulses, randn_like(pulses), cepstra).unsqueeze(1).clamp(-1, 1)

    def _filter_sources(self, pulses: Tensor, noise: Tensor, cepstra: Tensor) -> Tensor:
        """Filter pulses and noise [B, N] by cepstra [B, T, 3Q + 2] and add them: [B, N]."""
        voice_even, voice_odd, noise_even = cepstra.split(self._parts, dim=2)
        voice_gain, voice_phase = self.filter(voice_even, voice_odd)
        noise_gain, _ = self.filter(noise_even)
        voice = self._spectra(pulses) * torch.polar(voice_gain, voice_phase)
        return self._overlap_add(torch.fft.irfft(voice + self._spectra(noise) * noise_gain))

    def _spectra(self, source: Tensor) -> Tensor:
        """Transform a window of two hops around the center of each frame: [B, N] -> complex [B, T, S]."""
        hop = self.hop_samples
        pieces = F.pad(source, (hop // 2, hop - hop // 2)).unfold(1, 2 * hop, hop) * self.window
        return torch.fft.rfft(F.pad(pieces, (hop, hop)))

    def _overlap_add(self, pieces: Tensor) -> Tensor:
        """Overlap and add: [B, T, W] -> [B, N]; the piece of a frame starts 1.5 hops before the frame."""
        hop, frames = self.hop_samples, pieces.shape[1]
        columns = pieces.unflatten(2, (TRANSFORM_HOPS, hop))
        shifted = [F.pad(columns[:, :, k], (0, 0, k, TRANSFORM_HOPS - 1 - k)) for k in range(TRANSFORM_HOPS)]
        whole = torch.stack(shifted).sum(0).flatten(1)
        return whole[:, hop + hop // 2 :][:, : frames * hop]
