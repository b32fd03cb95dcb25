"""Slices equal the reference, except for its defects."""

import json
from pathlib import Path

import numpy as np
import pytest
from cutting import cut_recording
from defaults import make_slicing

from rvc_lightning.audio.decode import resample
from rvc_lightning.data.slicing import estimate_slices
from rvc_lightning.errors import ConfigurationError

GOLDEN = Path(__file__).parent / "golden"
CASES = {
    name: case
    for name, case in json.loads((GOLDEN / "preprocess.json").read_text(encoding="utf-8")).items()
    if "|" in name
}
RATE = 16000


def noise(seconds, level=0.2, seed=0):
    return np.random.default_rng(seed).normal(0, level, round(seconds * RATE)).clip(-1, 1).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
def test_golden(name):
    """Lengths and values; mode simple keeps the rest that the reference drops."""
    mode, normalization, filtering = name.lower().split("|")
    slicing = make_slicing(mode=mode, normalization=normalization, highpass_hz=48.0 if filtering == "highpass" else 0.0)
    with np.load(GOLDEN / "preprocess.npz") as arrays:
        audio = arrays["input"].astype(np.float32) / 32768
    slices = cut_recording(audio, 24000, slicing).slices
    expected = {int(file.split("_")[-1][:-4]): facts for file, facts in CASES[name].items() if "_16k" not in file}
    assert len(slices) == len(expected) + (mode == "simple")
    for number, facts in expected.items():
        samples = slices[number].audio
        assert samples.dtype == np.float32 and len(samples) == facts["samples"]
        assert np.abs(samples).max() == pytest.approx(facts["peak"], abs=1e-4)
        assert np.abs(samples).sum() == pytest.approx(facts["abs_sum"], rel=1e-4)
        n = len(samples)
        np.testing.assert_allclose(samples[[100, n // 3, n // 2, -200]], facts["at"], atol=1e-4)
        at_16k = CASES[name][next(file for file in CASES[name] if f"16k/2_4_{number}.wav" in file)]
        wav16k = resample(samples, 24000, 16000)
        assert len(wav16k) == at_16k["samples"]
        n = len(wav16k)
        np.testing.assert_allclose(wav16k[[100, n // 3, n // 2, -200]], at_16k["at"], atol=1e-3)


@pytest.mark.parametrize("normalization", ["post", "pre", "none"])
def test_silent_slices_are_reported(normalization):
    audio = np.concatenate([noise(3), np.zeros(3 * RATE, np.float32), noise(3)])
    slicing = make_slicing(mode="simple", normalization=normalization, highpass_hz=0, overlap_seconds=0)
    cut = cut_recording(audio, RATE, slicing)
    assert len(cut.slices) == 2
    assert all(np.isfinite(piece.audio).all() and piece.audio.any() for piece in cut.slices)
    assert [(part.start_seconds, part.seconds) for part in cut.left_out] == [(3.0, 3.0)]
    assert "silent" in cut.left_out[0].reason


@pytest.mark.parametrize("mode", ["automatic", "simple", "skip"])
@pytest.mark.parametrize("normalization", ["post", "pre", "none"])
def test_silent_recording(mode, normalization):
    cut = cut_recording(np.zeros(5 * RATE, np.float32), RATE, make_slicing(mode=mode, normalization=normalization))
    assert cut.slices == [] and all("silent" in part.reason for part in cut.left_out) and cut.left_out


@pytest.mark.parametrize("normalization", ["post", "pre", "none"])
def test_excessive_peak_skips_its_slice_only(normalization):
    audio = noise(9)
    audio[4 * RATE] = 3.0
    slicing = make_slicing(mode="simple", normalization=normalization, highpass_hz=0, overlap_seconds=0)
    cut = cut_recording(audio, RATE, slicing)
    assert [piece.start_seconds for piece in cut.slices] == [0.0, 6.0]
    assert [part.start_seconds for part in cut.left_out] == [3.0] and "peak 3" in cut.left_out[0].reason
    # The broken sample does not determine the level of the rest.
    assert all(np.abs(piece.audio).max() > 0.3 for piece in cut.slices)


@pytest.mark.parametrize("mode", ["automatic", "simple"])
@pytest.mark.parametrize("overlap_seconds", [0.0, 0.3, 1.0])
def test_slices_cover_the_recording_and_are_not_too_short(mode, overlap_seconds):
    slicing = make_slicing(mode=mode, overlap_seconds=overlap_seconds, normalization="none", highpass_hz=0)
    for seconds in np.arange(0.5, 14, 0.17):
        audio = noise(seconds)
        cut = cut_recording(audio, RATE, slicing)
        covered = np.zeros(len(audio), bool)
        for piece in cut.slices:
            start = round(piece.start_seconds * RATE)
            assert len(piece.audio) >= slicing.min_seconds * RATE
            np.testing.assert_array_equal(piece.audio, audio[start : start + len(piece.audio)])
            covered[start : start + len(piece.audio)] = True
        assert covered.all() and not cut.left_out


def test_short_piece_is_extended_into_silence():
    audio = np.concatenate([np.zeros(2 * RATE, np.float32), noise(0.1), np.zeros(2 * RATE, np.float32), noise(2)])
    slicing = make_slicing(min_seconds=1.5, normalization="none", highpass_hz=0)
    cut = cut_recording(audio, RATE, slicing)
    assert min(len(piece.audio) for piece in cut.slices) >= 1.5 * RATE
    assert sum(np.count_nonzero(piece.audio) for piece in cut.slices) >= np.count_nonzero(audio)


def test_short_recording_is_reported():
    cut = cut_recording(noise(0.3), RATE, make_slicing())
    assert cut.slices == [] and "min_seconds 0.5" in cut.left_out[0].reason


def test_length_of_silence():
    audio = np.concatenate([noise(3), np.zeros(4 * RATE, np.float32), noise(3)])
    cut = cut_recording(audio, RATE, make_slicing(highpass_hz=0))
    assert 2.5 < cut.silence_seconds < 4


def test_quiet_recording_is_reported_with_its_level():
    cut = cut_recording(noise(3, level=1e-3), RATE, make_slicing())
    assert cut.slices == []
    assert cut.left_out[0].reason == (
        "silent: its loudest 60 ms have a level of -59.5 dB, below slicing.threshold_db=-42"
    )


def test_click_is_silent_by_its_level():
    """Its peak is far above the threshold, but its level is not."""
    click = np.zeros(3 * RATE, np.float32)
    click[RATE] = 0.05
    (part,) = cut_recording(click, RATE, make_slicing(highpass_hz=0)).left_out
    level_db = 20 * np.log10(0.05 / np.sqrt(0.06 * RATE))
    assert f"a level of {level_db:.1f} dB, below" in part.reason and level_db < -42 < 20 * np.log10(0.05)
    nothing = cut_recording(np.zeros(3 * RATE, np.float32), RATE, make_slicing(threshold_db=-60.5)).left_out[0]
    assert "a level of -120.0 dB, below slicing.threshold_db=-60.5" in nothing.reason


@pytest.mark.parametrize(
    "values",
    [
        {"mode": "magic"},
        {"normalization": "loud"},
        {"overlap_seconds": 1.5},
        {"overlap_seconds": -0.1},
        {"min_seconds": 0.0},
        {"min_seconds": 3.5},
        {"slice_seconds": float("nan")},
        {"slice_seconds": float("inf")},
        {"slice_seconds": "long"},
        {"threshold_db": 0.0},
        {"highpass_hz": -1.0},
    ],
)
def test_contradictions_are_rejected(values):
    with pytest.raises(ConfigurationError):
        make_slicing(**values)


@pytest.mark.parametrize("changes", [{}, {"mode": "simple"}, {"mode": "skip"}, {"overlap_seconds": 0.0}])
def test_estimate_equals_the_slices_of_a_recording_without_silence(changes):
    slicing = make_slicing(highpass_hz=0, **changes)
    for seconds in (0.3, 0.5, 2.9, 3.2, 3.31, 7.0, 10.05, 13.7):
        slices = cut_recording(noise(seconds), RATE, slicing).slices
        total = sum(len(piece.audio) for piece in slices) / RATE
        assert estimate_slices(seconds, slicing) == (len(slices), pytest.approx(total))
    assert estimate_slices(1e15, slicing)[1] >= 1e15
