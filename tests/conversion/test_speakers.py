"""Speakers by number and by name."""

import pytest
from stubs import make_voice, quick_config

from rvc_lightning import ConversionOptions
from rvc_lightning.conversion.speakers import resolve_options, speaker_number
from rvc_lightning.errors import VoiceError
from rvc_lightning.models.synthesizer import PRIOR_NOISE_SCALE


def voice(*names):
    return make_voice(quick_config(), rvc_lightning={"speakers": list(names)})


@pytest.mark.parametrize(
    ("names", "speaker", "row"),
    [
        ([], None, 0),
        ([], 1, 1),
        ([], "1", 1),
        (["anna", "ben"], None, 0),
        (["anna", "ben"], 1, 1),
        (["anna", "ben"], "1", 1),
        (["anna", "ben"], "ben", 1),
        # Numbers of folders are names, not rows.
        (["1", "2"], None, 0),
        (["1", "2"], 1, 0),
        (["1", "2"], "2", 1),
        (["1", "0"], 1, 0),
        (["225", "226"], 226, 1),
        (["225", "226"], "225", 0),
        (["001", "002"], 2, 1),
        (["001", "002"], "001", 0),
        (["1", "anna"], 1, 0),
        # A single speaker is also the speaker 0 of other tools.
        (["225"], 0, 0),
        (["anna"], 0, 0),
    ],
)
def test_speakers_by_name_and_by_number(names, speaker, row):
    assert speaker_number(voice(*names), speaker) == row


@pytest.mark.parametrize(
    ("names", "speaker", "message"),
    [
        (["anna", "ben"], 2, r"speaker=2: the voice has 2 speakers; choose 0 to 1, or by name: anna, ben"),
        (["anna", "ben"], "cleo", r"speaker=cleo: the voice has 2 speakers; choose 0 to 1, or by name: anna, ben"),
        (["anna", "anna"], "anna", "speaker=anna"),
        ([], "anna", "choose 0 to 1; it stores no names"),
        ([], "7", "speaker=7: the voice has 2 speakers"),
        (["1", "2"], 0, "speaker=0: the voice has 2 speakers; choose one of: 1, 2"),
        (["225", "226"], 1, "speaker=1: the voice has 2 speakers; choose one of: 225, 226"),
        (["3", "anna"], 1, "speaker=1: the voice has 2 speakers; choose one of: 3, anna"),
        (["1", "01"], 2, "choose one of: 1, 01"),
        (["9" * 5000, "2"], "9" * 4999, "speaker=9"),
        # The second row of the table is unused.
        (["anna"], 1, "speaker=1: the voice has 1 speaker; choose 0, or by name: anna$"),
        (["0"], 1, "speaker=1: the voice has 1 speaker; choose one of: 0$"),
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
