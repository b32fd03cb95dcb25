"""Mixed precision follows float32, and keeps float32 where digits matter."""

import statistics
from dataclasses import replace
from functools import partial

import pytest
import torch
from configurations import compose_config
from golden import patch_random
from runs import Repeated, noise_batch
from tiny import HOP, SYNTHESIZER, tiny_module, tiny_trainer

from rvc_lightning.data.batch import collate
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.models.source import HarmonicSource
from rvc_lightning.training.trainer import build_trainer, set_up_torch

N_STEPS = 200


def loss_curves(precision, monkeypatch):
    """Train, and return the losses of every step by name."""
    torch.manual_seed(3)
    steps = [[collate(noise_batch())] for _ in range(4)]
    # With a learning rate of 1e-3 the losses diverge at a step that depends on rounding.
    # oneDNN 3.12 computes wrong bf16 gradients of transposed convolutions to 4 or 8 channels on CPUs with AMX.
    module = tiny_module(partial(torch.optim.AdamW, lr=3e-4), replace(SYNTHESIZER, initial_channels=64))
    curves = {}

    def collect(terms, batch):
        for name, loss in terms.items():
            curves.setdefault(name, []).append(float(loss))

    monkeypatch.setattr(module, "_log_losses", collect)
    loader = torch.utils.data.DataLoader(Repeated(steps, N_STEPS), batch_size=None)
    tiny_trainer(precision=precision, limit_val_batches=0).fit(module, loader)
    return curves


@pytest.mark.slow
def test_bf16_follows_the_loss_curves_of_float32(monkeypatch):
    full, mixed = (loss_curves(precision, monkeypatch) for precision in ("32-true", "bf16-mixed"))
    assert len(full["mel"]) == N_STEPS and statistics.mean(full["mel"][-20:]) < 0.8 * statistics.mean(full["mel"][:20])
    assert full != mixed
    for name, curve in full.items():
        for start in range(0, N_STEPS, 50):
            expected = statistics.mean(curve[start : start + 50])
            actual = statistics.mean(mixed[name][start : start + 50])
            assert actual == pytest.approx(expected, rel=0.03), (name, start)


def test_losses_spectra_and_phase_are_float32_under_autocast(monkeypatch):
    module, batch = tiny_module(), collate(noise_batch())
    sines = []
    plain = HarmonicSource.sines
    monkeypatch.setattr(HarmonicSource, "sines", lambda self, f0_hz: sines.append(plain(self, f0_hz)) or sines[-1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        generated = module.generate(batch)
        terms = module.generator_losses(generated)
        terms["discriminator"] = module.discriminator_loss(generated)
        spectrum = module.spectrogram_of(batch)
    assert generated.fake.dtype == torch.bfloat16
    assert {loss.dtype for loss in terms.values()} == {torch.float32}
    assert spectrum.dtype == module.mel_of(generated.fake).dtype == sines[0].dtype == torch.float32
    # Not computed in half precision and cast afterwards.
    torch.testing.assert_close(spectrum, module.spectrogram_of(batch), atol=0, rtol=0)


def test_phase_is_float32_under_autocast(monkeypatch):
    patch_random(monkeypatch)
    source, f0_hz = HarmonicSource(24000, HOP), torch.full((1, 1000), 220.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = source.sines(f0_hz)
    torch.testing.assert_close(under_autocast, source.sines(f0_hz), atol=0, rtol=0)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
def test_precisions_are_set_in_the_trainer(precision, tmp_path):
    config = compose_config(f"precision={precision}", "trainer.accelerator=cpu", run=str(tmp_path))
    assert build_trainer(config).precision == precision


def test_16_mixed_scales_by_itself_and_is_bf16_on_a_cpu(tmp_path):
    config = compose_config("precision=16-mixed", "trainer.accelerator=cpu", run=str(tmp_path))
    assert (config.trainer.precision, config.optimizer.fused) == ("16-mixed", False)
    with pytest.warns(UserWarning, match="fp16 is not supported on CPU"):
        assert build_trainer(config).precision == "bf16-mixed"


@pytest.mark.parametrize("precision", ["9", "16-true", "bf16-true", "transformer-engine", "half"])
def test_other_precisions_are_rejected_with_the_choices(precision, tmp_path):
    with pytest.raises(ConfigurationError, match="32-true, bf16-mixed, 16-mixed, 64-true"):
        build_trainer(compose_config(f"trainer.precision={precision}", run=str(tmp_path)))


def test_torch_is_set_up_by_configuration(monkeypatch):
    before, benchmark = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    try:
        set_up_torch(
            compose_config("platform.float32_matmul_precision=high", "+platform.backends.cudnn.benchmark=true")
        )
        assert torch.get_float32_matmul_precision() == "high" and torch.backends.cudnn.benchmark
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.benchmark = benchmark
    with pytest.raises(ConfigurationError, match="highest"):
        set_up_torch(compose_config("platform.float32_matmul_precision=best"))
    with pytest.raises(ConfigurationError, match=r"cudnn\.benchmrk"):
        set_up_torch(compose_config("+platform.backends.cudnn.benchmrk=true"))
