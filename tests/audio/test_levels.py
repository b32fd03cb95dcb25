"""Loudness, clipping and silence of known signals."""

import numpy as np
import pytest

from rvc_lightning.audio.levels import measure_levels

RATE = 16000


def tone(seconds, level):
    return (level * np.sin(2 * np.pi * 200 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.mark.parametrize("level", [1.0, 0.5, 0.05])
def test_silence_does_not_make_a_recording_quieter(level):
    audio = np.concatenate([tone(3, level), np.zeros(9 * RATE, np.float32)])
    levels = measure_levels(audio, RATE, -60.0)
    assert levels.level_db == pytest.approx(20 * np.log10(level) - 3.01, abs=0.1)
    assert levels.silent_share == pytest.approx(0.75, abs=0.01)


def test_clipping_is_the_share_at_full_scale():
    assert measure_levels(tone(1, 0.99), RATE, -42.0).clipped_share == 0
    clipped = np.clip(tone(1, 2.0), -1, 1)
    # A sine of twice the range is outside it for two thirds of the time.
    assert measure_levels(clipped, RATE, -42.0).clipped_share == pytest.approx(2 / 3, abs=0.02)


def test_nothing_but_silence():
    levels = measure_levels(np.zeros(10, np.float32), RATE, -42.0)
    assert (levels.level_db, levels.clipped_share, levels.silent_share) == (-120.0, 0.0, 1.0)
