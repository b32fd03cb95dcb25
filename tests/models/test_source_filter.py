"""Source-filter generator: its sources and its filters."""

import pytest
import torch
from torch.testing import assert_close

from rvc_lightning.models import SynthesizerConfig
from rvc_lightning.models.generators.source_filter import INITIAL_LOG_GAIN, CepstralFilter, Pulses, SourceFilter
from rvc_lightning.models.source import at_sample_rate

RATE, HOP = 8000, 80


@pytest.fixture
def generator():
    torch.manual_seed(0)
    return SourceFilter(
        SynthesizerConfig(
            sample_rate=RATE, n_fft=512, upsample_rates=(10, 8), upsample_kernel_sizes=(20, 16), latent_channels=4,
            hidden_channels=8, filter_channels=8, n_layers=1, posterior_layers=1, resblock_kernel_sizes=(3,),
            resblock_dilations=((1,),), initial_channels=8, speaker_count=2, speaker_channels=8,
        )
    )  # fmt: skip


@pytest.mark.parametrize("f0_hz", [50.0, 125.0, 130.0, 1100.0])
def test_pulses_have_equal_harmonics_and_power_one(f0_hz):
    pulses = Pulses(RATE, HOP)(torch.full((1, 100), f0_hz))[0]
    assert_close(pulses.square().mean(), torch.tensor(1.0), atol=1e-3, rtol=0)
    loudness = torch.fft.rfft(pulses * torch.hann_window(RATE, periodic=True)).abs()
    count = int(RATE / 2 // f0_hz)
    # A harmonic at the Nyquist frequency counts twice.
    harmonics = torch.tensor([loudness[round(f0_hz * k)] for k in range(1, count + 1) if f0_hz * k < RATE / 2 - 2])
    assert_close(harmonics, torch.full_like(harmonics, float(harmonics[0])), atol=0, rtol=1e-3)
    assert loudness[2 : int(f0_hz) - 2].max() < 1e-3 * harmonics[0]


def test_unvoiced_frames_have_no_pulses():
    pulses = Pulses(RATE, HOP)(torch.tensor([[0.0, 200.0, 0.0]]))[0]
    assert not pulses[:HOP].any() and not pulses[2 * HOP :].any() and pulses[HOP : 2 * HOP].any()


def test_pitch_is_interpolated_between_voiced_frames_only():
    f0_hz = at_sample_rate(torch.tensor([[0.0, 100.0, 200.0, 0.0]]), HOP, "voiced").view(4, HOP)
    assert not f0_hz[0].any() and not f0_hz[3].any()
    assert_close(f0_hz[1, : HOP // 2], torch.full((HOP // 2,), 100.0))
    assert_close(f0_hz[2, HOP // 2 :], torch.full((HOP // 2,), 200.0))
    middle = f0_hz[1:3].flatten()[HOP // 2 : -HOP // 2]
    assert_close(torch.diff(middle), torch.full((HOP - 1,), 100 / HOP))


def test_quefrency_zero_is_the_gain_of_each_filter(generator):
    source, quefrencies = torch.randn(1, 10 * HOP), generator.quefrencies
    cepstra = torch.zeros(1, 10, 3 * quefrencies + 2)
    silent_noise = torch.zeros_like(source)
    inside = slice(2 * HOP, -2 * HOP)
    passed = generator._filter_sources(source, silent_noise, cepstra)
    assert_close(passed[:, inside], source[:, inside], atol=1e-4, rtol=0)
    cepstra[..., 0] = torch.log(torch.tensor(3.0))
    assert_close(generator._filter_sources(source, silent_noise, cepstra), 3 * passed, atol=1e-4, rtol=0)
    as_noise = torch.zeros_like(cepstra)
    as_noise[..., 2 * quefrencies + 1] = torch.log(torch.tensor(3.0))
    assert_close(generator._filter_sources(silent_noise, source, as_noise), 3 * passed, atol=1e-4, rtol=0)


def test_even_part_is_gain_and_odd_part_is_phase():
    even, odd = torch.zeros(1, 1, 5), torch.zeros(1, 1, 4)
    even[..., 1], odd[..., 0] = 1.0, -1.0
    gain, phase = CepstralFilter(4, 9)(even, odd)
    angle = torch.linspace(0, torch.pi, 9)
    # Complex cepstrum of exp(z^-1), which is minimum phase
    response = torch.exp(torch.polar(torch.ones(9), -angle))
    assert_close(torch.polar(gain, phase)[0, 0], response, atol=1e-5, rtol=0)


def test_gain_is_bounded():
    gain, phase = CepstralFilter(4, 9)(torch.full((1, 1, 5), 1e4))
    assert gain.isfinite().all() and phase is None


def test_initial_output_is_quiet(generator):
    with torch.no_grad():
        audio = generator(torch.randn(1, 4, 50), torch.full((1, 50), 120.0), torch.randn(1, 8, 1))
    expected = torch.tensor(INITIAL_LOG_GAIN).exp() * 2**0.5
    assert 0.3 * expected < audio.std() < 3 * expected
