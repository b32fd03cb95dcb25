"""Discriminators under odd inputs and precisions (their numbers: test_golden_networks.py)."""

import pytest
import torch
from torch.testing import assert_close

from rvc_lightning.errors import ConfigurationError
from rvc_lightning.models import Discriminator, DiscriminatorConfig

SMALL = {"periods": (2,), "period_channels": (2, 2), "scale_channels": (1,) * 6, "scale_groups": (1,) * 6}


@pytest.fixture
def discriminator():
    torch.manual_seed(0)
    config = DiscriminatorConfig(
        **SMALL, resolutions=((64, 16, 40), (128, 30, 128)), resolution_channels=(2, 2, 2, 2, 2)
    )
    return Discriminator(config)


def test_silence_has_finite_gradients(discriminator):
    """The magnitude of a spectrum has no slope at 0."""
    waveform = torch.zeros(1, 1, 400, requires_grad=True)
    torch.stack([judgement.score.mean() for judgement in discriminator(waveform)]).sum().backward()
    assert waveform.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in discriminator.parameters())


def test_spectra_are_float32_under_autocast(discriminator):
    waveform, sees = torch.randn(2, 1, 400), discriminator.discriminators[-1].view
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spectrum = sees(waveform)
    assert spectrum.dtype == torch.float32 and spectrum.shape == (2, 1, 65, 13)
    assert_close(spectrum, sees(waveform))


def test_the_shortest_waveform(discriminator):
    fewest = discriminator.config.min_samples
    assert fewest == (128 - 30) // 2 + 1
    assert all(j.score.isfinite().all() for j in discriminator(torch.randn(1, 1, fewest)))
    with pytest.raises(RuntimeError):
        discriminator(torch.randn(1, 1, fewest - 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolutions": [[64, 80, 40]]}, r"\[64, 80, 40\] is not a triple"),
        ({"resolutions": [[64, 16]]}, r"\[64, 16\] is not a triple"),
        ({"resolutions": [[64, 16, 100]]}, "from 1 to n_fft"),
        ({"resolution_channels": [32, 32]}, "five entries"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        DiscriminatorConfig(**changes)
