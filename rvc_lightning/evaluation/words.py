"""What is said: phones that a recognizer hears, without a dictionary that would guess words.

Source: "Phoneme Recognition" in the CMUSphinx tutorial, whose settings these are; pocketsphinx has the English model in
its wheel. It hears English phones in any language: read a figure beside those of other conversions of the same source.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.audio.loudness import peak_of

_PEAK = 0.7
_NO_PHONES = {"SIL", "+NSN+", "+SPN+", "(NULL)"}
"""What it calls silence and noises."""


class WordsJudge:
    """Hears phones."""

    def __init__(self) -> None:
        # Here, since it is an extra.
        from pocketsphinx import get_model_path

        self._model = f"{get_model_path()}/en-us"

    def phones(self, wav16k: np.ndarray) -> list[str]:
        """Names of the phones of a recording [N] at 16 kHz that is not silent, in ARPABET."""
        from pocketsphinx import Decoder

        # A new one each time: a decoder carries its means over to the next recording.
        decoder = Decoder(
            hmm=f"{self._model}/en-us", allphone=f"{self._model}/en-us-phone.lm.bin", lm=None, dict=None,
            samprate=SAMPLE_RATE, lw=2.0, beam=1e-20, pbeam=1e-20, loglevel="FATAL",
        )  # fmt: skip
        samples = (wav16k * (_PEAK * 32767 / max(peak_of(wav16k), 1e-9))).astype(np.int16)
        decoder.start_utt()
        decoder.process_raw(samples.tobytes(), no_search=False, full_utt=True)
        decoder.end_utt()
        return [segment.word for segment in decoder.seg() or () if segment.word not in _NO_PHONES]


def error_rate(heard: Sequence[str], said: Sequence[str]) -> float | None:
    """Insertions, deletions and substitutions that make `said` of `heard` (Levenshtein 1966), by the length of `said`.

    None where nothing was said. 1 at most: in a song of few words a recognizer hears many times as many phones, and
    one such clip would decide the mean of all.
    """
    if not said:
        return None
    costs = np.arange(len(heard) + 1)
    for place, symbol in enumerate(said, start=1):
        change = costs[:-1] + np.array([symbol != other for other in heard], dtype=int)
        row = np.concatenate([[place], np.minimum(change, costs[1:] + 1)])
        # Insertions: each cost may be that of any place before, and one for every step between them.
        steps = np.arange(len(row))
        costs = np.minimum.accumulate(row - steps) + steps
    return min(float(costs[-1] / len(said)), 1.0)
