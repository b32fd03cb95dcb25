"""Errors that a user can cause and fix.

A message contains the value, the choices and the remedy, in one line. Commands print it without a traceback and exit
with status 1 (`rvc_lightning.cli.command`).
"""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import shorten

_MAX_REASON_CHARACTERS = 400


def printable(text: str, keep: str = "") -> str:
    """Return `text` with escapes in place of characters that control a terminal, except those in `keep`."""
    return "".join(
        character if character.isprintable() or character in keep else repr(character)[1:-1] for character in text
    )


def one_line(reason: object) -> str:
    """Return an error of a library, or its message, as one line of limited length."""
    return shorten(str(reason), _MAX_REASON_CHARACTERS, placeholder=" …")


class RVCError(Exception):
    """Base of all errors that a user can fix."""

    def __str__(self) -> str:
        """Return the message, without the traceback that torch puts before the message of a worker's error."""
        text, name = super().__str__(), f"{type(self).__module__}.{type(self).__qualname__}: "
        # Names and values in messages may come from untrusted files.
        return printable(text.rpartition(name)[2].strip() if text.startswith("Caught ") else text, keep="\n")


class AudioError(RVCError):
    """A recording cannot be read or contains no usable audio."""


class TooLongError(AudioError):
    """A recording is longer than the server accepts."""


class DatasetError(RVCError):
    """A prepared dataset is missing, empty or inconsistent with the settings of the run."""


class UnknownDatasetError(DatasetError):
    """A prepared dataset does not exist."""


class VoiceError(RVCError):
    """A voice, a checkpoint or an index cannot be used."""


class UnknownVoiceError(VoiceError):
    """A voice does not exist."""


class AssetError(RVCError):
    """A pretrained file cannot be downloaded, or has unexpected content."""


class OutOfSpaceError(RVCError):
    """The disk is full."""


class NotWritableError(RVCError):
    """A file or folder cannot be created or changed."""


class InUseError(RVCError):
    """Another process uses the same folder."""


class UnknownJobError(RVCError):
    """A job does not exist."""


class BusyError(RVCError):
    """The server has too much work, or shuts down."""


class LostRankError(RVCError):
    """A process of a distributed run exited before the others."""


class DivergenceError(RVCError):
    """Training produced NaN or infinity."""


class OutOfMemoryError(RVCError):
    """A device or the host has too little memory."""


class ConfigurationError(RVCError):
    """Settings are invalid or contradict each other."""


def unknown_choice(kind: str, value: object, choices: Iterable[str]) -> ConfigurationError:
    """Return the error for an unregistered name.

    Args:
        kind: Kind of the name, such as 'pitch extractor'.
        value: The unregistered name.
        choices: Registered names.
    """
    return ConfigurationError(f"unknown {kind} '{value}'; choose one of: {', '.join(sorted(choices))}")
