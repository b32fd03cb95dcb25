"""Options that depend on the voice: the speaker by number or name, and the noise scale."""

from __future__ import annotations

from dataclasses import replace

from rvc_lightning.cli.columns import pluralize
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import VoiceError
from rvc_lightning.voice.voice import Voice


def speaker_number(voice: Voice, speaker: int | str | None) -> int:
    """Return the row of the speaker table for a speaker of `voice`.

    Args:
        voice: The voice.
        speaker: Name, or number from 0; None is the first speaker. If speakers have numbers as names, as after training
            on numbered folders, a number is such a name and never a row.

    Raises:
        VoiceError: The voice has no such speaker; the message lists the choices.
    """
    if speaker is None:
        return 0
    names, text = voice.speaker_names, str(speaker)
    if names.count(text) == 1:
        return names.index(text)
    number, numbers = _number(text), [_number(name) for name in names]
    if number is not None and numbers.count(number) == 1:
        return numbers.index(number)
    rows = {str(row) for row in voice.speaker_numbers}
    has_numbers_as_names = any(name_number is not None for name_number in numbers)
    if number in rows and (not has_numbers_as_names or len(rows) == 1):
        return int(text)
    raise VoiceError(f"speaker={speaker}: the voice has {pluralize(len(rows), 'speaker')}; {_choices(voice)}")


def resolve_options(options: ConversionOptions, voice: Voice) -> ConversionOptions:
    """Return options with the row of the speaker, and with the noise scale of the voice if none is chosen.

    Raises:
        VoiceError: The voice has no such speaker.
    """
    noise_scale = voice.noise_scale if options.noise_scale is None else options.noise_scale
    return replace(options, speaker=speaker_number(voice, options.speaker), noise_scale=noise_scale)


def _number(text: str) -> str | None:
    """Return a whole number without leading zeros; None for other text."""
    return text.lstrip("0") or "0" if text.isascii() and text.isdecimal() else None


def _choices(voice: Voice) -> str:
    last = voice.speaker_numbers[-1]
    names = voice.speaker_names
    numbers = f"choose 0{f' to {last}' if last else ''}"
    if not names:
        return f"{numbers}; it stores no names"
    if any(_number(name) for name in names):
        return f"choose one of: {', '.join(names)}"
    return f"{numbers}, or by name: {', '.join(names)}"
