"""Coarse pitch codes, transposition, autotune and the shift to a target (SPECIFICATION.md, section 10.2)."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from rvc_lightning.pitch.scale import NOTES_HZ, autotune, coarse_pitch, median_hz, proposed_shift, transpose


def test_coarse_pitch_equals_the_reference(golden):
    data = golden.arrays("pitch")
    f0_hz = data["f0"]
    for pitch, codes in (
        (f0_hz, "coarse"),
        (f0_hz, "coarse_train"),
        (transpose(f0_hz, 5), "coarse_up5"),
        (transpose(f0_hz, -12), "coarse_down12"),
    ):
        assert torch.equal(coarse_pitch(pitch), data[codes])
    assert torch.equal(coarse_pitch(f0_hz.float()), data["coarse"])


def test_transposition_equals_the_reference(golden):
    data = golden.arrays("pitch")
    assert_close(transpose(data["f0"], 5), data["f0_up5"], atol=1e-6, rtol=0)
    assert_close(transpose(data["f0"], -12), data["f0_down12"], atol=1e-6, rtol=0)


def test_unvoiced_frames_stay_unvoiced():
    f0_hz = torch.tensor([0.0, 1e-3, 49.0, 5000.0])
    assert coarse_pitch(f0_hz).tolist() == [1, 1, 1, 255]
    assert transpose(f0_hz, 7)[0] == 0


def test_autotune_equals_the_reference_within_its_table_of_notes(golden):
    data = golden.arrays("pitch")
    assert list(NOTES_HZ[31:85]) == data["autotune_notes"].tolist()
    f0_hz = data["autotune_in"]
    inside = (f0_hz > sum(NOTES_HZ[30:32]) / 2) & (f0_hz < sum(NOTES_HZ[84:86]) / 2)
    assert inside.float().mean() > 0.8
    for strength, name in ((1.0, "autotune_full"), (0.5, "autotune_half")):
        assert_close(autotune(f0_hz, strength)[inside], data[name][inside], atol=1e-6, rtol=0)
        assert_close(autotune(f0_hz.float(), strength).double()[inside], data[name][inside], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("f0_hz", "note_hz"), [(1800.0, 1760.0), (1400.0, 1396.91), (38.0, 38.89), (31.0, 30.87), (445.0, 440.0)]
)
def test_autotune_finds_notes_of_any_octave(f0_hz, note_hz):
    assert autotune(torch.tensor([f0_hz], dtype=torch.float64), 1.0).item() == note_hz


def test_autotune_keeps_unvoiced_frames_and_prefers_the_lower_of_two_notes():
    between = (NOTES_HZ[60] + NOTES_HZ[61]) / 2
    f0_hz = torch.tensor([0.0, between, between + 1e-9], dtype=torch.float64)
    expected = [0.0, NOTES_HZ[60], NOTES_HZ[61]]
    assert_close(autotune(f0_hz, 1.0), torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=0)
    assert torch.equal(autotune(f0_hz, 0.0), f0_hz)
    assert autotune(f0_hz, 0.5)[0] == 0


def test_median_of_voiced_frames():
    assert median_hz([np.zeros(3), np.array([100.0, 0, 300.0])]) == 200
    assert median_hz([np.zeros(3)]) is None
    assert median_hz([]) is None


def test_proposed_shift_equals_the_reference(golden):
    data = golden.arrays("pitch")
    measured = data["proposed_in"]
    for target_hz, up, name in ((155.0, 2, "proposed_155_up2"), (255.0, 0, "proposed_255")):
        shifted = transpose(measured, up + proposed_shift(measured.numpy(), target_hz))
        assert_close(shifted, data[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("f0_hz", "target_hz", "expected"),
    [
        ([100, 100, 100], 200, 12),
        ([100, 100, 100], 1000, 12),
        ([1000, 0, 1000], 60, -12),
        ([0, 0, 100, 0], 200, 12),
        ([0, 0], 200, 0),
        # Gaps and silence do not count.
        ([100, 0, 0, 0, 0, 0, 0, 300, 300], 300, 0),
        ([0] * 50 + [100] * 3 + [0] * 90 + [200] * 2, 100, 0),
    ],
)
def test_proposed_shift(f0_hz, target_hz, expected):
    assert proposed_shift(np.array(f0_hz, np.float32), target_hz) == expected
