"""Processing between the voice and the file."""

import numpy as np
import pytest

from rvc_lightning.audio.decode import resample
from rvc_lightning.audio.stages import run
from rvc_lightning.conversion.finishing import finishing_chain, output_samples
from rvc_lightning.conversion.options import ConversionOptions

RATE = 40000
AUDIO = (0.2 * np.random.default_rng(0).standard_normal(3 * RATE)).astype(np.float32)


def finished(options, samples=None, block=None):
    blocks = [AUDIO] if block is None else np.split(AUDIO, range(block, len(AUDIO), block))
    return np.concatenate(list(run(finishing_chain(options, RATE, samples), blocks)))


def test_default_options_change_nothing():
    np.testing.assert_array_equal(finished(ConversionOptions()), AUDIO)


def test_output_sample_rate_resamples():
    np.testing.assert_array_equal(finished(ConversionOptions(output_sample_rate=48000)), resample(AUDIO, RATE, 48000))


def test_noise_is_removed_before_resampling():
    options = ConversionOptions(clean_noise=0.7, output_sample_rate=16000)
    whole = finished(options)
    assert np.std(whole) < 0.6 * np.std(resample(AUDIO, RATE, 16000))
    np.testing.assert_array_equal(finished(options, block=9999), whole)


@pytest.mark.parametrize("source_rate", [8000, 16000, 44100, 192000])
@pytest.mark.parametrize("rate", [None, 16000, 44100, 48000])
def test_length_is_that_of_the_source(source_rate, rate):
    options = ConversionOptions(output_sample_rate=rate)
    for source_samples in (1, 1001, 44099):
        converted = -(-source_samples * RATE // source_rate)
        length = output_samples(options, RATE, source_samples, source_rate)
        assert length == -(-source_samples * (rate or RATE) // source_rate)
        chain = finishing_chain(options, RATE, length)
        assert sum(map(len, run(chain, [np.ones(converted, np.float32)]))) == length
