"""Contract of every registered generator; values are tested in test_golden_networks.py."""

import numpy as np
import pytest
import torch
from golden import patch_random
from torch.testing import assert_close

from rvc_lightning.errors import ConfigurationError
from rvc_lightning.models import Synthesizer, SynthesizerConfig
from rvc_lightning.models.generators import GENERATORS, build_generator
from rvc_lightning.models.layers import fold_weight_norm
from rvc_lightning.models.resample import Decimator

SIZES = {
    "sample_rate": 8000, "n_fft": 512, "upsample_rates": (10, 8), "upsample_kernel_sizes": (20, 16),
    "latent_channels": 4, "hidden_channels": 8, "filter_channels": 8, "n_layers": 1, "posterior_layers": 1,
    "resblock_kernel_sizes": (3, 5), "resblock_dilations": ((1,), (1, 3)), "initial_channels": 16,
    "speaker_count": 2, "speaker_channels": 8,
}  # fmt: skip


@pytest.fixture(params=sorted(GENERATORS))
def config(request):
    return SynthesizerConfig(**SIZES, generator=request.param)


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    return torch.randn(2, 4, 7), torch.tensor([[0.0, 100, 100, 120, 0, 0, 90]] * 2), torch.randn(2, 8, 1)


def test_output_has_one_hop_per_frame_and_gradients_reach_all_parameters(config, inputs):
    generator = build_generator(config)
    waveform = generator(*inputs)
    assert waveform.shape == (2, 1, 7 * 80) and waveform.abs().max() <= 1
    waveform.square().mean().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_every_input_affects_the_waveform(config, inputs, no_noise):
    generator = build_generator(config)
    latent, f0_hz, speaker = inputs
    before = generator(latent, f0_hz, speaker)
    assert not torch.allclose(generator(latent + 1, f0_hz, speaker), before)
    assert not torch.allclose(generator(latent, f0_hz, speaker + 1), before)
    assert torch.allclose(generator(latent, f0_hz * 2, speaker), before) != generator.pitch_guided


def test_missing_pitch_raises(config):
    synthesizer, frames = Synthesizer(config), torch.tensor([6])
    if synthesizer.pitch_guided:
        with pytest.raises(ValueError, match="requires coarse_pitch and f0_hz"):
            synthesizer.infer(torch.zeros(1, 6, 768), frames, torch.ones(1, 6).long(), None, torch.tensor([0]))


def test_folding_weight_norm_keeps_the_waveform(config, monkeypatch):
    patch_random(monkeypatch, normal=0.5)
    synthesizer = Synthesizer(config)
    frames = torch.tensor([6])
    inputs = (torch.linspace(-1, 1, 6 * 768).view(1, 6, 768), frames, torch.full((1, 6), 40), torch.full((1, 6), 150.0))
    before = synthesizer.infer(*inputs, torch.tensor([1]))
    assert before.std() > 1e-3
    after = fold_weight_norm(synthesizer).infer(*inputs, torch.tensor([1]))
    assert_close(after, before, atol=1e-5, rtol=0)
    assert not any("parametrizations" in name for name in synthesizer.state_dict())


def test_bfloat16_is_close_to_float32(config, inputs, no_noise):
    generator = build_generator(config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = generator(*inputs)
    assert_close(half.float(), generator(*inputs), atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator": "refinegan", "initial_channels": 12}, "multiple of 8"),
        ({"generator": "hifigan_nsf", "initial_channels": 10}, "cannot be halved 2 times"),
        ({"generator": "mrf_hifigan", "upsample_kernel_sizes": (8, 16)}, "8 does not fit rate 10"),
        ({"generator": "hifigan", "upsample_kernel_sizes": (21, 16)}, "21 does not fit rate 10"),
        ({"generator": "refinegann"}, "refinegan"),
        ({"resblock_kernel_sizes": (), "resblock_dilations": ()}, r"resblock_kernel_sizes=\[\]: choose at least one"),
        ({"resblock_dilations": ((1,), ()), "resblock_kernel_sizes": (3, 5)}, "choose lists of numbers from 1 up"),
        ({"upsample_kernel_sizes": (16,)}, r"upsample_kernel_sizes=\[16\]: give both the same number"),
    ],
)
def test_unsupported_sizes_raise(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        build_generator(SynthesizerConfig(**SIZES | changes))


def test_odd_rates_produce_whole_frames(inputs):
    sizes = SIZES | {"sample_rate": 10500, "upsample_rates": (7, 15), "upsample_kernel_sizes": (14, 30)}
    for name in GENERATORS:
        generator = build_generator(SynthesizerConfig(**sizes, generator=name))
        assert generator(*inputs).shape == (2, 1, 7 * 105)


def tone(hz, samples=2000):
    return torch.sin(2 * torch.pi * hz * torch.arange(samples).double()).float()[None, None]


@pytest.mark.parametrize("factor", [2, 5, 10])
def test_decimation_passes_low_frequencies_and_stops_high_ones(factor):
    decimate = Decimator(factor)
    low, high = 0.4 / factor, 0.6 / factor
    inside = slice(80, -80)
    kept = decimate(tone(low, 2000 * factor))[..., inside]
    assert_close(kept, tone(low * factor)[..., inside], atol=1e-4, rtol=0)
    assert decimate(tone(high, 2000 * factor))[..., inside].abs().max() < 1e-4


def test_decimation_by_one_and_in_half_precision():
    x = torch.randn(2, 3, 40)
    assert Decimator(1)(x) is x
    decimate = Decimator(4)
    lowered = decimate(x)
    assert lowered.shape == (2, 3, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(decimate(x), lowered)
    assert decimate(x.bfloat16()).dtype == torch.bfloat16
    # DC gain
    assert np.isclose(float(decimate.kernel.double().sum()), 1.0, atol=1e-4)
