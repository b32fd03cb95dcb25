"""Networks that convert one window of audio: the only part of a conversion that runs on a device.

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
from rvc_lightning.conversion.formants import Stretch
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.conversion.positional_noise import Position, PositionalNoise
from rvc_lightning.models import Synthesizer
from rvc_lightning.models.noise import drawing_from
from rvc_lightning.models.synthesizer import PRIOR_NOISE_SCALE
from rvc_lightning.pitch.base import PitchNetwork
from rvc_lightning.pitch.scale import coarse_pitch
from rvc_lightning.retrieval.index import RetrievalIndex


class Window(NamedTuple):
    """Part of a recording, with its context."""

    audio: np.ndarray
    """Audio at 16 kHz, float32 [N]."""
    f0_hz: np.ndarray | None
    """Pitch in Hz from the first sample on, 0 = unvoiced, [at least T]; None for voices without pitch."""
    position: Position
    """Position in the recording, which determines the random numbers."""
    start_cycles: float = 0.0
    """Phase of the pitch, in cycles, before the first frame of the generator; see `formants.cycles_before`."""


class VoiceInference(nn.Module):
    """Content encoder, pitch network and synthesizer, moved to a device together; the index stays on the host.

    Encoder and pitch network run in float32 under any precision: features are compared with those of the index, and
    pitch must be accurate to fractions of a cent.
    """

    def __init__(self, synthesizer: Synthesizer, content: ContentEncoder, pitch: PitchNetwork | None = None) -> None:
        super().__init__()
        self.synthesizer, self.content, self.pitch = synthesizer, content, pitch

    def compile_networks(self) -> None:
        """Compile the networks for windows of equal length, as in a stream; each other length is compiled again.

        The noise of the generator then no longer depends on the position, see `models.noise`.
        """
        for network in (self.content, *self.synthesizer.children()):
            network.compile(dynamic=False)

    @torch.inference_mode()
    def convert(
        self,
        windows: Sequence[Window],
        options: ConversionOptions,
        index: RetrievalIndex | None = None,
        first_frame: int = 0,
        samples: int = 0,
    ) -> list[np.ndarray]:
        """Convert windows of any lengths, each independently of the others.

        Args:
            windows: B windows, at least one.
            options: Options, of which index rate, protection, noise scale, formant shift and speaker (a number) are
                used.
            index: Index of the voice; None converts without.
            first_frame: First frame of the generator, in frames of 10 ms. The frames before it are context of the other
                networks only, which costs less.
            samples: Smallest N to pad the windows to.

        Returns:
            Audio of each window from `first_frame` on, float32 [(T - first_frame)·hop]. T follows from the content
            frames, so the audio ends 5 to 25 ms before its window (SPECIFICATION.md, section 10.4).
        """
        wav16k, lengths = self._batch([window.audio for window in windows], samples)
        f0_hz = self._pitch_batch(
            [window.f0_hz for window in windows], CONTENT_REPEAT * content_frames(wav16k.shape[1])
        )
        with torch.autocast(wav16k.device.type, enabled=False):
            content = self.content(wav16k, lengths)
            content = retrieve(content, content_lengths(lengths), f0_hz, index, options)
        frames = (CONTENT_REPEAT * content_lengths(lengths)).tolist()
        audio = self._generate(windows, content, frames, options, first_frame)
        stretch, hop_samples = Stretch.by(options.formant_semitones), self.synthesizer.config.hop_samples
        return [
            stretch.played(
                item[0].numpy(),
                stretch.start(window.position.frame) + stretch.skipped(first_frame),
                window.position.frame + first_frame,
                count - first_frame,
                hop_samples,
            )
            for item, window, count in zip(audio.float().cpu(), windows, frames, strict=True)
        ]

    def _generate(
        self, windows: Sequence[Window], content: Tensor, frames: Sequence[int], options: ConversionOptions, first: int
    ) -> Tensor:
        """Generate audio from content [B, T, C]: [B, 1, G·hop], G generated frames, see `Stretch`."""
        stretch, starts = Stretch.by(options.formant_semitones), [window.position.frame for window in windows]
        content, counts = stretch.content(content, frames, starts)
        f0_hz = self._pitch_batch(
            [
                None if window.f0_hz is None else stretch.contour(window.f0_hz, start)
                for window, start in zip(windows, starts, strict=True)
            ],
            content.shape[1],
        )
        coarse, first = None, stretch.skipped(first)
        if f0_hz is not None:
            # The features are those of the pitch of the output, which is nearer to that of the training.
            coarse = coarse_pitch(f0_hz * float(stretch.ratio))
            # The pitch of one frame, which lies in the dropped context, is changed to advance the phase.
            f0_hz[:, first] += FRAMES_PER_SECOND * f0_hz.new_tensor([window.start_cycles for window in windows])
        lengths = content.new_tensor(counts, dtype=torch.long)
        speaker = torch.full_like(lengths, int(options.speaker or 0))
        noise_scale = PRIOR_NOISE_SCALE if options.noise_scale is None else options.noise_scale
        positions = [Position(window.position.seed, stretch.start(window.position.frame)) for window in windows]
        whole_draws = int(self.synthesizer.config.variational)
        with drawing_from(PositionalNoise(positions, content.shape[1], first, whole_draws)):
            return self.synthesizer.infer(content, lengths, coarse, f0_hz, speaker, noise_scale, first)

    @torch.inference_mode()
    def measure_pitch(self, waves: Sequence[np.ndarray], samples: int = 0) -> list[np.ndarray]:
        """Measure the pitch of audio of up to about a minute with the pitch network.

        Args:
            waves: Audio at 16 kHz, float32 [N] each.
            samples: Smallest N to pad the audio to.

        Returns:
            Pitch in Hz of each, float32 [N // 160 + 1], 0 = unvoiced.
        """
        assert self.pitch is not None
        wav16k, lengths = self._batch(waves, samples)
        with torch.autocast(wav16k.device.type, enabled=False):
            tracks = self.pitch.track(wav16k, lengths).float().cpu().numpy()
        return [track[: frame_count(len(wave))] for track, wave in zip(tracks, waves, strict=True)]

    def _batch(self, waves: Sequence[np.ndarray], samples: int) -> tuple[Tensor, Tensor]:
        """Return padded audio [B, N] and lengths [B] on the device of the networks."""
        lengths = [len(wave) for wave in waves]
        padded = np.zeros((len(waves), max(samples, *lengths)), np.float32)
        for row, wave in zip(padded, waves, strict=True):
            row[: len(wave)] = wave
        weight = self.synthesizer.speaker_embedding.weight
        return weight.new_tensor(padded), weight.new_tensor(lengths, dtype=torch.long)

    def _pitch_batch(self, contours: Sequence[np.ndarray | None], frames: int) -> Tensor | None:
        """Return f0_hz [B, T] on the device of the networks, padded with 0; None for voices without pitch."""
        if not self.synthesizer.pitch_guided:
            return None
        f0_hz = np.zeros((len(contours), frames), np.float32)
        for row, contour in zip(f0_hz, contours, strict=True):
            assert contour is not None
            row[: len(contour)] = contour[:frames]
        return self.synthesizer.speaker_embedding.weight.new_tensor(f0_hz)


def retrieve(
    content: Tensor, frames: Tensor, f0_hz: Tensor | None, index: RetrievalIndex | None, options: ConversionOptions
) -> Tensor:
    """Mix content with features of the index, and repeat it to the frame rate of the voice.

    Args:
        content: Content of the source, [B, F, C].
        frames: Content frames of each item, [B].
        f0_hz: Pitch in Hz, 0 = unvoiced, [B, T]; None for voices without pitch.
        index: Index of the voice; None leaves the content unchanged.
        options: Options, of which index rate and protection are used.

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
    """Keep consonants and breaths closer to the source (SPECIFICATION.md, section 10.4).

    Args:
        mixed: Features after retrieval, [B, T, C].
        original: Features of the source, [B, T, C].
        f0_hz: Pitch in Hz, 0 = unvoiced, [B, T].
        protect: Share of `mixed` in unvoiced frames, 0 to 0.5; 0.5 disables the protection.

    Returns:
        [B, T, C].
    """
    if protect >= 0.5:
        return mixed
    voiced = (f0_hz >= 1.0)[:, :, None]
    return torch.where(voiced, mixed, torch.lerp(original, mixed, protect))
