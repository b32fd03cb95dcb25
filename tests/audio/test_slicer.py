"""The slicer against reference values, and its invariants."""

import json
from pathlib import Path

import numpy as np
import pytest

from rvc_lightning.audio.slicer import Slicer, level_per_hop

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CASES = json.loads((GOLDEN / "slicer.json").read_text(encoding="utf-8"))


def noise(seconds, level=0.2, sample_rate=16000):
    return np.random.default_rng(0).normal(0, level, round(seconds * sample_rate)).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
def test_golden(name):
    case = CASES[name]
    with np.load(GOLDEN / "slicer.npz") as arrays:
        audio, level = arrays[name].astype(np.float32) / 32768, arrays[f"{name}_rms"]
    np.testing.assert_allclose(level_per_hop(audio, case["hop"]), level, atol=1e-6)
    assert Slicer()(audio, case["sr"]) == [tuple(piece) for piece in case["slices"]]


def test_short_recording_is_not_cut():
    """Recordings below the minimum length keep their silences."""
    audio = np.concatenate([noise(0.3), np.zeros(8000, np.float32), noise(0.3)])
    assert Slicer()(audio, 16000) == [(0, len(audio))]


def test_only_silence_is_dropped():
    parts = [noise(2), np.zeros(24000, np.float32), noise(2.5), np.zeros(32000, np.float32), noise(1.7)]
    audio = np.concatenate(parts)
    kept = np.zeros(len(audio), bool)
    for start, end in Slicer()(audio, 16000):
        assert not kept[start:end].any(), "pieces do not overlap"
        kept[start:end] = True
    assert kept[audio != 0].all()
    assert not kept.all()


@pytest.mark.parametrize("audio", [np.zeros(48000, np.float32), noise(3, level=1e-4), np.zeros(1, np.float32)])
def test_silent_recording_has_no_pieces(audio):
    assert Slicer()(audio, 16000) == []


@pytest.mark.parametrize("sample_rate", [8000, 22050, 24000, 40000, 48000, 96000])
@pytest.mark.parametrize("samples", [239, 240, 100001])
def test_recording_without_silence_is_one_piece(sample_rate, samples):
    pieces = Slicer()(np.full(samples, 0.3, np.float32), sample_rate)
    assert pieces == [(0, samples)]
