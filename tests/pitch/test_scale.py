"""Coarse pitch codes and transposition (specification section 10.2)."""

import torch
from torch.testing import assert_close

from rvc_lightning.pitch.scale import coarse_pitch, transpose


def test_codes_equal_the_reference(golden):
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
