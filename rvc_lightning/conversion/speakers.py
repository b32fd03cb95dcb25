"""Speakers of a voice by number or by name, and what else of a conversion the voice decides."""

from __future__ import annotations

from dataclasses import replace

from rvc_lightning.cli.columns import pluralize
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import VoiceError
from rvc_lightning.voice.voice import Voice


def speaker_number(voice: Voice, speaker: int | str) -> int:
    """The number of a speaker of `voice`.

    Args:
        voice: The voice.
        speaker: A number from 0, or a name; a name of digits that no speaker has is a number.

    Raises:
        VoiceError: The voice was trained with no such speaker; the message has those that there are.
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


def with_voice(options: ConversionOptions, voice: Voice) -> ConversionOptions:
    """Options that leave nothing to the voice: the speaker by number, and the voice's noise where none is chosen.

    Raises:
        VoiceError: The voice has no such speaker.
    """
    noise_scale = voice.noise_scale if options.noise_scale is None else options.noise_scale
    return replace(options, speaker=speaker_number(voice, options.speaker), noise_scale=noise_scale)


def _choices(voice: Voice) -> str:
    last = voice.speaker_numbers[-1]
    names = voice.speaker_names
    named = f", by name: {', '.join(names)}" if names else "; it stores no names"
    # One speaker alone is often called by its number.
    return f"choose 0{f' to {last}' if last else ''}{'' if names == ['0'] else named}"
