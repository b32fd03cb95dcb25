"""Histogram of pitch."""

import numpy as np
import pytest

from rvc_lightning.data.pitch_histogram import PitchHistogram


def test_range_and_shares_of_a_known_distribution():
    noise = np.random.default_rng(0)
    f0_hz = (180 * 2 ** noise.normal(0, 0.3, 30000)).astype(np.float32)
    histogram = PitchHistogram()
    for part in np.split(np.concatenate([f0_hz, np.zeros(10000, np.float32)]), 40):
        histogram.add(part)
    np.testing.assert_allclose(histogram.range_hz, np.quantile(f0_hz, [0.05, 0.5, 0.95]), rtol=0.012)
    assert histogram.voiced_share == 0.75
    assert histogram.seconds.sum() == pytest.approx(300)
    assert sum(bar["seconds"] for bar in histogram.to_dict()["histogram"]) == pytest.approx(300)


def test_pitch_outside_the_scale_counts_at_its_ends():
    histogram = PitchHistogram()
    histogram.add(np.array([1.0, 30.0, 5000.0]))
    assert histogram.voiced_frames[[0, -1]].tolist() == [2, 1]


def test_unvoiced():
    histogram = PitchHistogram()
    histogram.add(np.zeros(10))
    assert histogram.range_hz == (0.0, 0.0, 0.0) and histogram.to_dict()["histogram"] == []
