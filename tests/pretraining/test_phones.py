"""Conversion of phone names."""

import pytest

from rvc_lightning.pretraining.phones import PHONES, from_arpabet, from_espeak


def test_names_of_flite():
    segments = [("pau", 0.1), ("brth", 0.2), ("ax", 0.3), ("dx", 0.4), ("dx", 0.4), ("SIL".lower(), 0.5)]
    assert from_arpabet(segments) == [("pau", 0.2), ("ah", 0.3), ("t", 0.4), ("pau", 0.5)]


def test_mnemonic_of_two_phones():
    assert from_espeak([("A@", 0.2), (";", 0.25), ("t#", 0.3), ("I2", 0.4)]) == [
        ("aa", 0.1), ("r", 0.2), ("t", 0.3), ("ih", 0.4)
    ]  # fmt: skip


def test_unknown_phones():
    with pytest.raises(KeyError, match="q9"):
        from_arpabet([("q9", 0.1)])
    with pytest.raises(KeyError):
        from_espeak([("y:", 0.1)])


def test_number_of_phones():
    assert len(PHONES) == len(set(PHONES)) == 40
