"""Options of a conversion, and where each of them acts.

    source ─▶ 16 kHz, high-pass ─┬─▶ pitch ─▶ f0_file ─▶ transpose ─▶ autotune | proposed pitch ─┬─▶ write_f0
                                 └─▶ split_on_silence ─▶ content ─▶ index_rate, protect ────────┴─▶ voice ─┐
                                                                                           (speaker, seed) │
    file ◀─ output_format ◀─ output_sample_rate ◀─ effects, tail ◀─ clean_noise ◀─ volume_envelope ◀───────┘

Each option is described here once: the checks, the help of the commands, the tables of the documentation and the
widgets read these fields (`option_fields`).
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from rvc_lightning.config.options import OptionField, Settings, option, option_fields
from rvc_lightning.conversion.effects import EFFECTS, effects_from
from rvc_lightning.errors import ConfigurationError

FORMATS = ("wav", "flac", "mp3", "ogg", "m4a")
"""Audio formats that can be written."""

_HELP_WIDTH = 110


@dataclass(frozen=True)
class ConversionOptions(Settings):
    """Options of the conversion of one recording (SPECIFICATION.md, section 10).

    Raises:
        ConfigurationError: A value has the wrong type or is out of range, or two options contradict each other.
    """

    transpose_semitones: float = option(
        0.0,
        "shift of the pitch, 12 to the octave: about 12 from a low to a high voice, -12 back; without effect on voices "
        "without pitch",
        unit="semitones", min=-48, max=48,
    )  # fmt: skip
    autotune: float = option(
        0.0,
        "strength of the pull to the nearest note: 0 none, 1 exactly onto the note",
        min=0, max=1,
    )  # fmt: skip
    proposed_pitch_hz: float | None = option(
        None,
        "median pitch to shift the recording to, by whole semitones and at most an octave; 155 suits low voices, 255 "
        "high ones",
        unit="Hz", min=50, max=1100,
    )  # fmt: skip
    f0_file: str | None = option(
        None,
        "file of lines 'seconds,Hz' that replaces the measured pitch where it covers the recording, 0 for unvoiced; "
        "for a folder of recordings, a folder of such files with the same names",
    )
    write_f0: bool = option(
        False,
        "whether to write the pitch of the result beside the audio, as NAME.f0.csv, a file for f0_file",
    )
    index_rate: float = option(
        0.75,
        "share of the features that comes from the recordings of the voice, if it has an index",
        min=0, max=1,
    )  # fmt: skip
    protect: float = option(
        0.5,
        "share of those features in consonants and breaths: 0 keeps them closest to the source, 0.5 is no protection",
        min=0, max=0.5,
    )  # fmt: skip
    volume_envelope: float = option(
        1.0,
        "loudness over time: 1 as the voice gives it, 0 that of the source",
        min=0, max=1,
    )  # fmt: skip
    speaker: int | str | None = option(
        None,
        "speaker of a voice with several, by name, by the number of its folder if folders were numbered, or else by "
        "number from 0; null is the first",
        min=0,
    )  # fmt: skip
    noise_scale: float | None = option(
        None,
        "spread of the random features: 0 the most probable ones, 1 the full spread; null as the voice was trained, "
        "which is 0.66666 for voices of other tools",
        min=0, max=1,
    )  # fmt: skip
    seed: int = option(
        0,
        "seed of the random numbers; the same seed gives the same audio",
        min=0,
    )  # fmt: skip
    split_on_silence: bool = option(
        False,
        "whether to convert only parts with sound (down to 60 dB below the loudest); the rest becomes exact silence",
    )
    clean_noise: float = option(
        0.0,
        "strength of the removal of steady noise from the result: 0 none, 1 the most",
        min=0, max=1,
    )  # fmt: skip
    effects: tuple[Any, ...] = option(
        (),
        "effects in their order, each a name, or a table of its name and parameters",
    )
    tail_seconds: float = option(
        0.0,
        "time added to the end for chorus, delay and reverb to decay; 0 keeps the length",
        unit="s", min=0, max=60,
    )  # fmt: skip
    output_sample_rate: int | None = option(
        None,
        "sampling rate of the result; null is that of the voice, or in files the next one that the format supports",
        unit="Hz", min=8000, max=192000,
    )  # fmt: skip
    output_format: str | None = option(
        None,
        "format of written files; null follows the name of an output file, and is wav for a folder",
        choices=FORMATS,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "effects", effects_from(self.effects))
        if isinstance(self.f0_file, os.PathLike):
            object.__setattr__(self, "f0_file", os.fspath(self.f0_file))
        super().__post_init__()
        self._check_contradictions()

    def _check_contradictions(self) -> None:
        pitch_options = ("autotune", "proposed_pitch_hz", "f0_file")
        chosen = [f"{name}={value}" for name in pitch_options if (value := getattr(self, name))]
        if len(chosen) > 1:
            raise ConfigurationError(f"{' and '.join(chosen)} exclude each other: choose one")
        if self.tail_seconds and not any(effect.has_tail for effect in self.effects):
            with_tail = " or ".join(name for name, effect in EFFECTS.items() if effect.has_tail)
            raise ConfigurationError(
                f"tail_seconds={self.tail_seconds:g} requires an effect with a tail: add {with_tail} to effects, or "
                "choose tail_seconds=0"
            )


def default_values() -> dict[str, Any]:
    """Return the default of each option in plain types."""
    return {
        one.name: list(one.default) if isinstance(one.default, tuple) else one.default
        for one in option_fields(ConversionOptions)
    }


def options_from(config: Mapping[str, Any]) -> ConversionOptions:
    """Return the options among the settings of a command. Raises ConfigurationError as `ConversionOptions`."""
    return ConversionOptions.from_values({name: config[name] for name in default_values()})


def register() -> None:
    """Register the defaults with Hydra as `conversion_options`, and the help text as the resolver `conversion_help`.

    Configuration files refer to both by these names.
    """
    ConfigStore.instance().store("conversion_options", default_values())
    OmegaConf.register_new_resolver("conversion_help", lambda: help_text().replace("$", "$$"), replace=True)


def help_text() -> str:
    """Return a description of all options and effects for a terminal."""
    lines = [line for one in option_fields(ConversionOptions) for line in _help_lines(one)]
    lines += ["", "Effects, as in 'effects=[compressor,{name:reverb,room_size:0.8},limiter]':", ""]
    for name, effect in EFFECTS.items():
        lines.append(f"  {name}: {effect.about}")
        lines += [f"      {_signature(one)}: {one.help}" for one in _parameters(effect)]
    return "\n".join(lines)


def markdown_table() -> str:
    """Return a table of all options and one of all effects for the documentation."""
    options = [(f"`{one.name}={one.default_text}`", _range(one), one.help) for one in option_fields(ConversionOptions)]
    effects = [
        (
            f"`{name}`",
            ", ".join(f"`{one.name}={one.default_text}` ({_range(one)})" for one in _parameters(effect)),
            effect.about,
        )
        for name, effect in EFFECTS.items()
    ]
    return "\n\n".join(
        (
            _table(("option and default", "values", "meaning"), options),
            _table(("effect", "parameters", "meaning"), effects),
        )
    )


def _help_lines(one: OptionField) -> list[str]:
    indent = " " * 6
    return [
        f"  {_signature(one)}",
        *textwrap.wrap(one.help, _HELP_WIDTH, initial_indent=indent, subsequent_indent=indent),
    ]


def _signature(one: OptionField) -> str:
    return f"{one.name}={one.default_text} ({_range(one)})"


def _parameters(effect: type) -> tuple[OptionField, ...]:
    return option_fields(effect)


def _range(one: OptionField) -> str:
    return one.allowed.removeprefix("a number from ")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
