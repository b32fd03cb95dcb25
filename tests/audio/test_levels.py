"""Level, clipping and silence of known signals."""

import numpy as np
import pytest

from rvc_lightning.audio.levels import LevelMeter

RATE = 16000


def tone(seconds, level):
    return (level * np.sin(2 * np.pi * 200 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def measured(*blocks, threshold_db=-42.0, sample_rate=RATE):
    meter = LevelMeter(sample_rate, threshold_db)
    assert all(given is block for given, block in zip(meter.watch(blocks), blocks, strict=True))
    return meter


@pytest.mark.parametrize("level", [1.0, 0.5, 0.05])
def test_level_excludes_silence(level):
    levels = measured(tone(3, level), np.zeros(9 * RATE, np.float32), threshold_db=-60.0).levels
    assert levels.level_db == pytest.approx(20 * np.log10(level) - 3.01, abs=0.1)
    assert levels.silent_share == pytest.approx(0.75, abs=0.01)


def test_clipped_share():
    assert measured(tone(1, 0.99)).levels.clipped_share == 0
    # A sine of amplitude 2 exceeds full scale for two thirds of the time.
    assert measured(np.clip(tone(1, 2.0), -1, 1)).levels.clipped_share == pytest.approx(2 / 3, abs=0.02)


def test_silent_recording():
    levels = measured(np.zeros(10, np.float32)).levels
    assert (levels.level_db, levels.clipped_share, levels.silent_share) == (-120.0, 0.0, 1.0)


def test_result_is_independent_of_blocks_and_digest_identifies_the_sound():
    audio = np.concatenate([tone(1, 0.3), np.zeros(RATE, np.float32), tone(1.001, 0.1)])
    whole, parts = measured(audio), measured(*np.array_split(audio, 7))
    assert whole.levels.__dict__ == pytest.approx(parts.levels.__dict__)
    assert whole.sound == parts.sound
    assert len({whole.sound, measured(audio[1:]).sound, measured(audio, sample_rate=RATE * 2).sound}) == 3
