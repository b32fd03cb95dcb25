"""Loudness of the source imposed on the output (specification 10.5)."""

import pytest
import torch
from torch.testing import assert_close

from rvc_lightning.conversion.envelope import mix_envelope, rms_envelope


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_reference_data(golden, share):
    data = golden.arrays("rms_mix")
    mixed = mix_envelope(data["target"], int(data["target_rate"]), data["source"], int(data["source_rate"]), share)
    assert_close(mixed, data[f"rate_{share}"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_silence_makes_silence(share):
    silence, tone = torch.zeros(20000), torch.sin(torch.arange(40000) / 10)
    assert mix_envelope(tone, 40000, silence, 16000, share).abs().max() == 0
    assert mix_envelope(silence, 40000, tone, 16000, share).abs().max() == 0
    assert mix_envelope(silence[:0], 40000, tone, 16000, share).shape == (0,)


def test_loudness_follows_the_source():
    source = torch.cat([torch.full((48000,), 0.1), torch.full((48000,), 0.5)])
    mixed = mix_envelope(torch.ones(240000), 40000, source, 16000, 0.0)
    assert_close(mixed[60000], torch.tensor(0.1), atol=0.01, rtol=0)
    assert_close(mixed[-60000], torch.tensor(0.5), atol=0.01, rtol=0)


def test_length_of_the_envelope():
    assert rms_envelope(torch.ones(23999), 16000).shape == (3,)
    assert rms_envelope(torch.ones(1), 16000).shape == (1,)
