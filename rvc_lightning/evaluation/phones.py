"""Intelligibility as phone error rate, by a phone recognizer: with a dictionary, it would guess words.

Source: "Phoneme Recognition" in the CMUSphinx tutorial, whose settings these are; the wheel of pocketsphinx contains
the English model. It recognizes English phones in any language: compare its scores between conversions of one source
only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.audio.loudness import peak_of

_PEAK = 0.7
_NOT_PHONES = {"SIL", "+NSN+", "+SPN+", "(NULL)"}
"""Symbols of pocketsphinx for silence and noise."""


class PhoneRecognizer:
    """Transcribe recordings as phones by pocketsphinx."""

    def __init__(self) -> None:
        # Imported here: an optional dependency.
        from pocketsphinx import get_model_path

        self._model = f"{get_model_path()}/en-us"

    def transcribe(self, wav16k: np.ndarray) -> list[str]:
        """Return the phones of a recording [N] at 16 kHz that is not silent, in ARPABET."""
        from pocketsphinx import Decoder

        # A new decoder for each recording: it carries its cepstral means over to the next one.
        decoder = Decoder(
            hmm=f"{self._model}/en-us", allphone=f"{self._model}/en-us-phone.lm.bin", lm=None, dict=None,
            samprate=SAMPLE_RATE, lw=2.0, beam=1e-20, pbeam=1e-20, loglevel="FATAL",
        )  # fmt: skip
        samples = (wav16k * (_PEAK * 32767 / max(peak_of(wav16k), 1e-9))).astype(np.int16)
        decoder.start_utt()
        decoder.process_raw(samples.tobytes(), no_search=False, full_utt=True)
        decoder.end_utt()
        return [segment.word for segment in decoder.seg() or () if segment.word not in _NOT_PHONES]


def phone_error_rate(hypothesis: Sequence[str], reference: Sequence[str]) -> float | None:
    """Return the Levenshtein distance (1966) of two transcripts, divided by the length of the reference.

    None for an empty reference. At most 1: in a song of few words the recognizer finds many times as many phones, and
    one such clip would dominate the mean.
    """
    if not reference:
        return None
    costs = np.arange(len(hypothesis) + 1)
    for row_number, symbol in enumerate(reference, start=1):
        substitutions = costs[:-1] + np.array([symbol != other for other in hypothesis], dtype=int)
        row = np.concatenate([[row_number], np.minimum(substitutions, costs[1:] + 1)])
        # Insertions: the cost of any earlier column plus one for each step from it.
        steps = np.arange(len(row))
        costs = np.minimum.accumulate(row - steps) + steps
    return min(float(costs[-1] / len(reference)), 1.0)
