"""Networks against reference values (SPECIFICATION.md, sections 4, 5 and 9)."""

import golden_rule
import numpy as np
import pytest
import torch
from golden import GOLDEN, patch_random
from torch.testing import assert_close

from rvc_lightning.audio.frames import frame_mask
from rvc_lightning.audio.spectra import LinearSpectrogram
from rvc_lightning.models import Discriminator, DiscriminatorConfig, Synthesizer
from rvc_lightning.models.flow import Flow
from rvc_lightning.models.layers import fold_weight_norm
from rvc_lightning.models.source import HarmonicSource
from rvc_lightning.models.text_encoder import Gaussian, sample
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.voice import Voice

VOICES = sorted(path.stem.removeprefix("voice_") for path in GOLDEN.glob("voice_*.npz"))
FAST = ("v1_f0_40k_hifigan", "v2_nof0_40k_hifigan")
FULL = sorted(path.stem.removeprefix("full_") for path in GOLDEN.glob("full_*.npz"))
DISCRIMINATORS = {
    "v1": DiscriminatorConfig(periods=(2, 3, 5, 7, 11, 17)),
    "v2": DiscriminatorConfig(),
    "v3": DiscriminatorConfig(
        periods=(2, 3, 5, 7, 11), resolutions=((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
    ),
}


def close(actual, expected, atol=1e-4):
    assert_close(actual, expected, atol=atol, rtol=0)


def fill_by_rule(network, seed, vocoder="HiFi-GAN"):
    """Set weights to functions of their names in files, see golden_rule.py."""
    state = network.state_dict()
    filled = {
        name: torch.from_numpy(golden_rule.weight(rvc_format.name_in_file(name, vocoder=vocoder), tensor.shape, seed))
        for name, tensor in state.items()
    }
    network.load_state_dict(filled)
    return network


def config_of(table):
    kind = rvc_format.VoiceKind(
        table.get("version", "v2"), table.get("vocoder", "HiFi-GAN"), pitch_guided=bool(table.get("f0", True))
    )
    return rvc_format.config_from_list(table["config"], kind, speaker_count=table["config"][-3])


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name not in FAST)) for name in VOICES], scope="module"
)
def case(request, golden):
    voice = Voice.load(golden.path(f"voices/{request.param}.pth"))
    return voice.synthesizer, golden.arrays(f"voice_{request.param}")


def test_text_encoder(case):
    synthesizer, data = case
    prior = synthesizer.text_encoder(data["phone"], data["pitch"], data["phone_lengths"])
    close(prior.mean, data["enc_p_m"])
    close(prior.log_std, data["enc_p_logs"])
    assert torch.equal(prior.mask.float(), data["enc_p_mask"])
    short = synthesizer.text_encoder(data["phone"][:1, :7], data["pitch"][:1, :7], torch.tensor([7]))
    close(short.mean, data["enc_p_short_m"])
    close(short.log_std, data["enc_p_short_logs"])


def test_flow_both_ways(case):
    synthesizer, data = case
    mask, code = data["enc_p_mask"], synthesizer.speaker_code(data["sid"])
    close(code, data["g"])
    close(synthesizer.flow(data["flow_in"], mask, code), data["flow_forward"])
    close(synthesizer.flow(data["flow_in"], mask, code, reverse=True), data["flow_reverse"])


def test_generator_and_source(case, no_noise):
    synthesizer, data = case
    f0_hz = data.get("dec_f0")
    close(synthesizer.generator(data["dec_in"], f0_hz, data["g"]), data["dec_out"])
    if f0_hz is not None:
        close(synthesizer.generator.source(f0_hz).mT, data["dec_source"])


@pytest.mark.parametrize(("normal", "key"), [(0.0, "infer_out"), (1.0, "infer_noise_one_out")])
def test_infer(case, monkeypatch, normal, key):
    synthesizer, data = case
    patch_random(monkeypatch, normal=normal)
    inputs = (data["phone"], data["phone_lengths"], data["pitch"], data["pitchf"], data["sid"])
    close(synthesizer.infer(*(value[:1] for value in inputs)), data[key])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v2_f0_24k_hifigan", "v2_nof0_40k_hifigan", "v2_f0_40k_mrf", "v2_f0_32k_refinegan"])
