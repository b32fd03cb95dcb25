"""Effects for the converted audio, as settings; `effect_stages.py` applies them.

A chain is a list and is applied from first to last:

    Python          effects=[Compressor(), Reverb(room_size=0.8), Limiter()]
    YAML            effects: [compressor, {name: reverb, room_size: 0.8}, limiter]
    command line    'effects=[compressor,{name:reverb,room_size:0.8},limiter]'

Effects and parameters have the names that pedalboard gives them. Where its default would leave the audio unchanged,
ours differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import unknown_choice


@dataclass(frozen=True)
class Effect(Settings):
    """One effect of a chain.

    The class statement takes the class variables as arguments; `name` defaults to that of the class in lower case.

    Raises:
        ConfigurationError: A parameter has the wrong type or is out of range.
    """

    name: ClassVar[str]
    """Name in YAML and on the command line."""
    description: ClassVar[str]
    """Description in one line."""

    def __init_subclass__(cls, description: str, name: str = "") -> None:
        cls.name, cls.description = name or cls.__name__.lower(), description
        super().__init_subclass__(group=cls.name)


@dataclass(frozen=True)
class PitchShift(
    Effect,
    description="shifts pitch and timbre of the converted audio; transpose_semitones shifts the pitch and keeps the "
    "timbre",
    name="pitch_shift",
):
    """Shift of pitch and timbre by `rvc_lightning/audio/pitch_shift.py`."""

    semitones: float = option(12.0, "shift, 12 to the octave", unit="semitones", min=-48, max=48)


@dataclass(frozen=True)
class NoiseGate(Effect, description="reduces the level of quiet parts, such as breaths", name="gate"):
    """Noise gate, or an expander with a low ratio."""

    threshold_db: float = option(-40.0, "level below which it acts", unit="dB", min=-100, max=0)
    ratio: float = option(10.0, "dB of output for each dB of input below the threshold", min=1, max=100)
    attack_ms: float = option(1.0, "time until the gate opens", unit="ms", min=0, max=500)
    release_ms: float = option(100.0, "time until the gate closes", unit="ms", min=0, max=3000)


@dataclass(frozen=True)
class HighpassFilter(Effect, description="attenuates low frequencies by 6 dB per octave", name="highpass"):
    """High-pass filter of first order."""

    cutoff_frequency_hz: float = option(100.0, "frequency that is attenuated by 3 dB", unit="Hz", min=10, max=10000)


@dataclass(frozen=True)
class LowpassFilter(Effect, description="attenuates high frequencies by 6 dB per octave", name="lowpass"):
    """Low-pass filter of first order."""

    cutoff_frequency_hz: float = option(4000.0, "frequency that is attenuated by 3 dB", unit="Hz", min=10, max=10000)


@dataclass(frozen=True)
class Gain(Effect, description="changes the level"):
    """Change of level."""

    gain_db: float = option(3.0, "change of the level", unit="dB", min=-60, max=60)


@dataclass(frozen=True)
class Compressor(Effect, description="reduces the level of loud parts"):
    """Dynamic range compression."""

    threshold_db: float = option(-20.0, "level above which it acts", unit="dB", min=-60, max=0)
    ratio: float = option(4.0, "dB of input for each dB of output above the threshold", min=1, max=20)
    attack_ms: float = option(1.0, "time until the level is reduced", unit="ms", min=0, max=500)
    release_ms: float = option(100.0, "time until the level is restored", unit="ms", min=0, max=3000)


@dataclass(frozen=True)
class Limiter(Effect, description="raises the level without exceeding full scale; the last in a chain"):
    """Raises the level without exceeding full scale."""

    threshold_db: float = option(-1.0, "level that is raised to full scale; lower is louder", unit="dB", min=-60, max=0)
    release_ms: float = option(100.0, "time until the level is restored", unit="ms", min=1, max=3000)


@dataclass(frozen=True)
class Distortion(Effect, description="overdrive with soft clipping"):
    """Overdrive by a hyperbolic tangent."""

    drive_db: float = option(25.0, "gain before clipping", unit="dB", min=0, max=60)


@dataclass(frozen=True)
class Clipping(Effect, description="hard clipping of peaks"):
    """Hard clipping."""

    threshold_db: float = option(-6.0, "level at which peaks are clipped", unit="dB", min=-60, max=0)


@dataclass(frozen=True)
class Bitcrush(Effect, description="quantizes samples to a few levels, as in early samplers"):
    """Quantization to a few levels."""

    bit_depth: float = option(8.0, "bits per sample", unit="bits", min=1, max=32)


@dataclass(frozen=True)
class Chorus(Effect, description="adds a copy with a modulated delay"):
    """A copy with a modulated delay; with a short delay and feedback, a flanger."""

    rate_hz: float = option(1.0, "frequency of the modulation", unit="Hz", min=0.01, max=99)
    depth: float = option(0.25, "depth of the modulation", min=0, max=1)
    centre_delay_ms: float = option(7.0, "mean delay of the copy", unit="ms", min=1, max=99)
    feedback: float = option(0.0, "share of the copy that is fed back", min=-0.95, max=0.95)
    mix: float = option(0.5, "share of the copy in the result", min=0, max=1)


@dataclass(frozen=True)
class Phaser(Effect, description="notches that sweep through the spectrum"):
    """Six all-pass filters of first order with a modulated frequency, mixed with the direct sound."""

    rate_hz: float = option(1.0, "frequency of the modulation", unit="Hz", min=0.01, max=99)
    depth: float = option(0.5, "depth of the modulation", min=0, max=1)
    centre_frequency_hz: float = option(1300.0, "centre of the modulation", unit="Hz", min=50, max=3500)
    feedback: float = option(0.0, "share of the filtered sound that is fed back", min=-0.95, max=0.95)
    mix: float = option(0.5, "share of the filtered sound in the result", min=0, max=1)


@dataclass(frozen=True)
class Delay(Effect, description="echoes"):
    """Echoes."""

    delay_seconds: float = option(0.5, "time between echoes", unit="s", min=0.001, max=5)
    feedback: float = option(0.0, "share of an echo in the next; 0 gives one echo", min=0, max=0.95)
    mix: float = option(0.5, "share of the echoes in the result", min=0, max=1)


@dataclass(frozen=True)
class Reverb(Effect, description="reverberation of a room"):
    """Reverberation (Freeverb), without freeze_mode, which would hold the silence before the start."""

    room_size: float = option(0.5, "size of the room, and thus decay time", min=0, max=1)
    damping: float = option(0.5, "damping of high frequencies", min=0, max=1)
    wet_level: float = option(0.33, "level of the reverberation", min=0, max=1)
    dry_level: float = option(0.4, "level of the direct sound", min=0, max=1)
    width: float = option(1.0, "width in stereo; in mono, the reverberation has half its level at 0", min=0, max=1)


EFFECTS: dict[str, type[Effect]] = {
    effect.name: effect
    for effect in (
        PitchShift, NoiseGate, HighpassFilter, LowpassFilter, Compressor, Distortion, Clipping, Bitcrush, Chorus,
        Phaser, Delay, Reverb, Gain, Limiter,
    )
}  # fmt: skip
"""Effects by name, in an order that suits a chain."""


def effect_from(value: Any) -> Effect:
    """Build an effect from itself, its name, or a table of its name and parameters.

    Raises:
        ConfigurationError: The effect is unknown, or a parameter is unknown or out of range.
    """
    if isinstance(value, Effect):
        return value
    parameters = dict(value) if isinstance(value, Mapping) else {"name": value}
    name = parameters.pop("name", value)
    if not isinstance(name, str) or name not in EFFECTS:
        raise unknown_choice("effect", name, EFFECTS)
    return EFFECTS[name].from_values(parameters)
