"""Discriminators with unusual inputs and precisions; values are tested in test_golden_networks.py."""

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
    waveform = torch.zeros(1, 1, 400, requires_grad=True)
    torch.stack([output.score.mean() for output in discriminator(waveform)]).sum().backward()
    assert waveform.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in discriminator.parameters())


def test_spectra_are_float32_under_autocast(discriminator):
    waveform, view = torch.randn(2, 1, 400), discriminator.discriminators[-1].view
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spectrum = view(waveform)
    assert spectrum.dtype == torch.float32 and spectrum.shape == (2, 1, 65, 13)
    assert_close(spectrum, view(waveform))


def test_min_samples(discriminator):
    shortest = discriminator.config.min_samples
    assert shortest == (128 - 30) // 2 + 1
    assert all(output.score.isfinite().all() for output in discriminator(torch.randn(1, 1, shortest)))
    with pytest.raises(RuntimeError):
        discriminator(torch.randn(1, 1, shortest - 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolutions": [[64, 80, 40]]}, r"\[64, 80, 40\] is not a triple"),
        ({"resolutions": [[64, 16]]}, r"\[64, 16\] is not a triple"),
        ({"resolutions": [[64, 16, 100]]}, "from 1 to n_fft"),
        ({"resolution_channels": [32, 32]}, r"resolution_channels=\[32, 32\]: .*five entries"),
        ({"periods": [2, 0]}, r"periods=\[2, 0\]: choose numbers from 1 up"),
        ({"period_channels": []}, r"period_channels=\[\]: choose at least one number"),
        ({"scale_groups": [0, 4, 16, 64, 256, 1]}, r"scale_groups=\[0, .*each from 1 up"),
        ({"scale_groups": [1, 4]}, r"scale_groups=\[1, 4\]: give both six entries"),
        ({"scale_groups": [3, 4, 16, 64, 256, 1]}, "multiples of their groups"),
    ],
)
def test_contradictory_sizes_raise(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        DiscriminatorConfig(**changes)
