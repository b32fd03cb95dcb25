"""Speakers by number and by name."""

import pytest
from stubs import make_voice, quick_config

from rvc_lightning import ConversionOptions
from rvc_lightning.conversion.speakers import resolve_options, speaker_number
from rvc_lightning.errors import VoiceError
from rvc_lightning.models.synthesizer import PRIOR_NOISE_SCALE


def voice(*names):
    return make_voice(quick_config(), rvc_lightning={"speakers": list(names)})


def test_by_number_and_by_name():
    anna_and_ben = voice("anna", "ben")
    assert [speaker_number(anna_and_ben, speaker) for speaker in (1, "anna", "ben", "1")] == [1, 0, 1, 1]
    # A name has precedence: speaker 0 has the name 1.
    assert speaker_number(voice("1", "0"), "1") == 0
    assert speaker_number(make_voice(quick_config()), "1") == 1


@pytest.mark.parametrize(
    ("names", "speaker", "message"),
    [
        (["anna", "ben"], 2, r"speaker=2: the voice has 2 speakers, choose 0 to 1, by name: anna, ben"),
        (["anna", "ben"], "cleo", r"speaker=cleo: the voice has no single speaker of this name, choose .*anna, ben"),
        (["anna", "anna"], "anna", "no single speaker of this name"),
        ([], "anna", "choose 0 to 1; it stores no names"),
        ([], "7", "speaker=7: the voice has 2 speakers"),
        # The second row of the table is unused.
        (["anna"], 1, "speaker=1: the voice has 1 speaker, choose 0, by name: anna$"),
        (["0"], 1, "speaker=1: the voice has 1 speaker, choose 0$"),
    ],
)
def test_unknown_speakers_are_rejected(names, speaker, message):
    with pytest.raises(VoiceError, match=message):
        speaker_number(voice(*names), speaker)


@pytest.mark.parametrize("own", [None, "x", {"speakers": "anna"}, {"speakers": [1, 2]}, {"speakers": {"a": 1}}])
def test_invalid_stored_names_are_ignored(own):
    assert make_voice(quick_config(), rvc_lightning=own).speaker_names == []


@pytest.mark.parametrize(
    ("stored", "chosen", "expected"),
    [
        ({"noise_scale": 0.3}, None, 0.3),
        ({"noise_scale": 0.3}, 0.0, 0.0),
        ({}, None, PRIOR_NOISE_SCALE),
        (None, None, PRIOR_NOISE_SCALE),
        ({"noise_scale": "loud"}, None, PRIOR_NOISE_SCALE),
        ({"noise_scale": float("nan")}, None, PRIOR_NOISE_SCALE),
        ({"noise_scale": 7}, None, PRIOR_NOISE_SCALE),
    ],
)
def test_noise_scale_defaults_to_that_of_the_voice(stored, chosen, expected):
    options = resolve_options(ConversionOptions(noise_scale=chosen), make_voice(quick_config(), rvc_lightning=stored))
    assert (options.noise_scale, options.speaker) == (expected, 0)
