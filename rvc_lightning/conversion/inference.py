"""The networks that say a stretch of a recording with a voice: the only part of a conversion that needs a device.

    window, 16 kHz ─▶ content ─▶ index, protect ─┐
    its pitch ───────────────────────────────────┴─▶ voice ─▶ audio

Legend: B windows, N samples at 16 kHz, F content frames of 20 ms, T = 2·F frames of 10 ms, C content channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rvc_lightning.audio.frames import (
    CONTENT_REPEAT,
    FRAMES_PER_SECOND,
    content_frames,
    content_lengths,
    frame_count,
    frame_mask,
)
from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.conversion.positional_noise import Place, PositionalNoise
from rvc_lightning.models import Synthesizer
from rvc_lightning.models.synthesizer import PRIOR_NOISE_SCALE
from rvc_lightning.pitch.base import PitchNetwork
from rvc_lightning.pitch.scale import coarse_pitch
from rvc_lightning.retrieval.index import RetrievalIndex


class Window(NamedTuple):
    """A stretch of a recording."""

    audio: np.ndarray
    """At 16 kHz, float32 [N]."""
    f0_hz: np.ndarray | None
    """Pitch from its first sample on, 0 = unvoiced, [at least T]; None for voices without."""
    place: Place
    """Where it lies, which decides its random draws."""
    start_cycles: float = 0.0
    """Phase of the pitch before the frame that the generator begins with, in cycles; the pitch of that frame is bent to
    reach it."""


class VoiceInference(nn.Module):
    """Content encoder, pitch network and synthesizer; they go to a device together, and the index stays on the host.

    Encoder and pitch compute in float32 under any precision: features are compared with those of the index, and half
    the cents count.
    """

    def __init__(self, synthesizer: Synthesizer, content: ContentEncoder, pitch: PitchNetwork | None = None) -> None:
        super().__init__()
        self.synthesizer, self.content, self.pitch = synthesizer, content, pitch

    @torch.inference_mode()
    def speak(
        self,
        windows: Sequence[Window],
        options: ConversionOptions,
        index: RetrievalIndex | None = None,
        first_frame: int = 0,
        samples: int = 0,
    ) -> list[np.ndarray]:
        """Says windows of any lengths; what becomes of one does not depend on the others.

        Args:
            windows: B of them, at least one.
            options: Of which index rate, protection, noise scale and speaker, by its number, count here.
            index: None goes without.
            first_frame: Where the generator begins, in frames of 10 ms; what is before it takes less work and is heard
                by the other networks alone.
            samples: N that the windows are padded to, if it is more than that of the longest.

        Returns:
            Audio of each from `first_frame` on, float32 [(T - first_frame)·hop]. The content frames decide T,
            so that it ends up to 35 ms before its window.
        """
        wav16k, lengths = self._batch([window.audio for window in windows], samples)
        f0_hz = self._pitch_of(windows, CONTENT_REPEAT * content_frames(wav16k.shape[1]))
        with torch.autocast(wav16k.device.type, enabled=False):
            content = self.content(wav16k, lengths)
            content = enrich(content, content_lengths(lengths), f0_hz, index, options)
        frames = CONTENT_REPEAT * content_lengths(lengths)
        coarse = None if f0_hz is None else coarse_pitch(f0_hz)
        if f0_hz is not None:
            # A frame lasts a hundredth of a second. Only the phase gets out of it: it lies where nothing is kept.
            f0_hz[:, first_frame] += FRAMES_PER_SECOND * f0_hz.new_tensor([window.start_cycles for window in windows])
        speaker = torch.full_like(lengths, int(options.speaker))
        noise_scale = PRIOR_NOISE_SCALE if options.noise_scale is None else options.noise_scale
        with PositionalNoise([window.place for window in windows], content.shape[1], first_frame):
            audio = self.synthesizer.infer(content, frames, coarse, f0_hz, speaker, noise_scale, first_frame)
        ends = ((frames - first_frame) * self.synthesizer.config.hop_samples).tolist()
        return [item[0, :end].numpy() for item, end in zip(audio.float().cpu(), ends, strict=True)]

    @torch.inference_mode()
    def measure(self, waves: Sequence[np.ndarray], samples: int = 0) -> list[np.ndarray]:
        """Pitch of stretches of a good minute at most by the network, [N] each: f0_hz [N // 160 + 1] of each.

        They are padded to `samples` if that is more than the longest has.
        """
        assert self.pitch is not None
        wav16k, lengths = self._batch(waves, samples)
        with torch.autocast(wav16k.device.type, enabled=False):
            tracks = self.pitch.track(wav16k, lengths).float().cpu().numpy()
        return [track[: frame_count(len(wave))] for track, wave in zip(tracks, waves, strict=True)]

    def _batch(self, waves: Sequence[np.ndarray], samples: int) -> tuple[Tensor, Tensor]:
        """On the device of the networks, [B, N] and [B]; N is `samples` at least."""
        there = self.synthesizer.speaker_embedding.weight
        lengths = [len(wave) for wave in waves]
        padded = np.zeros((len(waves), max(samples, *lengths)), np.float32)
        for row, wave in zip(padded, waves, strict=True):
            row[: len(wave)] = wave
        return there.new_tensor(padded), there.new_tensor(lengths, dtype=torch.long)

    def _pitch_of(self, windows: Sequence[Window], frames: int) -> Tensor | None:
        """f0_hz [B, T] on the device of the networks, 0 beyond the end of a contour; None for voices without."""
        contours = [window.f0_hz for window in windows if window.f0_hz is not None]
        if not self.synthesizer.pitch_guided:
            return None
        there = self.synthesizer.speaker_embedding.weight
        f0_hz = np.zeros((len(contours), frames), np.float32)
        for row, contour in zip(f0_hz, contours, strict=True):
            row[: len(contour)] = contour[:frames]
        return there.new_tensor(f0_hz)


def enrich(
    content: Tensor, frames: Tensor, f0_hz: Tensor | None, index: RetrievalIndex | None, options: ConversionOptions
) -> Tensor:
    """What the voice is given for the content of a source.

    Args:
        content: [B, F, C].
        frames: Content frames of each item, [B].
        f0_hz: Pitch, 0 = unvoiced, [B, T]; None for voices without.
        index: None leaves the content alone.
        options: Of which index rate and protection count here.

    Returns:
        [B, T, C].
    """
    original = content.repeat_interleave(CONTENT_REPEAT, dim=1)
    if index is None or options.index_rate == 0:
        return original
    inside = frame_mask(frames, content.shape[1])
    mixed = content.clone()
    mixed[inside] = index.mix(content[inside], options.index_rate)
    mixed = mixed.repeat_interleave(CONTENT_REPEAT, dim=1)
    return mixed if f0_hz is None else protect_unvoiced(mixed, original, f0_hz, options.protect)


def protect_unvoiced(mixed: Tensor, original: Tensor, f0_hz: Tensor, protect: float) -> Tensor:
    """Keeps consonants and breaths closer to the source (specification 10.4).

    Args:
        mixed: Features after retrieval, [B, T, C].
        original: Features of the source, [B, T, C].
        f0_hz: Pitch, 0 = unvoiced, [B, T].
        protect: Share of `mixed` in unvoiced frames, 0 to 0.5; 0.5 means all of it, that is no protection.

    Returns:
        [B, T, C].
    """
    if protect >= 0.5:
        return mixed
    voiced = (f0_hz >= 1.0)[:, :, None]
    return torch.where(voiced, mixed, torch.lerp(original, mixed, protect))


def cycles_before(f0_hz: np.ndarray, frame: int) -> float:
    """Phase that a pitch contour [F] has run through before a frame, in cycles, 0 to 1."""
    return float(f0_hz[:frame].sum(dtype=np.float64) / FRAMES_PER_SECOND % 1.0)
