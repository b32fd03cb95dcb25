"""Conversion of a recording to a voice (specification 10).

    recording ─▶ 16 kHz, high-pass ─┬─▶ pitch of the whole ──────────────────┐
                                    └─▶ chunks ─▶ content ─▶ index, protect ─┴─▶ voice ─▶ join ─▶ loudness ─▶ finish

`options.py` draws where each option acts.

Legend: N samples, F content frames of 20 ms, T frames of 10 ms, C content channels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from lightning import Fabric
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from rvc_lightning.audio.decode import load_audio, resample
from rvc_lightning.audio.filters import highpass_zero_phase
from rvc_lightning.audio.loudness import SILENT_PEAK, peak_of
from rvc_lightning.audio.stages import run
from rvc_lightning.content import build_content_encoder
from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.conversion import chunking
from rvc_lightning.conversion.chunking import SAMPLE_RATE, Chunk, ChunkLengths
from rvc_lightning.conversion.contour import check_pitch_options, shaped_contour
from rvc_lightning.conversion.effect_stages import check_installed
from rvc_lightning.conversion.envelope import mix_envelope
from rvc_lightning.conversion.finishing import finished_rate, finished_samples, finishing
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.conversion.silence import sounding_stretches
from rvc_lightning.conversion.speakers import speaker_number
from rvc_lightning.errors import AudioError, ConfigurationError, VoiceError
from rvc_lightning.models import Synthesizer
from rvc_lightning.pitch import DEFAULT_PITCH, build_pitch_extractor
from rvc_lightning.pitch.base import PitchNetwork, PitchTracker, frame_count, measure
from rvc_lightning.pitch.curve import PitchCurve, read_curve
from rvc_lightning.pitch.scale import coarse_pitch
from rvc_lightning.retrieval import RetrievalIndex
from rvc_lightning.voice.rvc_format import CONTENT_DIMS
from rvc_lightning.voice.voice import Voice

log = logging.getLogger(__name__)

INPUT_PEAK = 0.95
OUTPUT_PEAK = 0.99

_DEFAULTS = ConversionOptions()

Source: TypeAlias = str | Path | np.ndarray


@dataclass(frozen=True)
class Conversion:
    """What became of a recording. Letters: S samples, F frames of 10 ms of the recording."""

    audio: np.ndarray
    """float32 [S]."""
    sample_rate: int
    """In Hz."""
    f0_hz: np.ndarray | None
    """The pitch that the voice was given, float32 [F], 0 = unvoiced; None for voices without pitch."""


class VoiceConverter:
    """Turns recordings into a voice, on any device and in any precision that Fabric offers.

    The voice's synthesizer is moved to the device, and cast where the precision asks for it, in place.
    """

    def __init__(
        self,
        voice: Voice,
        index: str | Path | RetrievalIndex | None = None,
        *,
        content: ContentEncoder | None = None,
        content_path: str | Path | None = None,
        pitch: PitchTracker | None = None,
        fabric: Fabric | None = None,
        lengths: ChunkLengths | None = None,
    ) -> None:
        """Gets a voice ready.

        Args:
            voice: What to convert to.
            index: Of the voice's own features, for `index_rate`; a path is read. None converts without.
            content: Content encoder; by default the one the voice was trained with.
            content_path: Folder with that encoder's files, where they should not come from the hub.
            pitch: Pitch extractor; by default the one the voice was trained with, or SwiftF0.
            fabric: Device and precision; by default the accelerator there is, in float32.
            lengths: How long recordings are cut; shorter chunks need less memory.

        Raises:
            VoiceError: The voice's content encoder does not exist here, or encoder or index do not fit the voice.
            AssetError: The files of the encoder or of the pitch extractor cannot be fetched.
            ConfigurationError: Fabric spans several devices.
        """
        self.voice = voice
        self.index = RetrievalIndex.load(index) if isinstance(index, str | Path) else index
        if self.index is not None:
            self.index.check_fits(voice.config.content_dim)
        self.fabric = fabric or Fabric(accelerator="auto", devices=1)
        if self.fabric.world_size > 1:
            raise ConfigurationError(f"devices: conversion runs on one device, not on {self.fabric.world_size}")
        # Encoder and pitch stay in float32: features are compared with those of the index, and half the cents count.
        self.content = content or _content_of(voice, content_path)
        _check_content(self.content, voice)
        self.fabric.to_device(self.content.eval())
        self.pitch = (pitch or _pitch_of(voice)) if voice.pitch_guided else None
        if isinstance(self.pitch, PitchNetwork):
            self.fabric.to_device(self.pitch.eval())
        self.lengths = lengths or ChunkLengths()
        self._speak = self.fabric.setup_module(_Speech(voice.synthesizer))

    def convert(
        self, source: Source, options: ConversionOptions = _DEFAULTS, sample_rate: int | None = None
    ) -> tuple[np.ndarray, int]:
        """Converts one recording.

        Args:
            source: A file, or mono samples at full scale 1, float [N].
            options: How; `write_f0` and `output_format` are for those who write files.
            sample_rate: Rate of the samples in Hz; only with samples.

        Returns:
            Audio, float32 [ceil(N · rate / source rate)], in time with the source and within full scale, longer by
            `tail_seconds`; and its rate in Hz, that of the voice or `output_sample_rate`. Silence gives silence.

        Raises:
            AudioError: The source cannot be read, has more than one channel, or holds NaN.
            VoiceError: The voice has no such speaker or no pitch to change, or its output is not finite.
            ConfigurationError: `sample_rate` is missing or given twice, `f0_file` is no curve of this recording, or an
                extra that an option needs is not installed.
        """
        conversion = self.conversion(source, options, sample_rate)
        return conversion.audio, conversion.sample_rate

    @torch.inference_mode()
    def conversion(
        self, source: Source, options: ConversionOptions = _DEFAULTS, sample_rate: int | None = None
    ) -> Conversion:
        """`convert`, with the pitch that was used."""
        self.check(options)
        curve = read_curve(options.f0_file) if options.f0_file else None
        audio, source_rate = _read(source, sample_rate)
        if curve is not None:
            curve.check_covers(len(audio) / source_rate)
        samples = -(-len(audio) * self.voice.sample_rate // source_rate)
        finished = finished_samples(options, self.voice.sample_rate, len(audio), source_rate)
        rate = finished_rate(options, self.voice.sample_rate)
        prepared = _prepare(audio, source_rate)
        if len(prepared) == 0:
            log.warning("The source is silent (peak below %g): the result is silence", SILENT_PEAK)
            frames = frame_count(-(-len(audio) * SAMPLE_RATE // source_rate))
            f0_hz = None if self.pitch is None else np.zeros(frames, dtype=np.float32)
            return Conversion(np.zeros(finished, dtype=np.float32), rate, f0_hz)
        f0_hz = self._pitch(prepared, options, curve)
        with isolate_rng():
            torch.manual_seed(options.seed)
            converted = self._convert_prepared(prepared, f0_hz, samples, options)
        if not np.isfinite(converted).all():
            raise VoiceError("the voice gives NaN or infinity; if the precision is not '32-true', try that")
        stages = finishing(options, self.voice.sample_rate, finished)
        return Conversion(np.concatenate(list(run(stages, [converted]))), rate, self._own_frames(f0_hz, len(prepared)))

    def check(self, options: ConversionOptions) -> None:
        """Finds out before anything is read whether the voice can follow the options; see `convert` for the errors."""
        speaker_number(self.voice, options.speaker)
        check_pitch_options(options, self.voice.pitch_guided)
        check_installed(options.effects)

    def _convert_prepared(
        self, prepared: np.ndarray, f0_hz: np.ndarray | None, samples: int, options: ConversionOptions
    ) -> np.ndarray:
        """The high-passed source at 16 kHz [N], pitch from the padded start on -> [samples]."""
        context = self.lengths.context_samples
        padded = chunking.pad(prepared, context)
        pitch = None if f0_hz is None else torch.from_numpy(f0_hz)
        stretches = sounding_stretches(prepared, chunking.GRID_SAMPLES) if options.split_on_silence else None
        chunks = chunking.split(prepared, self.lengths, stretches)
        pieces = (
            self._convert_chunk(padded[chunk.padded(context)], f, options) for chunk, f in _with_pitch(chunks, pitch)
        )
        joined = chunking.join(pieces, chunks, context, self.voice.config.hop_samples, samples)
        mixed = mix_envelope(
            torch.from_numpy(joined),
            self.voice.sample_rate,
            torch.from_numpy(prepared),
            SAMPLE_RATE,
            options.volume_envelope,
        )
        return _limited(mixed.numpy(), OUTPUT_PEAK)

    def _convert_chunk(self, audio: np.ndarray, f0_hz: Tensor | None, options: ConversionOptions) -> np.ndarray:
        """Source [N] with the pitch from its start on [>= T] -> voice [T·hop]; the content frames decide T."""
        wav16k = self.fabric.to_device(torch.from_numpy(audio)[None])
        content = self.content(wav16k, wav16k.new_tensor([len(audio)], dtype=torch.long))
        content = self._enrich(content, f0_hz, options)
        speaker = content.new_tensor([speaker_number(self.voice, options.speaker)], dtype=torch.long)
        if f0_hz is None:
            return self._speak(content, None, None, speaker)[0, 0].cpu().numpy()
        f0_hz = self.fabric.to_device(f0_hz[None, : content.shape[1]])
        return self._speak(content, coarse_pitch(f0_hz), f0_hz.view(torch.int32), speaker)[0, 0].cpu().numpy()

    def _enrich(self, content: Tensor, f0_hz: Tensor | None, options: ConversionOptions) -> Tensor:
        """Content of the source [1, F, C] -> what the voice is given, [1, T, C] with T = 2·F."""
        if self.index is None or options.index_rate == 0:
            return content.repeat_interleave(2, dim=1)
        mixed = self.index.mix(content, options.index_rate).repeat_interleave(2, dim=1)
        if f0_hz is None:
            return mixed
        return protect_unvoiced(mixed, content.repeat_interleave(2, dim=1), f0_hz.to(mixed), options.protect)

    def _pitch(self, prepared: np.ndarray, options: ConversionOptions, curve: PitchCurve | None) -> np.ndarray | None:
        """Pitch of the source [N] with its contexts, as the voice is to sing it, float32; None for voices without."""
        if self.pitch is None:
            return None
        measured = measure(self.pitch, chunking.pad(prepared, self.lengths.context_samples))
        return shaped_contour(measured, options, curve, -self.lengths.context_seconds)

    def _own_frames(self, f0_hz: np.ndarray | None, samples: int) -> np.ndarray | None:
        """Of the pitch with its contexts, that of the source of `samples` at 16 kHz."""
        first = self.lengths.context_samples // chunking.FRAME_SAMPLES
        return None if f0_hz is None else f0_hz[first : first + frame_count(samples)]


class _Speech(nn.Module):
    """The synthesizer's conversion as `forward`: Fabric gives devices and precision to nothing else."""

    def __init__(self, synthesizer: Synthesizer) -> None:
        super().__init__()
        self.synthesizer = synthesizer

    def forward(self, content: Tensor, coarse: Tensor | None, f0_bits: Tensor | None, speaker: Tensor) -> Tensor:
        """[1, T, C], [1, T], [1, T], [1] -> [1, 1, T·hop].

        The pitch comes as the bits of its float32 values: Fabric leaves integers alone, whereas pitch in half
        precision is off by several cents.
        """
        f0_hz = None if f0_bits is None else f0_bits.view(torch.float32)
        lengths = speaker.new_tensor([content.shape[1]])
        return self.synthesizer.infer(content, lengths, coarse, f0_hz, speaker)


