"""Effects that can be laid on a converted voice, as settings; `effect_stages.py` makes them heard.

A chain is a list, and goes from its first effect to its last:

    Python          effects=[Compressor(), Reverb(room_size=0.8), Limiter()]
    YAML            effects: [compressor, {name: reverb, room_size: 0.8}, limiter]
    command line    'effects=[compressor,{name:reverb,room_size:0.8},limiter]'

Parameters and their names are those of pedalboard. Where its default would leave the voice as it is, ours does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rvc_lightning.config.options import check_options, option, options_from
from rvc_lightning.errors import ConfigurationError, unknown_choice


@dataclass(frozen=True)
class Effect:
    """One effect of a chain.

    Raises:
        ConfigurationError: A parameter is of the wrong kind or out of range.
    """

    name: ClassVar[str]
    """In YAML and on the command line."""
    pedalboard_name: ClassVar[str]
    """Of the class or function in pedalboard that makes it."""
    about: ClassVar[str]
    """What it does, in one line."""
    rings: ClassVar[bool] = False
    """Whether it sounds on after the voice has ended."""
    is_live: ClassVar[bool] = True
    """Whether it gives at once what it is given, as a stream needs it."""

    def __post_init__(self) -> None:
        check_options(self, f"{self.name}.")


@dataclass(frozen=True)
class PitchShift(Effect):
    """Moves the finished voice, its timbre included; `transpose_semitones` moves what the voice is asked to sing.

    By `pedalboard.time_stretch`, for the class of this name warbles and gives silence block by block.
    """

    name = "pitch_shift"
    pedalboard_name = "time_stretch"
    is_live = False
    about = "moves the finished voice with its timbre; transpose_semitones moves what it sings and keeps the timbre"

    semitones: float = option(12.0, "shift, 12 to the octave", unit="semitones", min=-48, max=48)
    preserve_formants: bool = option(False, "keeps the timbre where it is")


@dataclass(frozen=True)
class Gain(Effect):
    """Louder or quieter."""

    name = "gain"
    pedalboard_name = "Gain"
    about = "louder or quieter"

    gain_db: float = option(3.0, "change of the level", unit="dB", min=-60, max=60)


@dataclass(frozen=True)
class Compressor(Effect):
    """Turns loud parts down."""

    name = "compressor"
    pedalboard_name = "Compressor"
    about = "turns loud parts down, so that loud and quiet come nearer"

    threshold_db: float = option(-20.0, "level above which it acts", unit="dB", min=-60, max=0)
    ratio: float = option(4.0, "so many dB above the threshold become one", min=1, max=20)
    attack_ms: float = option(1.0, "time to turn down", unit="ms", min=0, max=500)
    release_ms: float = option(100.0, "time to turn up again", unit="ms", min=0, max=3000)


@dataclass(frozen=True)
class Limiter(Effect):
    """Louder as a whole, and nothing beyond full scale."""

    name = "limiter"
    pedalboard_name = "Limiter"
    about = "makes loud without passing full scale; last in the chain"

    threshold_db: float = option(
        -1.0, "this level is raised to full scale: the lower, the louder", unit="dB", min=-60, max=0
    )
    release_ms: float = option(100.0, "time to turn up again", unit="ms", min=1, max=3000)


@dataclass(frozen=True)
class Distortion(Effect):
    """Overdrive: a hyperbolic tangent."""

    name = "distortion"
    pedalboard_name = "Distortion"
    about = "overdrive, softly clipped"

    drive_db: float = option(25.0, "gain before it", unit="dB", min=0, max=60)


@dataclass(frozen=True)
class Clipping(Effect):
    """Cuts peaks off hard."""

    name = "clipping"
    pedalboard_name = "Clipping"
    about = "cuts peaks off"

    threshold_db: float = option(-6.0, "level at which they are cut", unit="dB", min=-60, max=0)


@dataclass(frozen=True)
class Bitcrush(Effect):
    """Fewer levels, as of early samplers."""

    name = "bitcrush"
    pedalboard_name = "Bitcrush"
    about = "rounds samples to few levels, as early samplers did"

    bit_depth: float = option(8.0, "bits of a sample", unit="bits", min=1, max=32)


@dataclass(frozen=True)
class Chorus(Effect):
    """A second, wavering voice; with a short delay and feedback, a flanger."""

    name = "chorus"
    pedalboard_name = "Chorus"
    about = "adds a copy that wavers in time"
    rings = True

    rate_hz: float = option(1.0, "how often it wavers", unit="Hz", min=0.01, max=99)
    depth: float = option(0.25, "how far it wavers", min=0, max=1)
    centre_delay_ms: float = option(7.0, "delay that it wavers around", unit="ms", min=1, max=99)
    feedback: float = option(0.0, "share of the copy that is copied again", min=-0.95, max=0.95)
    mix: float = option(0.5, "share of the copy in what is heard", min=0, max=1)


@dataclass(frozen=True)
class Delay(Effect):
    """Echoes."""

    name = "delay"
    pedalboard_name = "Delay"
    about = "echoes"
    rings = True

    delay_seconds: float = option(0.5, "time between echoes", unit="s", min=0.001, max=5)
    feedback: float = option(0.0, "share of an echo in the next; 0 is one echo", min=0, max=0.95)
    mix: float = option(0.5, "share of the echoes in what is heard", min=0, max=1)


@dataclass(frozen=True)
class Reverb(Effect):
    """A room (Freeverb). pedalboard's freeze_mode is left out: it holds what rings, and at the start nothing does."""

    name = "reverb"
    pedalboard_name = "Reverb"
    about = "a room"
    rings = True

    room_size: float = option(0.5, "how long it rings", min=0, max=1)
    damping: float = option(0.5, "how dull it rings", min=0, max=1)
    wet_level: float = option(0.33, "level of the room", min=0, max=1)
    dry_level: float = option(0.4, "level of the voice itself", min=0, max=1)
    width: float = option(
        1.0, "of the stereo image; of one channel, how loud the room is, from half to full", min=0, max=1
    )


EFFECTS: dict[str, type[Effect]] = {
    effect.name: effect
    for effect in (
        PitchShift, Compressor, Distortion, Clipping, Bitcrush, Chorus, Delay, Reverb, Gain, Limiter,
    )
}  # fmt: skip
"""The effects by name, in an order that suits a chain."""


def effects_from(values: Any) -> tuple[Effect, ...]:
    """A chain from what YAML, the command line or widgets give: effects, names, or tables of a name and parameters.

    Raises:
        ConfigurationError: It is no list, or an effect or a parameter of it is unknown or out of range.
    """
    if isinstance(values, str | Mapping) or not isinstance(values, Sequence):
        raise ConfigurationError(f"effects={values!r}: choose a list, such as [reverb,{{name:gain,gain_db:3}}]")
    return tuple(_effect_from(value) for value in values)


def _effect_from(value: Any) -> Effect:
    if isinstance(value, Effect):
        return value
    table = {"name": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        raise ConfigurationError(f"effects: {value!r} is no effect; choose a name, or a table with a name: {_NAMES}")
    if table["name"] not in EFFECTS:
        raise unknown_choice("effect", table["name"], EFFECTS)
    parameters = {str(name): given for name, given in table.items() if name != "name"}
    return options_from(EFFECTS[table["name"]], parameters, f"parameter of the effect '{table['name']}'")


_NAMES = ", ".join(EFFECTS)
