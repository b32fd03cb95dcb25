"""Synthesizer: content and pitch -> waveform of a voice (SPECIFICATION.md, sections 4 and 9; VITS, Kim et al. 2021).

    recording ──▶ posterior encoder ──▶ z ──────────────▶ generator ──▶ waveform     training
                                        │ flow ▲ flow⁻¹
    content, pitch ──▶ text encoder ──▶ z_p ────┘                                     conversion: flow⁻¹, generator

With `variational=False` there are neither text encoder nor posterior encoder nor flow:

    content, pitch, speaker ──▶ content decoder ──▶ latent ──▶ generator ──▶ waveform

Legend: B batch, T frames, C content channels, S spectrogram bins, L latent channels, G speaker channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rvc_lightning.models.config import SynthesizerConfig
from rvc_lightning.models.content_decoder import ContentDecoder
from rvc_lightning.models.flow import Flow
from rvc_lightning.models.generators import build_generator
from rvc_lightning.models.posterior_encoder import PosteriorEncoder
from rvc_lightning.models.text_encoder import Gaussian, TextEncoder, sample

PRIOR_NOISE_SCALE = 0.66666
"""Scale of the prior's standard deviation in conversion, the default of all RVC tools."""


class LatentOutput(NamedTuple):
    """Random latent of the training pass."""

    prior: Gaussian
    """Distribution of the prior latent, from content and pitch."""
    posterior: Gaussian
    """Distribution of the latent, from the recording."""
    prior_sample: Tensor
    """Sample of the posterior, mapped by the flow, [B, L, T]."""


class SynthesizerOutput(NamedTuple):
    """Output of the training pass."""

    waveform: Tensor
    """Generated segments, [B, 1, segment_frames·hop]."""
    start_frames: Tensor
    """First frame of each segment, [B]."""
    latent: LatentOutput | None
    """Random latent; None with `variational=False`."""


def slice_frames(x: Tensor, start_frames: Tensor, n_frames: int) -> Tensor:
    """Slice `n_frames` from each item at its start frame: [B, ..., T], [B] -> [B, ..., n_frames]."""
    index = start_frames[:, None] + torch.arange(n_frames, device=x.device)
    index = index.reshape(index.shape[0], *(1,) * (x.dim() - 2), n_frames)
    return x.gather(-1, index.expand(*x.shape[:-1], n_frames))


def random_starts(lengths: Tensor, n_frames: int) -> Tensor:
    """Draw uniform start frames of segments of `n_frames` that fit into `lengths`: [B] -> int64 [B]."""
    choices = lengths - n_frames + 1
    return (torch.rand(lengths.shape[0], device=lengths.device) * choices).long().clamp(min=0)