def test_folding_weight_norm_keeps_the_waveform(name, golden, no_noise):
    table = golden.table("voices_meta")[name]
    data = golden.arrays(f"voice_{name}")
    synthesizer = fill_by_rule(Synthesizer(config_of(table)), 1, table.get("vocoder", "HiFi-GAN"))
    inputs = [data[name][:1] for name in ("phone", "phone_lengths", "pitch", "pitchf", "sid")]
    before = synthesizer.infer(*inputs)
    assert any("parametrizations" in name for name in synthesizer.generator.state_dict())
    close(fold_weight_norm(synthesizer).infer(*inputs), before, atol=1e-5)
    assert not any("parametrizations" in name for name in synthesizer.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_full_size(name, golden, no_noise):
    table, data = golden.table("full_meta")[name], golden.arrays(f"full_{name}")
    config = config_of(table)
    synthesizer = fill_by_rule(Synthesizer(config), table["seed"], table["vocoder"])
    stored = rvc_format.weights_for_file(synthesizer.state_dict(), config)
    assert {key: list(value.shape) for key, value in stored.items()} == golden.table(f"keys/G_{name}")
    assert sum(p.numel() for p in synthesizer.parameters()) == table["n_values"]
    lengths = torch.tensor([20])
    prior = synthesizer.text_encoder(data["phone"], data["pitch"], lengths)
    close(prior.mean, data["enc_p_m"])
    close(prior.log_std, data["enc_p_logs"])
    spec = abs(golden_rule.normal("spec", (1, table["config"][0], 20), table["seed"]))
    posterior = synthesizer.posterior_encoder(torch.from_numpy(spec), lengths, synthesizer.speaker_code(data["sid"]))
    close(posterior.mean, data["enc_q_m"])
    close(posterior.log_std, data["enc_q_logs"])
    waveform = synthesizer.infer(data["phone"], lengths, data["pitch"], data["pitchf"], data["sid"])
    close(waveform, data["infer_out"])


@pytest.mark.slow
@pytest.mark.parametrize("version", DISCRIMINATORS)
def test_discriminator(version, golden):
    discriminator = fill_by_rule(Discriminator(DISCRIMINATORS[version]), golden.table("disc_meta")["seed"])
    stored = rvc_format.weights_for_file(discriminator.state_dict())
    assert {key: list(value.shape) for key, value in stored.items()} == golden.table(f"keys/D_{version}")
    inputs, outputs = golden.arrays("disc_inputs"), golden.arrays(f"disc_{version}")
    for key, name in (("y", "real"), ("y_hat", "fake"), ("odd", "odd")):
        with torch.no_grad():
            scored = discriminator(inputs[key])
        for index, output in enumerate(scored):
            assert_close(output.score, outputs[f"{name}_{index}"], atol=1e-4, rtol=1e-5)
        for output, maps in zip(scored, golden.table("disc_meta")[version][name], strict=True):
            for feature, expected in zip(output.features, maps, strict=True):
                assert list(feature.shape) == expected["shape"]
                assert float(feature.double().abs().sum()) == pytest.approx(expected["abs_sum"], rel=1e-5)


def test_source_is_exact(golden, no_noise):
    data = golden.arrays("source")
    sines = HarmonicSource(40000, 400).sines(data["f0"])
    assert_close(sines[0, ::5, 0], data["exact_every_5th"][0], atol=2e-5, rtol=0)
    many = HarmonicSource(40000, 400, n_harmonics=9).sines(data["f0"])
    assert_close(many[:, ::25], data["mrf_every_25th"], atol=2e-5, rtol=0)


@pytest.mark.slow
def test_source_phase_is_exact_over_minutes(no_noise):
    frames, hop = 12000, 480
    f0_hz = 200 + 100 * torch.sin(torch.arange(frames) * 0.013)[None] + 50 * torch.rand(1, frames)
    sines = HarmonicSource(48000, hop).sines(f0_hz)[0, :, 0].double()
    cycles = torch.cumsum((f0_hz[0].double() / 48000).repeat_interleave(hop), 0)
    exact = 0.1 * torch.sin(2 * torch.pi * torch.remainder(cycles, 1.0))
    assert (sines - exact).abs().max() < 1e-6


@pytest.mark.slow
def test_interpolated_source_is_exact_over_minutes(no_noise):
    frames, hop = 12000, 320
    f0_hz = 200 + 100 * torch.sin(torch.arange(frames) * 0.013)[None] + 50 * torch.rand(1, frames)
    f0_hz[:, 100:150] = 0.0
    source = HarmonicSource(32000, hop, interpolation="linear", bias=False)
    sines = source.sines(f0_hz)[0, :, 0].double()
    position = (torch.arange(frames * hop) + 0.5) / hop - 0.5
    glide = np.interp(position.double().numpy(), np.arange(frames), f0_hz[0].double().numpy())
    exact = 0.1 * np.sin(2 * np.pi * np.cumsum(glide) / 32000) * (glide > 0)
    assert np.abs(sines.numpy() - exact).max() < 1e-6
    assert not sines[101 * hop : 149 * hop].any()


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
def test_source_is_float32_under_autocast(interpolation, no_noise):
    source, f0_hz = HarmonicSource(40000, 400, 9, interpolation=interpolation), torch.full((1, 200), 431.7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sines = source.sines(f0_hz)
    assert sines.dtype == torch.float32
    assert torch.equal(sines, source.sines(f0_hz))


def test_harmonics_have_random_phases(monkeypatch):
    patch_random(monkeypatch)
    fixed = HarmonicSource(8000, 80, 3).sines(torch.full((2, 5), 100.0))
    monkeypatch.setattr(torch, "rand", lambda *size, **kw: torch.linspace(0, 0.5, 6).view(*size))
    random = HarmonicSource(8000, 80, 3).sines(torch.full((2, 5), 100.0))
    assert torch.equal(random[..., 0], fixed[..., 0])
    assert not torch.allclose(random[0, :, 1], random[1, :, 1])


def test_flow_is_invertible(tiny_synthesizer):
    flow = Flow(tiny_synthesizer)
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, mask = torch.randn(2, 8, 11), torch.ones(2, 1, 11, dtype=torch.bool)
    mask[1, :, 7:] = False
    x, code = x * mask, torch.randn(2, 8, 1)
    mapped = flow(x, mask, code)
    assert (mapped - x).abs().max() > 0.01
    assert_close(flow(mapped, mask, code, reverse=True), x, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_training_pass_with_offsets(golden, monkeypatch):
    offset, data = golden.arrays("train_forward_offset"), golden.arrays("train_hifigan_40k")
    info = golden.table("train_hifigan_40k")["info"]
    synthesizer = fill_by_rule(Synthesizer(config_of(info)), info["seed_g"])
    patch_random(monkeypatch, normal=1.0)
    spec = LinearSpectrogram(2048, 400)(data["wave"].squeeze(1))[..., :40]
    spec = spec * frame_mask(data["spec_lengths"], 40).unsqueeze(1)
    code = synthesizer.speaker_code(data["sid"])
    posterior = synthesizer.posterior_encoder(spec, data["spec_lengths"], code)
    close(posterior.mean, offset["enc_q_m"])
    assert_close(sample(posterior), offset["enc_q_z_noise_one"], atol=1e-4, rtol=1e-5)
    assert isinstance(posterior, Gaussian)

    patch_random(monkeypatch, uniform=0.6)
    output = synthesizer(
        data["phone"],
        data["phone_lengths"],
        data["pitch"],
        data["pitchf"],
        data["sid"],
        spec,
        info["segment_frames"],
    )
    assert torch.equal(output.start_frames, offset["ids_slice"])
    close(output.waveform, offset["y_hat"])
