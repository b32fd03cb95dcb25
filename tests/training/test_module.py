"""The training step gives the reference losses and gradients (specification sections 7 and 8)."""

from functools import partial

import golden_rule
import pytest
import torch
from tiny import training_config
from torch import nn

from rvc_lightning.data.batch import Batch
from rvc_lightning.models import DiscriminatorConfig
from rvc_lightning.training.module import RVCModule, frozen
from rvc_lightning.voice import rvc_format

pytestmark = pytest.mark.slow

WEIGHTS = {"adversarial": 1.0, "features": 1.0, "mel": 45.0, "kl": 1.0}
CASES = {
    # name of the reference data -> discriminator and training settings
    "train_hifigan_40k": (DiscriminatorConfig(), {"n_mels": 125, "loss_weights": WEIGHTS}),
    "train_refinegan_32k": (
        DiscriminatorConfig(
            periods=(2, 3, 5, 7, 11), resolutions=((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
        ),
        {"n_mels": 80, "loss_weights": WEIGHTS | {"mel": 15.0}, "mel_loss": "multi_scale"},
    ),
}
ADAMW = partial(torch.optim.AdamW, lr=1e-4, betas=(0.8, 0.99), eps=1e-9, weight_decay=0.01)
DECAY = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.999875)


@pytest.fixture(params=CASES)
def golden_step(request, golden):
    table, data = golden.table(request.param), golden.arrays(request.param)
    info, (discriminator, training) = table["info"], CASES[request.param]
    kind = rvc_format.VoiceKind("v2", info["vocoder"], pitch_guided=True)
    config = rvc_format.config_from_list(info["config"], kind, speaker_count=info["config"][-3])
    training = training_config(segment_frames=info["segment_frames"], **training)
    module = RVCModule(config, discriminator, training, optimizer=ADAMW, scheduler=DECAY)
    for network, seed in ((module.synthesizer, info["seed_g"]), (module.discriminator, info["seed_d"])):
        network.load_state_dict(
            {
                name: torch.from_numpy(golden_rule.weight(stored_name(name, module), tensor.shape, seed))
                for name, tensor in network.state_dict().items()
            }
        )
    # The reference stores content at 100 Hz, batches at 50 Hz: `content_as_stored` omits the repetition of frames.
    batch = Batch(
        ids=("a", "b"),
        content=data["phone"],
        f0_hz=data["pitchf"],
        waveform=data["wave"].squeeze(1),
        waveform_lengths=torch.full((2,), data["wave"].shape[-1]),
        lengths=data["spec_lengths"],
        speaker=data["sid"],
    )
    return module, batch, table, data


@pytest.fixture
def content_as_stored(monkeypatch):
    monkeypatch.setattr(
        "rvc_lightning.training.module.content_at_frame_rate", lambda content, frames: content[:, :frames]
    )


def stored_name(name, module):
    vocoder, _ = rvc_format.vocoder_of(module.synthesizer.config)
    return rvc_format.name_in_file(name, vocoder=vocoder)


def norms(network, module):
    return {
        stored_name(name, module): float(parameter.grad.norm())
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }


def check_losses(module, terms, total, expected):
    weights = module.training_config.loss_weights
    for name, key in (
        ("adversarial", "loss_gen"),
        ("features", "loss_fm"),
        ("mel", "loss_mel"),
        ("kl", "loss_kl"),
    ):
        assert float(weights[name] * terms[name].detach()) == pytest.approx(expected[key], rel=1e-4)
    assert float(total.detach()) == pytest.approx(expected["loss_gen_all"], rel=1e-4)


def check_norms(network, module, expected):
    found = norms(network, module)
    for name, norm in expected.items():
        assert found[name] == pytest.approx(norm, rel=1e-3, abs=1e-5), name


def test_losses_and_gradients_before_the_discriminator_steps(golden, golden_step, no_noise, content_as_stored):
    module, batch, table, data = golden_step
    generated = module.generate(batch)
    torch.testing.assert_close(generated.fake, data["y_hat"], atol=1e-4, rtol=0)
    with frozen(module.discriminator):
        terms = module.generator_losses(generated)
        total = module.weighted_sum(terms)
        total.backward()
    check_losses(module, terms, total, table["no_d_update"])
    check_norms(module.synthesizer, module, table["no_d_update"]["grad_norm_g_per_parameter"])
    assert norms(module.discriminator, module) == {}
    if module.synthesizer.config.generator != "hifigan_nsf":
        return
    gradients = golden.arrays("train_hifigan_40k_grads")
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, parameter in module.synthesizer.named_parameters():
        expected = gradients[f"grad.{stored_name(name, module)}"]
        torch.testing.assert_close(parameter.grad, expected, atol=1e-3 * largest, rtol=0)


def test_full_step_in_the_order_of_other_tools(golden_step, no_noise, content_as_stored):
    module, batch, table, _ = golden_step
    expected = table["full_step"]
    optimizer = ADAMW(module.discriminator.parameters())
    generated = module.generate(batch)
    loss = module.discriminator_loss(generated)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(expected["loss_disc"], rel=1e-4)
    check_norms(module.discriminator, module, expected["grad_norm_d_per_parameter"])
    optimizer.step()
    with frozen(module.discriminator):
        terms = module.generator_losses(generated)
        total = module.weighted_sum(terms)
        total.backward()
    check_losses(module, terms, total, expected)
    check_norms(module.synthesizer, module, expected["grad_norm_g_per_parameter"])
    norm = float(nn.utils.get_total_norm([p.grad for p in module.synthesizer.parameters() if p.grad is not None]))
    assert norm == pytest.approx(expected["grad_norm_g"], rel=1e-3)