class Synthesizer(nn.Module):
    """All networks of a voice, and the posterior encoder for training."""

    def __init__(self, config: SynthesizerConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = build_generator(config)
        if config.variational:
            self.text_encoder = TextEncoder(config, self.pitch_guided)
            self.posterior_encoder: PosteriorEncoder | None = PosteriorEncoder(config)
            self.flow = Flow(config)
        else:
            self.content_decoder = ContentDecoder(config, self.pitch_guided)
        self.speaker_embedding = nn.Embedding(config.speaker_count, config.speaker_channels)

    @property
    def pitch_guided(self) -> bool:
        """Whether the networks take pitch as input."""
        return self.generator.pitch_guided

    def forward(
        self,
        content: Tensor,
        lengths: Tensor,
        coarse_pitch: Tensor | None,
        f0_hz: Tensor | None,
        speaker: Tensor,
        spec: Tensor | None,
        segment_frames: int,
        from_content: Tensor | None = None,
        noise_scale: float = PRIOR_NOISE_SCALE,
    ) -> SynthesizerOutput:
        """Training pass: encode whole slices and generate one random segment of each.

        Args:
            content: Content features, [B, T, C].
            lengths: Frames of each item, [B], at least `segment_frames`.
            coarse_pitch: Pitch codes, [B, T].
            f0_hz: Pitch in Hz, 0 = unvoiced, [B, T].
            speaker: Speaker ids, [B].
            spec: Linear spectrogram, [B, S, T]; unused with `variational=False`.
            segment_frames: Length of the generated segments.
            from_content: Whether to generate each item from content and pitch, as in conversion, instead of the
                recording, bool [B]; None for no item.
            noise_scale: Scale of the prior's standard deviation for those items.

        Raises:
            RuntimeError: The synthesizer was loaded from a voice and has no posterior encoder.
        """
        speaker_code = self.speaker_code(speaker)
        if not self.config.variational:
            latent = self.content_decoder(content, coarse_pitch, lengths, speaker_code)
            waveform, starts = self._generate(latent, lengths, f0_hz, speaker_code, segment_frames)
            return SynthesizerOutput(waveform, starts, None)
        if self.posterior_encoder is None:
            raise RuntimeError("this synthesizer was loaded from a voice, which has no posterior encoder for training")
        assert spec is not None
        prior = self.text_encoder(content, coarse_pitch, lengths)
        posterior = self.posterior_encoder(spec, lengths, speaker_code)
        latent = sample(posterior)
        prior_latent = self.flow(latent, posterior.mask, speaker_code)
        generator_latent = latent
        if from_content is not None:
            expected = self.flow(sample(prior, noise_scale), prior.mask, speaker_code, reverse=True)
            generator_latent = torch.where(from_content[:, None, None], expected, latent)
        waveform, starts = self._generate(generator_latent, lengths, f0_hz, speaker_code, segment_frames)
        return SynthesizerOutput(waveform, starts, LatentOutput(prior, posterior, prior_latent))

    def _generate(
        self, latent: Tensor, lengths: Tensor, f0_hz: Tensor | None, speaker_code: Tensor, segment_frames: int
    ) -> tuple[Tensor, Tensor]:
        """Generate a random segment of each item; return the waveforms and the first frames."""
        starts = random_starts(lengths, segment_frames)
        segment = slice_frames(latent, starts, segment_frames)
        segment_f0_hz = None if f0_hz is None else slice_frames(f0_hz, starts, segment_frames)
        return self.generator(segment, segment_f0_hz, speaker_code), starts

    @torch.no_grad()
    def infer(
        self,
        content: Tensor,
        lengths: Tensor,
        coarse_pitch: Tensor | None,
        f0_hz: Tensor | None,
        speaker: Tensor,
        noise_scale: float = PRIOR_NOISE_SCALE,
        first_frame: int = 0,
    ) -> Tensor:
        """Conversion pass (SPECIFICATION.md, section 9).

        Args:
            content: Content features at 100 frames per second, [B, T, C].
            lengths: Frames of each item, [B].
            coarse_pitch: Pitch codes, [B, T]; None for voices without pitch.
            f0_hz: Pitch in Hz, 0 = unvoiced, [B, T]; None for voices without pitch.
            speaker: Speaker ids, [B].
            noise_scale: Scale of the prior's standard deviation.
            first_frame: First frame to generate; earlier frames are context for the other networks only.

        Returns:
            Waveform in -1..1 starting at `first_frame`, [B, 1, (T - first_frame)·hop].

        Raises:
            ValueError: The voice uses pitch, but none is given.
        """
        if self.pitch_guided and (coarse_pitch is None or f0_hz is None):
            raise ValueError("this voice requires coarse_pitch and f0_hz")
        speaker_code = self.speaker_code(speaker)
        if self.config.variational:
            prior = self.text_encoder(content, coarse_pitch, lengths)
            latent = self.flow(sample(prior, noise_scale), prior.mask, speaker_code, reverse=True) * prior.mask
        else:
            latent = self.content_decoder(content, coarse_pitch, lengths, speaker_code)
        f0_hz = None if f0_hz is None else f0_hz[:, first_frame:]
        return self.generator(latent[:, :, first_frame:], f0_hz, speaker_code)

    def speaker_code(self, speaker: Tensor) -> Tensor:
        """Look up speaker embeddings: speaker ids [B] -> [B, G, 1]."""
        return self.speaker_embedding(speaker).unsqueeze(-1)
