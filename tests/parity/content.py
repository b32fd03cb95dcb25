"""Measure how well content encoders separate words from speakers, on recordings with known phones.

    python -m rvc_lightning.pretraining.synthesize corpus=CORPUS sentences=0 readers=0 recordings=TABLE.csv
    python tests/parity/content.py CORPUS [--encoders mel_cepstra spectral phonetic phonetic:FILE contentvec]

For every encoder:

ABX error: two triphones A and B by one speaker differ in their middle phone; X is A by another speaker. An X closer to
    B is an error, by dynamic time warping over angles between frames, averaged over triphones, then over pairs of
    speakers (Schatz et al. 2013). 0.5 is chance. Computed for all pairs of speakers, and for those with X in
    `--unheard`; pairs with few common triphones are skipped.
Speaker: accuracy of a linear classifier on segments of 1 s of other recordings; chance is the largest speaker's share.
Phone error of `phonetic`: greedy decoding without a language model, against phones aligned by pocketsphinx.

A measurement, not collected by pytest.
"""

import argparse
import itertools
import sys
import time
from collections import defaultdict
from pathlib import Path

import librosa
import numpy as np
import torch
from scipy.ndimage import uniform_filter1d
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rvc_lightning.audio.frames import CONTENT_SAMPLES, SAMPLE_RATE, WINDOW_SAMPLES
from rvc_lightning.content import build_content_encoder
from rvc_lightning.pretraining.corpus import read_audio, read_manifest
from rvc_lightning.pretraining.phones import PHONES, SILENCE

MAX_TRIPLES = 60
MIN_TRIPLES = 50


def mel_cepstra(wave):
    cepstra = librosa.feature.mfcc(y=wave, sr=SAMPLE_RATE, n_mfcc=13, n_fft=512, win_length=WINDOW_SAMPLES,
                                   hop_length=CONTENT_SAMPLES, center=False, n_mels=40, htk=True).T  # fmt: skip
    return (cepstra - cepstra.mean(0)) / (cepstra.std(0) + 1e-3)


def encoder_of(name):
    """Return a function from audio [T] to content [F, C], and the encoder if it is one of the package."""
    if name == "mel_cepstra":
        return mel_cepstra, None
    name, _, path = name.partition(":")
    encoder = build_content_encoder(name, **({"path": path} if path else {}))

    def encode(wave):
        with torch.inference_mode():
            return encoder(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))[0].numpy()

    return encode, encoder


def frames_between(content, begin_s, end_s):
    """Return the frames whose centre is in the interval, at least one."""
    first, last = (round((second * SAMPLE_RATE - WINDOW_SAMPLES / 2) / CONTENT_SAMPLES) for second in (begin_s, end_s))
    first = min(max(first, 0), len(content) - 1)
    return content[first : max(last, first + 1)]


def triphones(utterances, contents):
    """Return the content of each triphone: (left, middle, right) -> speaker -> [content]."""
    found = defaultdict(lambda: defaultdict(list))
    for utterance, content in zip(utterances, contents, strict=True):
        edges = [0.0, *utterance.ends_s]
        for at in range(1, len(utterance.phones) - 1):
            three = tuple(utterance.phones[at - 1 : at + 2])
            if SILENCE not in three:
                found[three][utterance.speaker].append(frames_between(content, edges[at - 1], edges[at + 2]))
    return found


def distance(a, b):
    """Return the mean angle along the best path of dynamic time warping."""
    a, b = (x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-9) for x in (a, b))
    angles = np.arccos(np.clip(a @ b.T, -1, 1))
    total = np.full((len(a) + 1, len(b) + 1), np.inf)
    steps = np.zeros(total.shape)
    total[0, 0] = 0
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            back = min(((i - 1, j - 1), (i - 1, j), (i, j - 1)), key=lambda cell: total[cell])
            total[i, j] = total[back] + angles[i - 1, j - 1]
            steps[i, j] = steps[back] + 1
    return total[-1, -1] / steps[-1, -1]


