"""Options that depend on the voice: the speaker by number or name, and the noise scale."""

from __future__ import annotations

from dataclasses import replace

from rvc_lightning.cli.columns import pluralize
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import VoiceError
from rvc_lightning.voice.voice import Voice


def speaker_number(voice: Voice, speaker: int | str) -> int:
    """Return the number of a speaker of `voice`.

    Args:
        voice: The voice.
        speaker: Number from 0, or name; digits that are no name are a number.

    Raises:
        VoiceError: The voice has no such speaker; the message lists the choices.
    """
    names = voice.speaker_names
    if isinstance(speaker, str):
        if names.count(speaker) == 1:
            return names.index(speaker)
        if not speaker.isdecimal():
            raise VoiceError(f"speaker={speaker}: the voice has no single speaker of this name, {_choices(voice)}")
    number = int(speaker)
    if number not in voice.speaker_numbers:
        count = pluralize(len(voice.speaker_numbers), "speaker")
        raise VoiceError(f"speaker={number}: the voice has {count}, {_choices(voice)}")
    return number


def resolve_options(options: ConversionOptions, voice: Voice) -> ConversionOptions:
    """Return options with the number of the speaker, and with the noise scale of the voice if none is chosen.

    Raises:
        VoiceError: The voice has no such speaker.
    """
    noise_scale = voice.noise_scale if options.noise_scale is None else options.noise_scale
    return replace(options, speaker=speaker_number(voice, options.speaker), noise_scale=noise_scale)


def _choices(voice: Voice) -> str:
    last = voice.speaker_numbers[-1]
    names = voice.speaker_names
    named = f", by name: {', '.join(names)}" if names else "; it stores no names"
    # A single speaker often has its number as its name.
    return f"choose 0{f' to {last}' if last else ''}{'' if names == ['0'] else named}"
