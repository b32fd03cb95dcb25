"""A corpus small enough for a test: a tone for each phone."""

import numpy as np

from rvc_lightning.audio.encode import write_audio
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.pretraining.corpus import Utterance, write_manifest

TONES_HZ = {"pau": 0, "aa": 300, "iy": 700, "s": 2500, "m": 1200}


def tones(phones, seconds_each):
    time_s = np.arange(round(seconds_each * SAMPLE_RATE)) / SAMPLE_RATE
    return np.concatenate([0.3 * np.sin(2 * np.pi * TONES_HZ[phone] * time_s) for phone in phones])


def make_corpus(folder, sentences=6, speakers=("recorded-anna", "tone-a", "tone-b")):
    """Write a corpus in which the speakers have different speaking rates."""
    draw, utterances = np.random.default_rng(0), []
    for sentence in range(sentences):
        phones = ["pau", *draw.choice(["aa", "iy", "s", "m"], 8).tolist(), "pau"]
        for number, speaker in enumerate(speakers):
            seconds = 0.1 + 0.05 * number
            audio = f"audio/{len(utterances):06}.flac"
            write_audio(folder / audio, tones(phones, seconds), SAMPLE_RATE)
            ends_s = [seconds * (position + 1) for position in range(len(phones))]
            utterances.append(Utterance(audio, speaker, sentence, phones, ends_s))
    write_manifest(folder, utterances)
    return utterances
