"""Synthesizers, if they are installed."""

import ctypes.util
import itertools
import random
import shutil

import numpy as np
import pytest

from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.pretraining.phones import PHONES, SILENCE
from rvc_lightning.pretraining.sentences import sentences
from rvc_lightning.pretraining.synthesizers import synthesize_espeak, synthesize_flite

pytestmark = pytest.mark.program
needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
needs_espeak = pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="eSpeak NG is not installed")


def check(speech):
    phones, ends_s = zip(*speech.segments, strict=True)
    assert set(phones) <= set(PHONES)
    assert all(before < after for before, after in itertools.pairwise((0.0, *ends_s)))
    # Diphone voices stop within the last pause.
    assert ends_s[-1] == pytest.approx(len(speech.audio) / SAMPLE_RATE, abs=0.2)
    level = [np.abs(speech.audio[round(a * SAMPLE_RATE) : round(b * SAMPLE_RATE)]).mean()
             for a, b in itertools.pairwise((0.0, *ends_s))]  # fmt: skip
    loud = np.mean([at for at, phone in zip(level, phones, strict=True) if phone in ("ae", "aa", "ow", "iy")])
    silent = np.mean([at for at, phone in zip(level, phones, strict=True) if phone == SILENCE])
    assert loud > 5 * silent


@needs_flite
def test_times_of_flite():
    check(synthesize_flite("kal16", "The black cat goes home to see.", random.Random(0)))


@needs_espeak
def test_times_of_espeak():
    speech = synthesize_espeak("The black cat goes home to see.", random.Random(3))
    check(speech)
    assert speech.speaker.startswith("espeak-")
    assert [phone for phone, _ in speech.segments][:6] == ["dh", "ah", "b", "l", "ae", "k"]


def test_missing_program(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationError, match="requires the program flite"):
        synthesize_flite("slt", "Hello.", random.Random(0))


def test_sentences_depend_on_the_seed():
    words = ["apple", "stone", "quick"]
    first, again, other = (list(itertools.islice(sentences(words, seed), 20)) for seed in (1, 1, 2))
    assert first == again != other
    assert all("{" not in sentence for sentence in first)
