"""Options of live conversion that can change while it runs, in addition to those of the conversion itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import OmegaConf

from rvc_lightning.config.options import Settings, option, option_fields
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import ConfigurationError, unknown_choice


@dataclass(frozen=True)
class LiveOptions(Settings):
    """Levels and switches.

    Raises:
        ConfigurationError: A value has the wrong type or is out of range.
    """

    input_gain_db: float = option(0.0, "gain before the conversion", unit="dB", min=-60, max=60)
    output_gain_db: float = option(0.0, "gain after the conversion", unit="dB", min=-60, max=60)
    input_noise_reduction: float = option(
        0.0,
        "strength of the removal of steady noise from the input, which adds 8 ms of latency; 0 none, 1 the most",
        min=0,
        max=1,
    )
    gate_db: float | None = option(
        None, "level of the input below which it is silenced; null keeps everything", unit="dB", min=-120, max=0
    )
    bypass: bool = option(False, "whether to pass the original through, with the same latency")
    mute: bool = option(False, "whether to mute the output")


@dataclass(frozen=True)
class Changes:
    """Settings that can change during live conversion."""

    conversion: ConversionOptions
    """Options of the conversion."""
    live: LiveOptions
    """Levels and switches."""
    voice: str | None = None
    """File of another voice; None keeps the voice."""
    record_input: str | None = None
    """File that receives the input; None for none."""
    record_output: str | None = None
    """File that receives the output; None for none."""

    def merged(self, values: Mapping[str, Any]) -> Changes:
        """Return these options with some values changed.

        Raises:
            ConfigurationError: A name is unknown, or a value is of the wrong type or out of range.
        """
        own, live, conversion = (_names(owner) for owner in (Changes, LiveOptions, ConversionOptions))
        own = [name for name in own if name not in ("conversion", "live")]
        for name, value in values.items():
            if name not in (*own, *live, *conversion):
                raise unknown_choice("live option", name, (*own, *live, *conversion))
            if name in own and not isinstance(value, str | None):
                raise ConfigurationError(f"{name}={value}: choose a file or null")

        def chosen(names: list[str]) -> dict[str, Any]:
            return {name: value for name, value in values.items() if name in names}

        return replace(
            self,
            conversion=replace(self.conversion, **chosen(conversion)),
            live=replace(self.live, **chosen(live)),
            **chosen(own),
        )


def _names(owner: type) -> list[str]:
    return [field.name for field in option_fields(owner)]


def parse(line: str) -> dict[str, Any]:
    """Return names and values of a line such as 'transpose_semitones=3 mute=true', as the command line reads them.

    Raises:
        ConfigurationError: The line is not of this form.
    """
    parts = line.split()
    if not all("=" in part for part in parts):
        raise ConfigurationError(f"'{line.strip()}': type NAME=VALUE, such as transpose_semitones=3")
    values = OmegaConf.to_container(OmegaConf.from_dotlist(parts))
    assert isinstance(values, dict)
    return {str(name): value for name, value in values.items()}
