"""Spectra and losses against reference values (SPECIFICATION.md, sections 6 and 7)."""

import warnings

import pytest
import torch
from torch.testing import assert_close

from rvc_lightning.audio.spectra import LinearSpectrogram, LogMel, MultiScaleMel
from rvc_lightning.models.text_encoder import Gaussian
from rvc_lightning.training import losses

SETTINGS = {24000: (1024, 80), 32000: (1024, 80), 40000: (2048, 125), 48000: (2048, 128)}


@pytest.mark.parametrize("sample_rate", SETTINGS)
def test_spectrogram_and_mel(golden, sample_rate):
    data, (n_fft, n_mels) = golden.arrays(f"mel_{sample_rate}"), SETTINGS[sample_rate]
    spec = LinearSpectrogram(n_fft, sample_rate // 100)(data["wave"])
    assert_close(spec, data["spec"], atol=1e-4, rtol=0)
    mel = LogMel(sample_rate, n_fft, n_mels)
    assert_close(mel.filterbank, data["filterbank"], atol=1e-6, rtol=0)
    assert_close(mel(spec), data["mel"], atol=1e-4, rtol=0)


def test_each_sample_rate_has_its_own_filterbank():
    """A cache without the rate as key would return the first one."""
    assert LogMel(40000, 2048, 125).filterbank.shape == (125, 1025)
    assert LogMel(48000, 2048, 128).filterbank.shape == (128, 1025)


def test_spectrum_does_not_depend_on_the_batch_padding():
    spectrogram = LinearSpectrogram(1024, 240)
    waveform = torch.randn(1, 7300)
    alone = spectrogram(waveform)
    padded = torch.nn.functional.pad(waveform, (0, 5000))
    together = spectrogram(torch.cat([padded, torch.randn(1, 12300)]), torch.tensor([7300, 12300]))
    assert_close(together[:1, :, : alone.shape[-1]], alone)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_spectra_are_float32_under_autocast(precision):
    waveform = torch.randn(1, 4800)
    spectrogram, mel = LinearSpectrogram(1024, 240), LogMel(24000, 1024, 80)
    with torch.autocast("cpu", dtype=precision):
        result = mel(spectrogram(waveform))
    assert result.dtype == torch.float32
    assert_close(result, mel(spectrogram(waveform)))


@pytest.mark.parametrize("sample_rate", [24000, 32000])
def test_multi_scale_mel_loss_and_its_gradient(golden, sample_rate):
    data = golden.arrays(f"multiscale_mel_{sample_rate}")
    mels = MultiScaleMel(sample_rate)
    real, fake = mels(data["real"].squeeze(1)), data["fake"].squeeze(1).requires_grad_()
    loss = losses.multi_scale_mel_loss(real, mels(fake))
    loss.backward()
    for r, f, expected in zip(real, mels(fake), data["per_scale"], strict=True):
        assert_close(losses.mel_loss(r, f), expected, atol=1e-4, rtol=0)
    assert_close(loss, data["loss"].squeeze(), atol=1e-4, rtol=0)
    assert float(fake.grad.norm()) == pytest.approx(float(data["grad_norm"]), rel=1e-3)
    assert_close(fake.grad[0, :4000], data["grad_first"].flatten(), atol=1e-4, rtol=0)


def test_multi_scale_mel_of_silence_and_of_the_shortest_waveform():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mels = MultiScaleMel(24000)
    silence = torch.zeros(1, MultiScaleMel.MIN_SAMPLES, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spectra = mels(silence)
    assert [spectrum.shape[1] for spectrum in spectra] == [n_mels for n_mels, _ in MultiScaleMel.SCALES]
    assert all(spectrum.dtype == torch.float32 for spectrum in spectra)
    torch.stack([spectrum.mean() for spectrum in spectra]).sum().backward()
    assert silence.grad.isfinite().all()


def test_losses(golden):
    data = golden.arrays("losses")
    real = [data[f"disc_real_{k}"] for k in range(4)]
    fake = [data[f"disc_fake_{k}"] for k in range(4)]
    maps = {
        side: [[data[f"fmap_{side}_{k}_{layer}"] for layer in range(3)] for k in range(4)] for side in ("real", "fake")
    }

    def check(value, key):
        assert_close(value, data[key].squeeze(), atol=1e-5, rtol=1e-5)

    check(losses.discriminator_loss(real, fake), "discriminator_loss")
    check(losses.adversarial_loss(fake), "generator_loss")
    check(losses.feature_loss(maps["real"], maps["fake"]), "feature_loss")
    prior = Gaussian(data["m_p"], data["logs_p"], data["mask"].bool())
    check(losses.kl_loss(data["z_p"], data["logs_q"], prior), "kl_loss")


def test_kl_loss_does_not_overflow_in_half_precision():
    """exp(-2·log_std) exceeds half precision for log_std below about -5.5."""
    shape = (1, 4, 6)
    prior = Gaussian(torch.zeros(shape).half(), torch.full(shape, -7.0).half(), torch.ones(1, 1, 6, dtype=torch.bool))
    assert losses.kl_loss(torch.ones(shape).half(), torch.zeros(shape).half(), prior).isfinite()
