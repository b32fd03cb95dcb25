"""Options of a conversion, and where each of them acts.

    source ─▶ 16 kHz, high-pass ─┬─▶ pitch ─▶ f0_file ─▶ transpose ─▶ autotune | proposed pitch ─┬─▶ write_f0
                                 └─▶ split_on_silence ─▶ content ─▶ index_rate, protect ────────┴─▶ voice ─┐
                                                                        (formant_semitones, speaker, seed) │
    file ◀─ output_format ◀─ output_sample_rate ◀─ effects, tail ◀─ clean_noise ◀─ volume_envelope ◀───────┘

Each option is described here once: checks, help, documentation and widgets read these fields (`option_fields`).
"""

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from rvc_lightning.config.options import OptionField, Settings, option, option_fields, value_text
from rvc_lightning.conversion.effects import EFFECTS, effect_from
from rvc_lightning.conversion.lengths import ChunkLengths, StreamLengths
from rvc_lightning.errors import ConfigurationError

FORMATS = ("wav", "flac", "mp3", "ogg", "m4a")
DEFAULT_FORMAT = "wav"
"""Format of results unless a file name or an option sets another."""
"""Audio formats that can be written."""

_HELP_WIDTH = 110


@dataclass(frozen=True)
class ConversionOptions(Settings):
    """Options of the conversion of one recording (SPECIFICATION.md, section 10).

    Raises:
        ConfigurationError: A value has the wrong type or is out of range, or two options exclude each other.
    """

    transpose_semitones: float = option(
        0.0,
        "shift of the pitch, 12 to the octave: about 12 from a low to a high voice, -12 back; without effect on voices "
        "without pitch",
        unit="semitones",
        min=-48,
        max=48,
    )
    formant_semitones: float = option(
        0.0,
        "shift of the formants, which keeps the pitch: up for a smaller head, down for a larger one, which also "
        "removes the highest frequencies; only for voices with pitch",
        unit="semitones",
        min=-12,
        max=12,
    )
    autotune: float = option(
        0.0, "strength of the pitch correction: 0 is off, 1 puts the pitch exactly on the nearest note", min=0, max=1
    )
    proposed_pitch_hz: float | None = option(
        None,
        "median pitch to shift the recording to, by whole semitones and at most an octave; 155 suits low voices, 255 "
        "high ones",
        unit="Hz",
        min=50,
        max=1100,
    )
    f0_file: str | None = option(
        None,
        "file of lines 'seconds,Hz' that replaces the measured pitch where it covers the recording, 0 for unvoiced; "
        "for a folder of recordings, a folder of such files with the same names",
    )
    write_f0: bool = option(
        False, "whether to write the pitch of the result beside the audio, as NAME.f0.csv, a file for f0_file"
    )
    index_rate: float = option(
        0.3, "share of the features that comes from the recordings of the voice, if it has an index", min=0, max=1
    )
    protect: float = option(
        0.5,
        "share of those features in consonants and breaths: 0 keeps them closest to the source, 0.5 turns this off",
        min=0,
        max=0.5,
    )
    volume_envelope: float | None = option(
        None,
        "loudness over time, measured over a second: 1 as the voice gives it, 0 that of the source; null as the voice "
        "gives it, but not louder than the source",
        min=0,
        max=1,
    )
    speaker: int | str | None = option(
        None,
        "speaker of a voice with several, by name, by the number of its folder if folders were numbered, or else by "
        "number from 0; null is the first",
        min=0,
    )
    noise_scale: float | None = option(
        None,
        "spread of the random features: 0 uses the most probable ones, 1 the full spread; null uses the value stored "
        "in the voice, or 0.66666 for voices of other tools; only for voices with random features, not those of the "
        "quickstart",
        min=0,
        max=1,
    )
    seed: int = option(0, "seed of the random numbers; the same seed gives the same audio", min=0)
    split_on_silence: bool = option(
        False,
        "whether to convert only parts with sound (down to 60 dB below the loudest); the rest becomes exact silence",
    )
    clean_noise: float = option(
        0.0, "strength of the removal of steady noise from the result: 0 none, 1 the most", min=0, max=1
    )
    effects: tuple[Any, ...] = option((), "effects in their order, each a name, or a table of its name and parameters")
    tail_seconds: float = option(
        0.0, "time added to the end for chorus, delay and reverb to decay; 0 keeps the length", unit="s", min=0, max=60
    )
    output_sample_rate: int | None = option(
        None,
        "sampling rate of the result; null keeps that of the voice, or for files uses the next one that the format "
        "supports",
        min=8000,
        max=192000,
        unit="Hz",
    )
    output_format: str | None = option(
        None,
        "format of written files; null follows the name of an output file, and is wav for a folder",
        choices=FORMATS,
    )

    def __post_init__(self) -> None:
        if isinstance(self.effects, list | tuple):
            object.__setattr__(self, "effects", tuple(map(effect_from, self.effects)))
        if isinstance(self.f0_file, os.PathLike):
            object.__setattr__(self, "f0_file", os.fspath(self.f0_file))
        super().__post_init__()
        chosen = self._chosen("autotune", "proposed_pitch_hz", "f0_file")
        if len(chosen) > 1:
            raise ConfigurationError(f"{' and '.join(chosen)} exclude each other: choose one")

    def reject(self, reason: str, *names: str) -> None:
        """Raise ConfigurationError, with the reason, if one of the named options differs from its default."""
        if chosen := self._chosen(*names):
            raise ConfigurationError(f"{', '.join(chosen)}: {reason}")

    def _chosen(self, *names: str) -> list[str]:
        values = {name: getattr(self, name) for name in names}
        changed = {name: value for name, value in values.items() if value != getattr(ConversionOptions, name)}
        return [f"{name}={value if isinstance(value, str) else value_text(value)}" for name, value in changed.items()]


_NODES: dict[str, type[Settings]] = {
    "conversion_options": ConversionOptions,
    "chunk_lengths": ChunkLengths,
    "stream_lengths": StreamLengths,
}
"""Nodes that configuration files include in their defaults lists, or describe by `conversion_help`."""


def register() -> None:
    """Register the nodes with Hydra, and `help_text` as the resolver `conversion_help`."""
    for name, owner in _NODES.items():
        values = {field.name: field.default for field in option_fields(owner)}
        ConfigStore.instance().store(name, OmegaConf.to_container(OmegaConf.create(values)))
    OmegaConf.register_new_resolver("conversion_help", lambda name: help_text(name).replace("$", "$$"), replace=True)


def help_text(name: str) -> str:
    """Return a description of the settings of a node for a terminal, and of all effects with those of a conversion."""
    owner = _NODES[name]
    prefix, indent, lines = f"{owner.group}." if owner.group else "", " " * 6, []
    for field in option_fields(owner):
        lines.append(f"  {prefix}{_signature(field)}")
        lines.append(textwrap.fill(field.help, _HELP_WIDTH, initial_indent=indent, subsequent_indent=indent))
    if owner is ConversionOptions:
        lines += ["", "Effects, as in 'effects=[compressor,{name:reverb,room_size:0.8},limiter]':", ""]
        for effect in EFFECTS.values():
            lines.append(f"  {effect.name}: {effect.description}")
            lines += [f"{indent}{_signature(field)}: {field.help}" for field in option_fields(effect)]
    return "\n".join(lines)


def _signature(field: OptionField) -> str:
    return f"{field.name}={field.default_text} ({field.allowed.removeprefix('a number from ')})"
