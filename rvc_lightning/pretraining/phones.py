"""The phones of the encoder, and their names in synthesizers.

The set is the 39 phones of ARPAbet without stress, and silence. Finer distinctions of other sets are merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

SILENCE = "pau"
UNKNOWN = "unknown"
"""Speech without a transcript; the encoder has no class for it."""

PHONES = (
    SILENCE,
    "aa", "ae", "ah", "ao", "aw", "ay", "b", "ch", "d", "dh", "eh", "er", "ey", "f", "g", "hh", "ih", "iy", "jh",
    "k", "l", "m", "n", "ng", "ow", "oy", "p", "r", "s", "sh", "t", "th", "uh", "uw", "v", "w", "y", "z", "zh"
)  # fmt: skip

# Names in Flite and Festival (radio and CMU sets), and in the CMU dictionary in lower case.
_ARPABET = {phone: phone for phone in PHONES} | {
    "ax": "ah",
    "axr": "er",
    "ix": "ih",
    "el": "l",
    "em": "m",
    "en": "n",
    "nx": "n",
    "dx": "t",
    "hv": "hh",
    "ux": "uw",
    "h#": SILENCE,
    "brth": SILENCE,
    "sil": SILENCE,
    "ssil": SILENCE,
}

# Mnemonics of eSpeak NG for English. Variants, marked by `#` and digits, are listed only where they differ. Several
# phones share the duration of one mnemonic.
_ESPEAK = {
    "_": SILENCE,
    "_:": SILENCE,
    "@": "ah",
    "@-": "ah",
    "@L": "ah l",
    "3": "er",
    "3:": "er",
    "a": "ae",
    "aa": "ae",
    "A:": "aa",
    "A": "aa",
    "A@": "aa r",
    "0": "aa",
    "O": "ao",
    "O:": "ao",
    "O@": "ao r",
    "o@": "ao r",
    "VR": "er",
    "IR": "er",
    "V": "ah",
    "E": "eh",
    "e@": "eh r",
    "I": "ih",
    "i": "iy",
    "i:": "iy",
    "i@": "iy ah",
    "i@3": "ih r",
    "U": "uh",
    "U@": "uh r",
    "u:": "uw",
    "u": "uw",
    "aI": "ay",
    "aI@": "ay ah",
    "aI3": "ay er",
    "aU": "aw",
    "aU@": "aw er",
    "eI": "ey",
    "oU": "ow",
    "OI": "oy",
    "tS": "ch",
    "dZ": "jh",
    "S": "sh",
    "Z": "zh",
    "T": "th",
    "D": "dh",
    "N": "ng",
    "n-": "n",
    "r-": "r",
    "j": "y",
    "h": "hh",
    "t[": "t",
    "d[": "d",
    "t#": "t",
    "w#": "w",
    "x": "k",
    "?": SILENCE,
} | {phone: phone for phone in "bdfgklmnprstvwz"}

Segment = tuple[str, float]
"""A phone and its end in seconds; the first phone starts at 0."""


def from_arpabet(segments: Iterable[Segment]) -> list[Segment]:
    """Convert segments of Flite, Festival or the CMU dictionary to `PHONES`.

    Raises:
        KeyError: A phone is unknown.
    """
    return _merged((_ARPABET[name], end_s) for name, end_s in segments)


def from_espeak(segments: Iterable[Segment]) -> list[Segment]:
    """Convert segments of eSpeak NG to `PHONES`.

    Raises:
        KeyError: A mnemonic is unknown.
    """
    return _merged(_split(segments))


def _split(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Yield the phones of each mnemonic, in equal shares of its duration."""
    start_s = 0.0
    for mnemonic, end_s in segments:
        # `;` palatalizes the phone before it.
        if mnemonic != ";":
            name = mnemonic if mnemonic in _ESPEAK else mnemonic.rstrip("#0123456789")
            phones = _ESPEAK[name].split()
            for number, phone in enumerate(phones, start=1):
                yield phone, start_s + (end_s - start_s) * number / len(phones)
        start_s = end_s


def _merged(segments: Iterable[Segment]) -> list[Segment]:
    """Merge adjacent silences and drop segments without duration."""
    merged: list[Segment] = []
    for phone, end_s in segments:
        if merged and end_s <= merged[-1][1]:
            continue
        if merged and phone == SILENCE == merged[-1][0]:
            merged.pop()
        merged.append((phone, end_s))
    return merged