def protect_unvoiced(mixed: Tensor, original: Tensor, f0_hz: Tensor, protect: float) -> Tensor:
    """Keeps consonants and breaths closer to the source (specification 10.4).

    Args:
        mixed: Features after retrieval, [B, T, C].
        original: Features of the source, [B, T, C].
        f0_hz: Pitch, 0 = unvoiced, [at least T].
        protect: Share of `mixed` in unvoiced frames, 0 to 0.5; 0.5 means all of it, that is no protection.

    Returns:
        [B, T, C].
    """
    if protect >= 0.5:
        return mixed
    voiced = (f0_hz[: mixed.shape[1]] >= 1.0)[None, :, None]
    return torch.where(voiced, mixed, torch.lerp(original, mixed, protect))


def _with_pitch(chunks: list[Chunk], f0_hz: Tensor | None) -> Iterator[tuple[Chunk, Tensor | None]]:
    """Every chunk with the pitch from its padded start on."""
    for chunk in chunks:
        yield chunk, None if f0_hz is None else f0_hz[chunk.start // chunking.FRAME_SAMPLES :]


def _read(source: Source, sample_rate: int | None) -> tuple[np.ndarray, int]:
    """Mono float32 [N] and its rate in Hz; see `VoiceConverter.convert` for the errors."""
    if isinstance(source, str | Path):
        if sample_rate is not None:
            raise ConfigurationError(f"sample_rate={sample_rate}: a file brings its own rate; leave it out")
        return load_audio(source)
    audio = np.asarray(source)
    if sample_rate is None or sample_rate <= 0:
        raise ConfigurationError(f"sample_rate={sample_rate}: samples need their rate in Hz")
    if audio.ndim != 1 or not np.issubdtype(audio.dtype, np.floating):
        raise AudioError(f"samples of shape {audio.shape} and type {audio.dtype}; expected mono float [N]")
    if not np.isfinite(audio).all():
        raise AudioError("the samples hold NaN or infinity")
    return audio.astype(np.float32), int(sample_rate)


def _prepare(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """The source as content and pitch are taken from it, 16 kHz [N]; nothing at all if it is silent."""
    if peak_of(audio) < SILENT_PEAK:
        return audio[:0]
    audio = _limited(resample(audio, sample_rate, SAMPLE_RATE), INPUT_PEAK)
    return highpass_zero_phase(audio, SAMPLE_RATE) if len(audio) else audio


def _limited(audio: np.ndarray, peak: float) -> np.ndarray:
    """`audio` [N] turned down to `peak` where it is louder."""
    return audio * np.float32(min(1.0, peak / max(peak_of(audio), 1e-9)))


def _content_of(voice: Voice, path: str | Path | None) -> ContentEncoder:
    """The content encoder that `voice` was trained with. Raises VoiceError if it does not exist here."""
    name, options = _remembered(voice, "content", voice.content_encoder)
    if voice.config.content_dim == CONTENT_DIMS["v1"]:
        options = {"version": "v1"} | options
    if path is not None:
        options["path"] = str(path)
    try:
        return build_content_encoder(name, **options)
    except ConfigurationError as error:
        raise VoiceError(f"the voice was trained with the content encoder '{name}' and needs it: {error}") from error


def _pitch_of(voice: Voice) -> PitchTracker:
    """The pitch extractor that `voice` was trained with. Raises VoiceError if it does not exist here."""
    name, options = _remembered(voice, "pitch", DEFAULT_PITCH)
    try:
        return build_pitch_extractor(name, **options)
    except ConfigurationError as error:
        raise VoiceError(f"the voice was trained with the pitch extractor '{name}': {error}") from error


def _remembered(voice: Voice, component: str, default: str) -> tuple[str, dict[str, Any]]:
    """Registered name and options of what a voice was trained with. Raises VoiceError for an entry without them."""
    own = voice.information.get("rvc_lightning") or {}
    entry = own.get(component, {"name": default}) if isinstance(own, Mapping) else own
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise VoiceError(
            f"the voice's entry 'rvc_lightning' does not name its {component} as name and options: {own!r}"
        )
    options = entry.get("options") or {}
    if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
        raise VoiceError(f"the voice's options of its {component} are no table: {options!r}")
    return entry["name"], dict(options)


def _check_content(content: ContentEncoder, voice: Voice) -> None:
    if content.dim != voice.config.content_dim:
        raise VoiceError(
            f"the voice takes content features of {voice.config.content_dim} channels, "
            f"but the content encoder '{content.name}' gives {content.dim}"
        )
