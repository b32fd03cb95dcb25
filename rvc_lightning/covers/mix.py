"""Conversion of the voices of a song, and the mix with its music.

    lead ─▶ mono ─▶ conversion, effects ─▶ loudness of the lead ─▶ gain ─┐
    backing ─▶ the same, or shift of the key ────────────────────▶ gain ─┼─▶ loudness, limit of peaks ─▶ cover
    instrumental ─▶ shift of the key ────────────────────────────▶ gain ─┘

Legend: N samples, C channels.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rvc_lightning.audio.decode import open_audio
from rvc_lightning.audio.discovery import display_name
from rvc_lightning.audio.encode import check_writable, write_audio
from rvc_lightning.audio.mastering import import_pyloudnorm, loudness_lufs, master, match_loudness
from rvc_lightning.audio.pitch_shift import import_stretch, shift_pitch
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.covers.settings import MixSettings
from rvc_lightning.covers.song import Song
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.io.files import check_folder_writable, protect_inputs
from rvc_lightning.io.scratch import scratch_folder

log = logging.getLogger(__name__)

_PARTS = ("lead", "backing", "instrumental")
_NO_PITCH = "the voice has no pitch to transpose, as the music is; leave it out, or choose a voice with pitch"
_FIXED = "a cover has the length and the sampling rate of the song, and the format of its file name; leave it out"


@dataclass(frozen=True)
class Cover:
    """A cover, float32 [N, C], and its parts before gains and limiter."""

    audio: np.ndarray
    lead: np.ndarray
    backing: np.ndarray
    instrumental: np.ndarray
    sample_rate: int
    """In Hz."""


def part_files(output: Path) -> dict[str, Path]:
    """Return the files beside a cover for the parts of the song and of the cover, by name."""
    names = [*(f"song_{name}" for name in _PARTS), *_PARTS]
    return {name: output.with_name(f"{output.stem}.{name}.wav") for name in names}


def check_cover(
    converter: VoiceConverter, options: ConversionOptions, settings: MixSettings, output: Path, sources: Sequence[Path]
) -> None:
    """Check what a cover requires before the song is separated.

    Args:
        converter: Converter with the voice.
        options: Options of the conversion.
        settings: Settings of the mix.
        output: File to write.
        sources: Recordings of the song, the first with the sampling rate of the cover.

    Raises:
        AudioError: A recording cannot be read.
        NotWritableError: The file cannot be created.
        ConfigurationError, VoiceError: The settings contradict each other, cannot be used with the voice or for the
            file, or require a missing package.
    """
    options.reject(_FIXED, "tail_seconds", "output_sample_rate", "output_format", "write_f0")
    converter.check(_transposed(options, settings))
    if settings.key_semitones and not converter.voice.pitch_guided:
        raise ConfigurationError(f"key_semitones={settings.key_semitones:g}: {_NO_PITCH}")
    for path in (output, *part_files(output).values()):
        protect_inputs(path, sources)
    for number, path in enumerate(sources):
        with open_audio(path) as stream:
            check_writable(output, None if number else stream.sample_rate)
    check_folder_writable(output.parent, name=output)
    import_pyloudnorm()
    if settings.key_semitones:
        import_stretch()


def make_cover(converter: VoiceConverter, song: Song, options: ConversionOptions, settings: MixSettings) -> Cover:
    """Convert the voices of a song and mix them with its music.

    Args:
        converter: Converter with the voice, on one device.
        song: The song and its parts.
        options: Options of the conversion; the pitch is shifted by `key_semitones` in addition.
        settings: Key, gains, loudness and limit.

    Raises:
        AudioError, VoiceError, ConfigurationError, OutOfMemoryError: As `VoiceConverter.convert`.
    """
    options = replace(_transposed(options, settings), output_sample_rate=song.sample_rate)
    log.info("Converting the lead")
    lead = _converted(converter, song.lead, song.sample_rate, options)
    if settings.convert_backing:
        log.info("Converting the backing vocals")
        backing = _converted(converter, song.backing, song.sample_rate, options)
    else:
        backing = shift_pitch(song.backing, song.sample_rate, settings.key_semitones)
    instrumental = shift_pitch(song.instrumental, song.sample_rate, settings.key_semitones)
    gains = settings.gains
    levels = (lead, gains.lead), (backing, gains.backing), (instrumental, gains.instrumental)
    mixture = np.sum([audio * np.float32(10 ** (gain_db / 20)) for audio, gain_db in levels], axis=0)
    target = settings.loudness_lufs
    target = loudness_lufs(song.mixture, song.sample_rate) if target is None else target
    audio = master(mixture, song.sample_rate, target, settings.peak_db)
    return Cover(audio, lead, backing, instrumental, song.sample_rate)


def write_cover(cover: Cover, song: Song, output: Path, *, keep_stems: bool) -> None:
    """Write a cover, and with `keep_stems` the parts of the song and of the cover that are not silent beside it.

    Raises:
        ConfigurationError: The format does not support the sampling rate.
        OutOfSpaceError, NotWritableError: The disk cannot store the files.
    """
    parts = [*(getattr(song, name) for name in _PARTS), *(getattr(cover, name) for name in _PARTS)]
    stems = zip(part_files(output).values(), parts, strict=True)
    kept = [(path, audio, "FLOAT") for path, audio in stems if keep_stems and audio.any()]
    with scratch_folder(output.parent) as scratch:
        for path, audio, subtype in [(output, cover.audio, None), *kept]:
            write_audio(path, audio, cover.sample_rate, subtype, scratch=scratch)
            log.info("Wrote %s", display_name(path))


def _transposed(options: ConversionOptions, settings: MixSettings) -> ConversionOptions:
    return replace(options, transpose_semitones=options.transpose_semitones + settings.key_semitones)


def _converted(
    converter: VoiceConverter, audio: np.ndarray, sample_rate: int, options: ConversionOptions
) -> np.ndarray:
    """Convert the mean of the channels [N, C]; return it in all channels, with the loudness of the source."""
    if not audio.any():
        return audio
    converted, _ = converter.convert(audio.mean(axis=1), options, sample_rate)
    spread = np.broadcast_to(converted[:, None], audio.shape)
    return match_loudness(spread, sample_rate, loudness_lufs(audio, sample_rate))
