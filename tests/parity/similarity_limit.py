"""Measure the speaker gain of the target's own sounds with the melody of a source: a limit for conversions of it.

    python tests/parity/similarity_limit.py SOURCES TARGET...

Each TARGET is a folder of recordings of one speaker. WORLD replaces the pitch of its recordings by that of a recording
of SOURCES, transposed to the pitch of the target, so that envelopes and noise remain the target's. The gain is computed
as by `rvc_lightning.evaluate`. Requires the extra `pitch` and resemblyzer.

words: the recordings as spoken, with the melody of the source.
vowels: glides from one loud voiced frame of the recordings to the next, of 0.4 s each, with the melody of the source,
    as in singing without words.

A measurement, not collected by pytest.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pyworld

from rvc_lightning.audio.decode import decode_audio, resample
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.evaluation.speaker import SpeakerEncoder, TargetSpeaker, speaker_gain

MAX_RECORDINGS = 8
HELD_FRAMES = 80


def load(path):
    decoded = decode_audio(path)
    return resample(decoded.audio, decoded.sample_rate, SAMPLE_RATE)


def contour(wave):
    return pyworld.harvest(wave.astype(np.float64), SAMPLE_RATE, f0_floor=60, f0_ceil=1000)


def analyze(wave):
    """Return f0 [F] in Hz, and envelope and aperiodicity, each [F, bins]."""
    f0_hz, times = contour(wave)
    wave = wave.astype(np.float64)
    return f0_hz, *(method(wave, f0_hz, times, SAMPLE_RATE) for method in (pyworld.cheaptrick, pyworld.d4c))


def vowels(f0_hz, envelope, aperiodicity):
    """Return f0, envelope and aperiodicity of glides between loud voiced frames."""
    level = np.where(f0_hz > 0, envelope.sum(1), 0)
    frames = np.sort(np.argsort(-level)[: len(level) // HELD_FRAMES + 4])
    places = np.arange((len(frames) - 1) * HELD_FRAMES) / HELD_FRAMES
    first, part = places.astype(int), (places % 1)[:, None]

    def glide(values):
        return values[frames[first]] ** (1 - part) * values[frames[first + 1]] ** part

    return np.ones(len(places)), glide(envelope), glide(aperiodicity)


def with_melody(speech, melody_hz):
    f0_hz, envelope, aperiodicity = speech
    f0_hz = np.where(f0_hz > 0, np.resize(melody_hz, len(f0_hz)), 0.0)
    return pyworld.synthesize(f0_hz, envelope, aperiodicity, SAMPLE_RATE).astype(np.float32)


def measure(target, sources, encoder):
    recordings = [load(path) for path in sorted(target.iterdir())]
    names = tuple(map(str, range(len(recordings))))
    speaker = TargetSpeaker(names, np.stack([encoder.embed(recording) for recording in recordings]))
    spoken = [analyze(recording) for recording in recordings[:MAX_RECORDINGS]]
    held = [vowels(*speech) for speech in spoken]
    median_hz = np.median(np.concatenate([f0_hz[f0_hz > 0] for f0_hz, *_ in spoken]))
    for path in sources:
        source = load(path)
        melody_hz = contour(source)[0]
        melody_hz = melody_hz[melody_hz > 0]
        melody_hz *= 2 ** (round(12 * np.log2(median_hz / np.median(melody_hz))) / 12)
        before = speaker.similarity(encoder.embed(source))
        gains = []
        for sounds in (spoken, held):
            after = [
                speaker.similarity(encoder.embed(with_melody(speech, melody_hz)), name)
                for speech, name in zip(sounds, names, strict=False)
            ]
            gains.append(speaker_gain(np.mean(after), before, speaker.reference_similarity))
        cells = " ".join("      -" if gain is None else f"{gain:7.2f}" for gain in gains)
        sys.stdout.write(f"{target.name:20} {path.stem:36} {cells}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", type=Path)
    parser.add_argument("targets", type=Path, nargs="+")
    options = parser.parse_args()
    encoder = SpeakerEncoder()
    sys.stdout.write(f"{'target':20} {'source':36}   words  vowels\n")
    for target in options.targets:
        measure(target, sorted(options.sources.iterdir()), encoder)


if __name__ == "__main__":
    main()
