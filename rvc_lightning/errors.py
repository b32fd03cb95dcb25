"""Errors that a user can cause and mend.

Every message names the offending value, the choices there are and the remedy. The commands print the message
alone, without a traceback, and end with exit status 1 (`rvc_lightning.cli.commands.reported`).
"""

from __future__ import annotations

from collections.abc import Iterable


class RVCError(Exception):
    """Something the user can mend: the message says what, where and how."""

    def __str__(self) -> str:
        """The message alone: torch puts the traceback of a loading process before that of an error raised in one."""
        text, name = super().__str__(), f"{type(self).__module__}.{type(self).__qualname__}: "
        return text.rpartition(name)[2].strip() if text.startswith("Caught ") else text


class AudioError(RVCError):
    """A recording cannot be read or holds nothing usable."""


class DatasetError(RVCError):
    """A prepared dataset is missing, empty or does not fit the settings of the run."""


class VoiceError(RVCError):
    """A voice, a checkpoint or an index cannot be used."""


class AssetError(RVCError):
    """A pretrained file cannot be fetched, or is not what it should be."""


class OutOfSpaceError(RVCError):
    """A disk has no room for what is to be written."""


class NotWritableError(RVCError):
    """A file or folder cannot be made or changed."""


class InUseError(RVCError):
    """Another process is at work in the same folder."""


class LostRankError(RVCError):
    """One of the processes that train or convert together has ended before the others."""


class DivergenceError(RVCError):
    """Training has come to values that are not finite."""


class OutOfMemoryError(RVCError):
    """A device, or the host, has no memory left for what is to be computed."""


class ConfigurationError(RVCError):
    """Settings contradict each other, or name something that does not exist."""


def unknown_choice(kind: str, value: object, choices: Iterable[str]) -> ConfigurationError:
    """The error for a name that is not registered: `kind` (what was asked for), the value and the choices."""
    return ConfigurationError(f"there is no {kind} named '{value}'; choose one of: {', '.join(sorted(choices))}")
