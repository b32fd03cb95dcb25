"""Effects for the converted audio, as settings; `effect_stages.py` applies them.

A chain is a list and is applied from first to last:

    Python          effects=[Compressor(), Reverb(room_size=0.8), Limiter()]
    YAML            effects: [compressor, {name: reverb, room_size: 0.8}, limiter]
    command line    'effects=[compressor,{name:reverb,room_size:0.8},limiter]'

Parameters have the names that pedalboard gives them. Where its default would leave the audio unchanged, ours differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import ConfigurationError, unknown_choice


@dataclass(frozen=True)
class Effect(Settings):
    """One effect of a chain.

    Raises:
        ConfigurationError: A parameter has the wrong type or is out of range.
    """

    name: ClassVar[str]
    """Name in YAML and on the command line."""
    pedalboard_name: ClassVar[str]
    """Class or function of pedalboard that implements it."""
    about: ClassVar[str]
    """Description in one line."""
    has_tail: ClassVar[bool] = False
    """Whether it continues to sound after the input has ended."""
    is_live: ClassVar[bool] = True
    """Whether it returns each block immediately, as a stream requires."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(group=cls.name, **kwargs)


@dataclass(frozen=True)
class PitchShift(Effect):
    """Shifts the converted audio including its timbre, while `transpose_semitones` shifts the pitch alone.

    Uses `pedalboard.time_stretch`: the class `pedalboard.PitchShift` wavers, and returns silence when called by block.
    """

    name = "pitch_shift"
    pedalboard_name = "time_stretch"
    is_live = False
    about = "shifts pitch and timbre of the converted audio; transpose_semitones shifts the pitch and keeps the timbre"

    semitones: float = option(12.0, "shift, 12 to the octave", unit="semitones", min=-48, max=48)
    preserve_formants: bool = option(False, "keeps the timbre")


@dataclass(frozen=True)
class Gain(Effect):
    """Change of level."""

    name = "gain"
    pedalboard_name = "Gain"
    about = "changes the level"

    gain_db: float = option(3.0, "change of the level", unit="dB", min=-60, max=60)


@dataclass(frozen=True)
class Compressor(Effect):
    """Dynamic range compression."""

    name = "compressor"
    pedalboard_name = "Compressor"
    about = "reduces the level of loud parts"

    threshold_db: float = option(-20.0, "level above which it acts", unit="dB", min=-60, max=0)
    ratio: float = option(4.0, "dB of input for each dB of output above the threshold", min=1, max=20)
    attack_ms: float = option(1.0, "time until the level is reduced", unit="ms", min=0, max=500)
    release_ms: float = option(100.0, "time until the level is restored", unit="ms", min=0, max=3000)


@dataclass(frozen=True)
class Limiter(Effect):
    """Raises the level without exceeding full scale."""

    name = "limiter"
    pedalboard_name = "Limiter"
    about = "raises the level without exceeding full scale; the last in a chain"

    threshold_db: float = option(-1.0, "level that is raised to full scale; lower is louder", unit="dB", min=-60, max=0)
    release_ms: float = option(100.0, "time until the level is restored", unit="ms", min=1, max=3000)


@dataclass(frozen=True)
class Distortion(Effect):
    """Overdrive by a hyperbolic tangent."""

    name = "distortion"
    pedalboard_name = "Distortion"
    about = "overdrive with soft clipping"

    drive_db: float = option(25.0, "gain before clipping", unit="dB", min=0, max=60)


@dataclass(frozen=True)
class Clipping(Effect):
    """Hard clipping."""

    name = "clipping"
    pedalboard_name = "Clipping"
    about = "hard clipping of peaks"

    threshold_db: float = option(-6.0, "level at which peaks are clipped", unit="dB", min=-60, max=0)


@dataclass(frozen=True)
class Bitcrush(Effect):
    """Quantization to few levels."""

    name = "bitcrush"
    pedalboard_name = "Bitcrush"
    about = "quantizes samples to few levels, as in early samplers"

    bit_depth: float = option(8.0, "bits per sample", unit="bits", min=1, max=32)


@dataclass(frozen=True)
class Chorus(Effect):
    """A copy with a modulated delay; with a short delay and feedback, a flanger."""

    name = "chorus"
    pedalboard_name = "Chorus"
    about = "adds a copy with a modulated delay"
    has_tail = True

    rate_hz: float = option(1.0, "frequency of the modulation", unit="Hz", min=0.01, max=99)
    depth: float = option(0.25, "depth of the modulation", min=0, max=1)
    centre_delay_ms: float = option(7.0, "mean delay of the copy", unit="ms", min=1, max=99)
    feedback: float = option(0.0, "share of the copy that is fed back", min=-0.95, max=0.95)
    mix: float = option(0.5, "share of the copy in the result", min=0, max=1)


@dataclass(frozen=True)
class Delay(Effect):
    """Echoes."""

    name = "delay"
    pedalboard_name = "Delay"
    about = "echoes"
    has_tail = True

    delay_seconds: float = option(0.5, "time between echoes", unit="s", min=0.001, max=5)
    feedback: float = option(0.0, "share of an echo in the next; 0 gives one echo", min=0, max=0.95)
    mix: float = option(0.5, "share of the echoes in the result", min=0, max=1)


@dataclass(frozen=True)
class Reverb(Effect):
    """Reverberation (Freeverb), without freeze_mode, which would hold the silence before the start."""

    name = "reverb"
    pedalboard_name = "Reverb"
    about = "reverberation of a room"
    has_tail = True

    room_size: float = option(0.5, "size of the room, and thus decay time", min=0, max=1)
    damping: float = option(0.5, "damping of high frequencies", min=0, max=1)
    wet_level: float = option(0.33, "level of the reverberation", min=0, max=1)
    dry_level: float = option(0.4, "level of the direct sound", min=0, max=1)
    width: float = option(1.0, "width in stereo; in mono, the reverberation has half its level at 0", min=0, max=1)


EFFECTS: dict[str, type[Effect]] = {
    effect.name: effect
    for effect in (
        PitchShift, Compressor, Distortion, Clipping, Bitcrush, Chorus, Delay, Reverb, Gain, Limiter,
    )
}  # fmt: skip
"""Effects by name, in an order that suits a chain."""


def effects_from(values: Any) -> tuple[Effect, ...]:
    """Build a chain from effects, names, or tables of a name and parameters.

    Raises:
        ConfigurationError: `values` is not a list, or an effect or one of its parameters is unknown or out of range.
    """
    if isinstance(values, str | Mapping) or not isinstance(values, Sequence):
        raise ConfigurationError(f"effects={values!r}: choose a list, such as [reverb,{{name:gain,gain_db:3}}]")
    return tuple(_effect_from(value) for value in values)


def _effect_from(value: Any) -> Effect:
    if isinstance(value, Effect):
        return value
    table = {"name": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        raise ConfigurationError(
            f"effects: {value!r} is not an effect; choose a name, or a table with a name: {', '.join(EFFECTS)}"
        )
    if table["name"] not in EFFECTS:
        raise unknown_choice("effect", table["name"], EFFECTS)
    return EFFECTS[table["name"]].from_values({key: given for key, given in table.items() if key != "name"})
