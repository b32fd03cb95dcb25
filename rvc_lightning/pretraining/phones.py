"""The phones that the encoder tells apart, and the names that synthesizers have for them.

The set is ARPAbet's 39 without stress, and silence. What another set cuts finer is folded into the nearest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

SILENCE = "pau"

PHONES = (
    SILENCE,
    "aa", "ae", "ah", "ao", "aw", "ay", "b", "ch", "d", "dh", "eh", "er", "ey", "f", "g", "hh", "ih", "iy", "jh",
    "k", "l", "m", "n", "ng", "ow", "oy", "p", "r", "s", "sh", "t", "th", "uh", "uw", "v", "w", "y", "z", "zh"
)  # fmt: skip

# Flite and Festival (radio and CMU sets), and the CMU dictionary in lower case, where they differ from the above.
_FOLDED = {
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

# eSpeak NG's mnemonics for English, after `#` and digits that tell variants apart have no entry of their own.
# Several phones share the time of one mnemonic.
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
"""A phone and the second it ends at; the first begins at 0."""


def folded(segments: Iterable[Segment]) -> list[Segment]:
    """Segments in the names of Flite, Festival or the CMU dictionary, in those of `PHONES`.

    Raises:
        KeyError: There is no such phone.
    """
    return _merged((_known(_FOLDED.get(name, name)), end_s) for name, end_s in segments)


def from_espeak(segments: Iterable[Segment]) -> list[Segment]:
    """Segments in eSpeak NG's mnemonics for English, in the names of `PHONES`.

    Raises:
        KeyError: There is no such phone.
    """
    return _merged(_split(segments))


def _split(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Each mnemonic as the phones it stands for, in equal shares of its time."""
    start_s = 0.0
    for mnemonic, end_s in segments:
        # `;` palatalizes what comes before.
        if mnemonic != ";":
            name = mnemonic if mnemonic in _ESPEAK else mnemonic.rstrip("#0123456789")
            phones = _ESPEAK[name].split()
            for number, phone in enumerate(phones, start=1):
                yield phone, start_s + (end_s - start_s) * number / len(phones)
        start_s = end_s


def _merged(segments: Iterable[Segment]) -> list[Segment]:
    """Neighbouring silences as one, and what lasts no time left out."""
    merged: list[Segment] = []
    for phone, end_s in segments:
        if merged and end_s <= merged[-1][1]:
            continue
        if merged and phone == SILENCE == merged[-1][0]:
            merged.pop()
        merged.append((phone, end_s))
    return merged


def _known(phone: str) -> str:
    if phone not in PHONES:
        raise KeyError(phone)
    return phone
