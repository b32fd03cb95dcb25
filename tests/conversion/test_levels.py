"""Volume envelope of the source (SPECIFICATION.md, section 10.5)."""

import itertools

import numpy as np
import pytest

from rvc_lightning.conversion.levels import VolumeEnvelope, rms_envelope


def mixed(converted, rate, source, source_rate, mix):
    envelope = VolumeEnvelope(converted, rate, source, source_rate, mix)
    borders = [0, len(converted) // 3, len(converted)]
    spans = [slice(*pair) for pair in itertools.pairwise(borders)]
    return np.concatenate([converted[span] * envelope.gain(span) for span in spans])


@pytest.mark.parametrize("mix", [0.0, 0.25, 0.5, 1.0])
def test_reference_data(golden, mix):
    data = golden.arrays("rms_mix")
    rates = int(data["target_rate"]), int(data["source_rate"])
    result = mixed(data["target"].numpy(), rates[0], data["source"].numpy(), rates[1], mix)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, data[f"rate_{mix}"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("mix", [0.0, 0.5, None])
def test_silence_makes_silence(mix):
    silence, tone = np.zeros(20000, np.float32), np.sin(np.arange(40000, dtype=np.float32) / 10)
    assert not mixed(tone, 40000, silence, 16000, mix).any()
    assert not mixed(silence, 40000, tone, 16000, mix).any()
    assert mixed(silence[:0], 40000, tone, 16000, mix).shape == (0,)


def test_loudness_follows_the_source():
    source = np.concatenate([np.full(48000, 0.1, np.float32), np.full(48000, 0.5, np.float32)])
    result = mixed(np.ones(240000, np.float32), 40000, source, 16000, 0.0)
    assert result[60000] == pytest.approx(0.1, abs=0.01)
    assert result[-60000] == pytest.approx(0.5, abs=0.01)


def test_never_louder_than_the_source():
    loud, quiet = (np.full(240000, level, np.float32) for level in (0.5, 1e-4))
    converted = np.concatenate([loud, quiet])
    source = np.full(2 * 96000, 0.1, np.float32)
    result = mixed(converted, 40000, source, 16000, None)
    assert result[60000] == pytest.approx(0.1, abs=0.01)
    # What the voice has removed is not amplified.
    assert np.array_equal(result[-60000:], converted[-60000:])


@pytest.mark.parametrize("samples", [1, 7999, 8000, 23999, 24000, 24001, 8000 * 130 + 5])
def test_envelope_does_not_depend_on_blocks(samples):
    audio = np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    padded = np.pad(audio.astype(np.float64), (8000, 16000))
    expected = [np.sqrt(np.mean(padded[k * 8000 : k * 8000 + 16000] ** 2)) for k in range(samples // 8000 + 1)]
    np.testing.assert_allclose(rms_envelope(audio, 16000), expected, rtol=1e-9)
