"""Settings of a cover, as in `conf/cover.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.separation.base import PARTS


@dataclass(frozen=True, kw_only=True)
class SongSettings(Settings):
    """The song: a recording to separate, or its stems.

    Raises:
        ConfigurationError: Both or neither are given.
    """

    song: str | None
    separation: str = option(choices=PARTS)
    vocals: str | None
    instrumental: str | None
    backing: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        stems = {name: getattr(self, name) for name in ("vocals", "instrumental", "backing")}
        given = [f"{name}={path}" for name, path in stems.items() if path]
        if self.song and given:
            raise ConfigurationError(f"song={self.song} and {', '.join(given)}: name the song or its stems")
        if given and self.separation != PARTS[0]:
            raise ConfigurationError(f"separation={self.separation}: stems are not separated; name the song, song=FILE")
        if not self.song and not (self.vocals and self.instrumental):
            raise ConfigurationError(
                f"{', '.join(given) or 'song=... is missing'}: name the recording of a song, song=FILE, or its stems, "
                "vocals=FILE instrumental=FILE"
            )

    def files(self) -> list[Path]:
        """Return the recordings that are read; the first has the sampling rate of the cover."""
        return [Path(path) for path in (self.song, self.instrumental, self.vocals, self.backing) if path]


@dataclass(frozen=True, kw_only=True)
class Gains(Settings, group="gains"):
    """Changes of level in the mix."""

    lead: float = option(unit="dB", min=-60, max=24)
    backing: float = option(unit="dB", min=-60, max=24)
    instrumental: float = option(unit="dB", min=-60, max=24)


@dataclass(frozen=True, kw_only=True)
class MixSettings(Settings):
    """How the parts of a cover are mixed."""

    gains: Any
    """Values of `Gains`."""
    convert_backing: bool
    key_semitones: float = option(unit="semitones", min=-12, max=12)
    loudness_lufs: float | None = option(unit="LUFS", min=-60, max=-5)
    peak_db: float = option(unit="dB", min=-20, max=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "gains", Gains.from_values(self.gains))
