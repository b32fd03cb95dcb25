"""Every kind of network under the names that files use, both ways (specification 1, 2, 4.10 and 5)."""

import pytest
import torch
from golden import GOLDEN

from rvc_lightning import Voice
from rvc_lightning.errors import VoiceError
from rvc_lightning.models import Discriminator, Synthesizer
from rvc_lightning.models.generators import GENERATORS
from rvc_lightning.voice import rvc_format

VOICES = sorted((GOLDEN / "voices").glob("*.pth"))


def raw(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("path", VOICES, ids=lambda path: path.stem)
def test_every_name_goes_both_ways(path):
    stored, voice = raw(path)["weight"], Voice.load(path)
    ours = rvc_format.weights_from_file(stored)
    back = rvc_format.weights_for_file(ours, voice.config)
    assert back.keys() == stored.keys()
    assert all(torch.equal(back[name], tensor.float()) for name, tensor in stored.items())


@pytest.mark.parametrize("path", VOICES, ids=lambda path: path.stem)
def test_torchs_own_spelling_of_weight_norm_is_read(path):
    stored = raw(path)
    new = {old: f".parametrizations.weight.original{n}" for n, old in enumerate((".weight_g", ".weight_v"))}
    stored["weight"] = {
        next((name.removesuffix(old) + now for old, now in new.items() if name.endswith(old)), name): tensor
        for name, tensor in stored["weight"].items()
    }
    assert any("parametrizations" in name for name in stored["weight"])
    state, expected = (
        Voice.from_file_content(stored).synthesizer.state_dict(),
        Voice.load(path).synthesizer.state_dict(),
    )
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("path", VOICES, ids=lambda path: path.stem)
def test_a_network_of_ours_is_written_as_theirs(path):
    """From our networks, not from a file: the names, shapes and entries of the peers' exporters."""
    stored = raw(path)
    config = Voice.load(path).config
    exported = Voice.from_synthesizer(config, Synthesizer(config).state_dict(), {})
    shapes = {name: tensor.shape for name, tensor in stored["weight"].items()}
    assert {name: tensor.shape for name, tensor in exported.weights.items()} == shapes
    assert bool(exported.information["f0"]) == bool(stored.get("f0", 1))
    assert exported.information["vocoder"] == stored.get("vocoder", "HiFi-GAN")
    assert exported.information["version"] == stored.get("version", "v1")
    assert rvc_format.config_to_list(config) == stored["config"]


def test_a_blend_is_what_it_says():
    """Of the 40 kHz voice and its half, 0.3 of the first (specification 1.5)."""
    first, blend = (Voice.load(GOLDEN / f"voices/v2_f0_40k_{kind}.pth") for kind in ("hifigan", "blend"))
    assert blend.sample_rate == 40000
    for name, tensor in first.weights.items():
        whole, half = tensor.float(), (tensor.float() / 2).half().float()
        assert torch.equal(blend.weights[name], (0.3 * whole + 0.7 * half).half())


def test_every_generator_has_a_name_in_files():
    assert sorted(rvc_format.GENERATORS.values()) == sorted(GENERATORS)


@pytest.mark.parametrize("vocoder", ["MRF HiFi-GAN", "RefineGAN"])
def test_guided_generators_without_pitch_are_refused(vocoder):
    content = raw(GOLDEN / "voices/v2_nof0_40k_hifigan.pth") | {"vocoder": vocoder}
    with pytest.raises(VoiceError, match=f"'{vocoder} without pitch'; this version reads: HiFi-GAN with"):
        Voice.from_file_content(content)


def test_another_generator_than_the_file_says_is_named():
    content = raw(GOLDEN / "voices/v2_f0_40k_mrf.pth") | {"vocoder": "HiFi-GAN"}
    with pytest.raises(VoiceError, match=r"unexpected.*HiFi-GAN with pitch, but they fit version v2, MRF HiFi-GAN"):
        Voice.from_file_content(content)


def test_channels_that_make_no_refinegan_are_named(tmp_path):
    content = raw(GOLDEN / "voices/v2_f0_32k_refinegan.pth")
    content["config"][13] = 100
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(VoiceError, match=r"odd.pth.*initial_channels=100.*multiple of 8"):
        Voice.load(tmp_path / "odd.pth")


def test_discriminators_go_both_ways(tiny_discriminator):
    state = Discriminator(tiny_discriminator).state_dict()
    stored = rvc_format.discriminator_weights_for_file(state)
    assert "discriminators.0.convs.0.weight_g" in stored and "discriminators.2.conv_post.bias" in stored
    assert not any("parametrizations" in name for name in stored)
    halved = {name: tensor.half() for name, tensor in stored.items()}
    ours = rvc_format.discriminator_weights_from_file(halved)
    assert ours.keys() == state.keys()
    assert all(tensor.dtype == torch.float32 for tensor in ours.values())
    Discriminator(tiny_discriminator).load_state_dict(ours)