def abx_errors(found, draw):
    """Return (speaker of A and B, speaker of X) -> error, with equal weight for each pair of middle phones."""
    by_context = defaultdict(list)
    for left, middle, right in found:
        by_context[left, right].append(middle)
    errors = defaultdict(lambda: defaultdict(list))
    for (left, right), middles in sorted(by_context.items()):
        for a_phone in middles:
            for b_phone in sorted(set(middles) - {a_phone}):
                same, other = found[left, a_phone, right], found[left, b_phone, right]
                for speaker in sorted(same.keys() & other.keys()):
                    for x_speaker in sorted(same.keys() - {speaker}):
                        triple = (same[speaker], other[speaker], same[x_speaker])
                        errors[speaker, x_speaker][a_phone, b_phone].append(triple)
    means = {pair: mean_error(kinds, draw) for pair, kinds in errors.items()}
    return {pair: (error, count) for pair, (error, count) in means.items() if count >= MIN_TRIPLES}


def mean_error(kinds, draw):
    """Return the mean error over at most MAX_TRIPLES of each pair of phones, and the number of triples."""
    means, count = [], 0
    for triples in kinds.values():
        wrong = []
        for position in draw.permutation(len(triples))[:MAX_TRIPLES]:
            a, b, x = (examples[draw.integers(len(examples))] for examples in triples[position])
            to_a, to_b = distance(a, x), distance(b, x)
            wrong.append(0.5 if to_a == to_b else float(to_b < to_a))
        means.append(np.mean(wrong))
        count += len(wrong)
    return float(np.mean(means)), count


def phone_error(utterances, contents):
    """Return the phone error rate of each speaker."""
    edits, totals = defaultdict(int), defaultdict(int)
    for utterance, content in zip(utterances, contents, strict=True):
        # Smoothed over three frames; phones are seldom shorter.
        phones = uniform_filter1d(content[:, : len(PHONES)], 3, axis=0).argmax(axis=1)
        hypothesis = [PHONES[i] for i, _ in itertools.groupby(phones) if PHONES[i] != SILENCE]
        reference = [phone for phone in utterance.phones if phone != SILENCE]
        edits[utterance.speaker] += edit_distance(hypothesis, reference)
        totals[utterance.speaker] += len(reference)
    return {speaker: edits[speaker] / totals[speaker] for speaker in totals}


def edit_distance(hypothesis, reference):
    row = list(range(len(reference) + 1))
    for i, one in enumerate(hypothesis, start=1):
        above, row[0] = row[0], i
        for j, other in enumerate(reference, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (one != other))
    return row[-1]


def speaker_accuracy(utterances, contents):
    second = SAMPLE_RATE // CONTENT_SAMPLES
    segments, speakers, groups = [], [], []
    for group, (utterance, content) in enumerate(zip(utterances, contents, strict=True)):
        for begin in range(0, len(content) - second + 1, second):
            segments.append(content[begin : begin + second].mean(axis=0))
            speakers.append(utterance.speaker)
            groups.append(group)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    share = cross_val_score(classifier, np.array(segments), speakers, groups=groups, cv=GroupKFold(5)).mean()
    return share, max(map(speakers.count, set(speakers))) / len(speakers)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--encoders", nargs="+", default=["mel_cepstra", "spectral", "phonetic"])
    parser.add_argument("--unheard", nargs="*", default=[], help="names of speakers in the corpus")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    utterances = read_manifest(arguments.corpus)
    waves = [read_audio(arguments.corpus / utterance.audio).astype(np.float32) / 2**15 for utterance in utterances]
    for name in arguments.encoders:
        encode, encoder = encoder_of(name)
        start = time.process_time()
        contents = [encode(wave) for wave in waves]
        speed = sum(map(len, waves)) / SAMPLE_RATE / (time.process_time() - start)
        errors = abx_errors(triphones(utterances, contents), np.random.default_rng(0))
        unheard = [error for (_, x), (error, _) in errors.items() if x in arguments.unheard]
        share, chance = speaker_accuracy(utterances, contents)
        lines = [f"{name}: ABX error {np.mean([error for error, _ in errors.values()]):.3f}"
                 + (f", X unheard {np.mean(unheard):.3f}" if unheard else "")
                 + f"; speaker accuracy {share:.2f}, chance {chance:.2f}; {speed:.0f} x real time"]  # fmt: skip
        lines += [f"  {a} against {x}: {error:.3f} of {count}" for (a, x), (error, count) in sorted(errors.items())]
        if hasattr(encoder, "network"):
            lines += [f"  {s}: phone error {e:.3f}" for s, e in phone_error(utterances, contents).items()]
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
