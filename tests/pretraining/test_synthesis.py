"""Settings of the corpus of synthesized speech."""

import pytest

from rvc_lightning.errors import ConfigurationError
from rvc_lightning.pretraining.speaker import SpeakerFiles
from rvc_lightning.pretraining.synthesis import CorpusSettings
from rvc_lightning.pretraining.train import PretrainingSettings

CORPUS = {"corpus": "c", "sentences": 1, "words": "w", "readers": 1, "recordings": None, "seed": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"readers": 10}, "readers=10: choose a whole number from 1 to 9"),
        ({"words": None}, "words"),
        ({"seed": -1}, "seed=-1: choose a whole number from 0 up"),
    ],
)
def test_wrong_settings_of_a_corpus(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        CorpusSettings.from_config(CORPUS | changes)


@pytest.mark.parametrize("settings", [PretrainingSettings, SpeakerFiles])
def test_seed_out_of_range(settings):
    files = {"corpus": "c", "output": "o", "checkpoint": None, "start_from": None}
    with pytest.raises(ConfigurationError, match="seed=-1: choose a whole number from 0 to 4294967295"):
        settings.from_config(files | {"seed": -1})
