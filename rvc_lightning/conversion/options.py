"""What can be chosen for a conversion, and where each choice acts.

    source ─▶ 16 kHz, high-pass ─┬─▶ pitch ─▶ f0_file ─▶ transpose ─▶ autotune | proposed pitch ─┬─▶ write_f0
                                 └─▶ split_on_silence ─▶ content ─▶ index_rate, protect ────────┴─▶ voice ─┐
                                                                                           (speaker, seed) │
    file ◀─ output_format ◀─ output_sample_rate ◀─ effects, tail ◀─ clean_noise ◀─ volume_envelope ◀───────┘

Everything that the project says about an option is here, once: the checks, the command's help, the README's table and
the widgets read it from these fields (`option_fields`).
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rvc_lightning.config.options import OptionField, check_options, option, option_fields, options_from
from rvc_lightning.conversion.effects import EFFECTS, Effect, effects_from
from rvc_lightning.errors import ConfigurationError

__all__ = ["ConversionOptions", "OptionField", "default_values", "help_text", "markdown_table", "option_fields"]

FORMATS = ("wav", "flac", "mp3", "ogg", "m4a")
"""Audio formats that can be written."""

_HELP_WIDTH = 110


@dataclass(frozen=True)
class ConversionOptions:
    """How a recording is converted (specification section 10).

    Raises:
        ConfigurationError: A value is of the wrong kind or out of range, or two contradict each other; the message
            names them and what is allowed.
    """

    transpose_semitones: float = option(
        0.0,
        "shift of the pitch, 12 to the octave; about 12 from a low to a high voice, -12 back; a voice without pitch "
        "has none to shift",
        unit="semitones", min=-48, max=48,
    )  # fmt: skip
    autotune: float = option(
        0.0,
        "how far the pitch is pulled to the nearest note: 0 not at all, 1 onto it",
        min=0, max=1,
    )  # fmt: skip
    proposed_pitch_hz: float | None = option(
        None,
        "pitch to move the recording to, by whole semitones, an octave at most; 155 suits low voices, 255 high ones",
        unit="Hz", min=50, max=1100,
    )  # fmt: skip
    f0_file: str | None = option(
        None,
        "pitch from a file of lines 'seconds,Hz' in place of the recording's own where the file covers it, 0 for "
        "unvoiced; for a folder of recordings, a folder of such files with the same names",
    )
    write_f0: bool = option(
        False,
        "writes the pitch that was used beside the audio, as NAME.f0.csv, a file for f0_file",
    )
    index_rate: float = option(
        0.75,
        "share of the features taken from the voice's own recordings, if there is an index",
        min=0, max=1,
    )  # fmt: skip
    protect: float = option(
        0.5,
        "share of those features in consonants and breaths: 0 keeps them nearest to the source, 0.5 is no protection",
        min=0, max=0.5,
    )  # fmt: skip
    volume_envelope: float = option(
        1.0,
        "loudness over time: 1 the voice's own, 0 the source's",
        min=0, max=1,
    )  # fmt: skip
    speaker: int | str = option(
        0,
        "speaker of a voice that has several, by number or by name",
        min=0,
    )  # fmt: skip
    noise_scale: float | None = option(
        None,
        "how widely the voice draws from what it has learned: 0 the most probable, 1 all of it; null as it was "
        "trained, which is 0.66666 for voices of other tools",
        min=0, max=1,
    )  # fmt: skip
    seed: int = option(
        0,
        "of the noise that is drawn; the same seed gives the same audio",
        min=0,
    )  # fmt: skip
    split_on_silence: bool = option(
        False,
        "converts only where there is sound (60 dB below the loudest and above); the rest becomes exact silence",
    )
    clean_noise: float = option(
        0.0,
        "how much of the steady noise is removed from the result: 0 none, 1 as much as can be told from the voice",
        min=0, max=1,
    )  # fmt: skip
    effects: tuple[Effect, ...] = option(
        (),
        "effects in their order, each a name, or a table of its name and parameters",
    )
    tail_seconds: float = option(
        0.0,
        "how much longer the result is, for what chorus, delay and reverb leave; 0 keeps the length",
        unit="s", min=0, max=60,
    )  # fmt: skip
    output_sample_rate: int | None = option(
        None,
        "sampling rate of the result; null is that of the voice, or in files the next that the format takes",
        unit="Hz", min=8000, max=192000,
    )  # fmt: skip
    output_format: str | None = option(
        None,
        "format of the files that are written; null goes by the name of an output file, and is wav in a folder",
        choices=FORMATS,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "effects", effects_from(self.effects))
        if isinstance(self.f0_file, os.PathLike):
            object.__setattr__(self, "f0_file", os.fspath(self.f0_file))
        check_options(self)
        self._refuse_contradictions()

    def _refuse_contradictions(self) -> None:
        chosen = {
            name: value for name in ("autotune", "proposed_pitch_hz", "f0_file") if (value := getattr(self, name))
        }
        if len(chosen) > 1:
            given = " and ".join(f"{name}={value}" for name, value in chosen.items())
            raise ConfigurationError(f"{given} contradict each other: each decides the pitch; choose one of them")
        if self.tail_seconds and not any(effect.rings for effect in self.effects):
            rings = ", ".join(name for name, effect in EFFECTS.items() if effect.rings)
            raise ConfigurationError(
                f"tail_seconds={self.tail_seconds:g} and effects={[effect.name for effect in self.effects]} contradict "
                f"each other: nothing rings on; add one of {rings}, or choose tail_seconds=0"
            )

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> ConversionOptions:
        """Options from names and values as YAML, JSON or widgets give them; what is left out has its default.

        Raises:
            ConfigurationError: As the class, and for a name that is no option.
        """
        return options_from(cls, values)


def default_values() -> dict[str, Any]:
    """Every option and its default, in plain types: what the command is configured by."""
    return {
        one.name: list(one.default) if one.default == () else one.default for one in option_fields(ConversionOptions)
    }


def help_text() -> str:
    """Every option, then every effect with its parameters, for a terminal."""
    lines = [line for one in option_fields(ConversionOptions) for line in _lines(one, "  ")]
    lines += ["", "Effects, as in 'effects=[compressor,{name:reverb,room_size:0.8},limiter]':", ""]
    for name, effect in EFFECTS.items():
        lines.append(f"  {name}: {effect.about}")
        lines += [f"      {_parameter(one, '')}: {one.help}" for one in option_fields(effect)]
    return "\n".join(lines)


def markdown_table() -> str:
    """Every option, then every effect with its parameters, as two tables for the README."""
    rows = [(f"`{one.name}={one.default_text}`", _range(one), one.help) for one in option_fields(ConversionOptions)]
    parameters = [
        (f"`{name}`", ", ".join(_parameter(one) for one in option_fields(effect)), effect.about)
        for name, effect in EFFECTS.items()
    ]
    return "\n\n".join(
        (
            _table(("option and default", "takes", "meaning"), rows),
            _table(("effect", "parameters", "what it does"), parameters),
        )
    )


def _lines(one: OptionField, indent: str) -> list[str]:
    more = textwrap.wrap(one.help, _HELP_WIDTH, initial_indent=indent + "    ", subsequent_indent=indent + "    ")
    return [f"{indent}{one.name}={one.default_text} ({_range(one)})", *more]


def _parameter(one: OptionField, quote: str = "`") -> str:
    return f"{quote}{one.name}={one.default_text}{quote} ({_range(one)})"


def _range(one: OptionField) -> str:
    """What an option takes, without words that a reader of a table needs not."""
    return one.allowed.removeprefix("a number from ")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
