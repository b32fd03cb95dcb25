"""Networks that are smaller still: these tests train often, and save after every step."""

from dataclasses import replace

import pytest


@pytest.fixture
def tiny_synthesizer(tiny_synthesizer):
    return replace(tiny_synthesizer, posterior_layers=1, upsample_rates=(60, 4), upsample_kernel_sizes=(120, 8))


@pytest.fixture
def tiny_discriminator(tiny_discriminator):
    return replace(tiny_discriminator, periods=(2,), period_channels=(4,))
