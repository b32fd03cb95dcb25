"""How well content encoders keep what is said and drop who says it, on recordings whose words are known.

    python -m rvc_lightning.pretraining.synthesize corpus=CORPUS sentences=0 readers=0 recordings=TABLE.csv
    python tests/parity/content.py CORPUS [--encoders mel_cepstra spectral phonetic phonetic:FILE contentvec]

Of every encoder:

ABX error: two triphones A and B by one person differ in their middle phone; X is the first of them by another person.
    An error is an X that is nearer to B: dynamic time warping over angles between frames, averaged over triphones, then
    over pairs of people (Schatz et al. 2013). 0.5 is chance. Given for all pairs of people, and for those in
    `--unheard` as X; pairs of people with few triphones in common are left out.
Speaker: share of stretches of 1 s whose speaker a linear classifier names, learned from other recordings; chance is the
    largest speaker's share.
Phone error of `phonetic`: greedy, without a language model, beside the phones that pocketsphinx aligned.

Not a test: pytest does not collect it.
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

MOST_TRIPLES = 60
LEAST_JUDGED = 50


def mel_cepstra(wave):
    cepstra = librosa.feature.mfcc(y=wave, sr=SAMPLE_RATE, n_mfcc=13, n_fft=512, win_length=WINDOW_SAMPLES,
                                   hop_length=CONTENT_SAMPLES, center=False, n_mels=40, htk=True).T  # fmt: skip
    return (cepstra - cepstra.mean(0)) / (cepstra.std(0) + 1e-3)


def encoder_of(name):
    """What takes audio [T] to content [F, C], and the encoder if it is one of the package."""
    if name == "mel_cepstra":
        return mel_cepstra, None
    name, _, path = name.partition(":")
    encoder = build_content_encoder(name, **({"path": path} if path else {}))

    def encode(wave):
        with torch.inference_mode():
            return encoder(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))[0].numpy()

    return encode, encoder


def frames_between(content, begin_s, end_s):
    """Those whose middle lies within, at least one."""
    first, last = (round((second * SAMPLE_RATE - WINDOW_SAMPLES / 2) / CONTENT_SAMPLES) for second in (begin_s, end_s))
    first = min(max(first, 0), len(content) - 1)
    return content[first : max(last, first + 1)]


def triphones(utterances, contents):
    """(left, middle, right) -> speaker -> [content of the three]."""
    found = defaultdict(lambda: defaultdict(list))
    for utterance, content in zip(utterances, contents, strict=True):
        edges = [0.0, *utterance.ends_s]
        for at in range(1, len(utterance.phones) - 1):
            three = tuple(utterance.phones[at - 1 : at + 2])
            if SILENCE not in three:
                found[three][utterance.speaker].append(frames_between(content, edges[at - 1], edges[at + 2]))
    return found


def distance(a, b):
    """Mean angle along the best path of dynamic time warping."""
    a, b = (x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-9) for x in (a, b))
    angles = np.arccos(np.clip(a @ b.T, -1, 1))
    total = np.full((len(a) + 1, len(b) + 1), np.inf)
    steps = np.zeros(total.shape)
    total[0, 0] = 0
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            back = min(((i - 1, j - 1), (i - 1, j), (i, j - 1)), key=lambda place: total[place])
            total[i, j] = total[back] + angles[i - 1, j - 1]
            steps[i, j] = steps[back] + 1
    return total[-1, -1] / steps[-1, -1]


def abx_errors(found, draw):
    """(speaker of A and B, speaker of X) -> error, each pair of middle phones counting the same."""
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
    return {pair: (error, judged) for pair, (error, judged) in means.items() if judged >= LEAST_JUDGED}


def mean_error(kinds, draw):
    """Over at most MOST_TRIPLES of each pair of phones; with how many were judged."""
    means, judged = [], 0
    for triples in kinds.values():
        wrong = []
        for position in draw.permutation(len(triples))[:MOST_TRIPLES]:
            a, b, x = (examples[draw.integers(len(examples))] for examples in triples[position])
            to_a, to_b = distance(a, x), distance(b, x)
            wrong.append(0.5 if to_a == to_b else float(to_b < to_a))
        means.append(np.mean(wrong))
        judged += len(wrong)
    return float(np.mean(means)), judged


def phone_error(utterances, contents):
    """Speaker -> edits between phones heard and phones said, of those said."""
    edits, said = defaultdict(int), defaultdict(int)
    for utterance, content in zip(utterances, contents, strict=True):
        # Three frames together, as a phone seldom takes less.
        phones = uniform_filter1d(content[:, : len(PHONES)], 3, axis=0).argmax(axis=1)
        heard = [PHONES[i] for i, _ in itertools.groupby(phones) if PHONES[i] != SILENCE]
        true = [phone for phone in utterance.phones if phone != SILENCE]
        edits[utterance.speaker] += edit_distance(heard, true)
        said[utterance.speaker] += len(true)
    return {speaker: edits[speaker] / said[speaker] for speaker in said}


def edit_distance(heard, true):
    row = list(range(len(true) + 1))
    for i, one in enumerate(heard, start=1):
        above, row[0] = row[0], i
        for j, other in enumerate(true, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (one != other))
    return row[-1]


def speaker_share(utterances, contents):
    second = SAMPLE_RATE // CONTENT_SAMPLES
    stretches, speakers, groups = [], [], []
    for group, (utterance, content) in enumerate(zip(utterances, contents, strict=True)):
        for begin in range(0, len(content) - second + 1, second):
            stretches.append(content[begin : begin + second].mean(axis=0))
            speakers.append(utterance.speaker)
            groups.append(group)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    share = cross_val_score(classifier, np.array(stretches), speakers, groups=groups, cv=GroupKFold(5)).mean()
    return share, max(map(speakers.count, set(speakers))) / len(speakers)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--encoders", nargs="+", default=["mel_cepstra", "spectral", "phonetic"])
    parser.add_argument("--unheard", nargs="*", default=[], help="speakers, as the corpus names them")
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
        share, chance = speaker_share(utterances, contents)
        lines = [f"{name}: ABX error {np.mean([error for error, _ in errors.values()]):.3f}"
                 + (f", X unheard {np.mean(unheard):.3f}" if unheard else "")
                 + f"; speaker named {share:.2f}, chance {chance:.2f}; {speed:.0f} x real time"]  # fmt: skip
        lines += [f"  {a} against {x}: {error:.3f} of {judged}" for (a, x), (error, judged) in sorted(errors.items())]
        if hasattr(encoder, "network"):
            lines += [f"  {s}: phone error {e:.3f}" for s, e in phone_error(utterances, contents).items()]
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
