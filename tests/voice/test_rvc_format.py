"""Names, shapes and entries of every network in files (SPECIFICATION.md, sections 1, 2, 4.10 and 5)."""

import pytest
import torch
from golden import GOLDEN
from voices import VOICES, read_entries, with_parametrizations

from rvc_lightning import Voice
from rvc_lightning.errors import VoiceError
from rvc_lightning.models import Discriminator, Synthesizer
from rvc_lightning.models.generators import GENERATORS
from rvc_lightning.voice import rvc_format


@pytest.mark.parametrize("path", VOICES, ids=lambda path: path.stem)
def test_names_round_trip(path):
    stored, voice = read_entries(path)["weight"], Voice.load(path)
    ours = rvc_format.weights_from_file(stored)
    back = rvc_format.weights_for_file(ours, voice.config)
    assert back.keys() == stored.keys()
    assert all(torch.equal(back[name], tensor.float()) for name, tensor in stored.items())


@pytest.mark.slow
@pytest.mark.parametrize("path", VOICES, ids=lambda path: path.stem)
def test_parametrized_weight_norm_is_read(path):
    stored = read_entries(path)
    stored["weight"] = with_parametrizations(stored["weight"])
    state = Voice.from_file_content(stored).synthesizer.state_dict()
    expected = Voice.load(path).synthesizer.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


@pytest.mark.slow
@pytest.mark.parametrize("path", VOICES, ids=lambda path: path.stem)
def test_export_has_the_names_shapes_and_entries_of_the_file(path):
    stored = read_entries(path)
    config = Voice.load(path).config
    exported = Voice.from_synthesizer(config, Synthesizer(config).state_dict(), {})
    shapes = {name: tensor.shape for name, tensor in stored["weight"].items()}
    assert {name: tensor.shape for name, tensor in exported.weights.items()} == shapes
    assert bool(exported.information["f0"]) == bool(stored.get("f0", 1))
    assert exported.information["vocoder"] == stored.get("vocoder", "HiFi-GAN")
    assert exported.information["version"] == stored.get("version", "v1")
    assert rvc_format.config_to_list(config) == stored["config"]


def test_every_generator_has_a_name_in_files():
    assert sorted(rvc_format.GENERATORS.values()) == sorted(GENERATORS)


@pytest.mark.slow
@pytest.mark.parametrize("vocoder", ["MRF HiFi-GAN", "RefineGAN"])
def test_unsupported_combination_of_generator_and_pitch_is_rejected(vocoder):
    content = read_entries(GOLDEN / "voices/v2_nof0_40k_hifigan.pth") | {"vocoder": vocoder}
    with pytest.raises(VoiceError, match=f"'v2 {vocoder} without pitch'; choose one of: v1 HiFi-GAN with"):
        Voice.from_file_content(content)


def test_wrong_generator_entry_names_the_fitting_one():
    content = read_entries(GOLDEN / "voices/v2_f0_40k_mrf.pth") | {"vocoder": "HiFi-GAN"}
    with pytest.raises(VoiceError, match=r"unexpected.*HiFi-GAN with pitch, but its tensors fit v2 MRF"):
        Voice.from_file_content(content)


def test_invalid_refinegan_channels_are_rejected(tmp_path):
    content = read_entries(GOLDEN / "voices/v2_f0_32k_refinegan.pth")
    content["config"][13] = 100
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(VoiceError, match=r"odd.pth.*initial_channels=100.*multiple of 8"):
        Voice.load(tmp_path / "odd.pth")


def test_discriminator_names_round_trip(tiny_discriminator):
    state = Discriminator(tiny_discriminator).state_dict()
    stored = rvc_format.weights_for_file(state)
    assert "discriminators.0.convs.0.weight_g" in stored and "discriminators.2.conv_post.bias" in stored
    assert not any("parametrizations" in name for name in stored)
    halved = {name: tensor.half() for name, tensor in stored.items()}
    ours = rvc_format.weights_from_file(halved)
    assert ours.keys() == state.keys()
    assert all(tensor.dtype == torch.float32 for tensor in ours.values())
    Discriminator(tiny_discriminator).load_state_dict(ours)


def test_weights_of_a_golden_checkpoint_give_the_golden_audio(golden, no_noise):
    facts, arrays = golden.table("checkpoint_G"), golden.arrays("checkpoint_G")
    kind = rvc_format.VoiceKind("v2", "HiFi-GAN", pitch_guided=True)
    sizes = rvc_format.config_from_list(facts["config"], kind, speaker_count=facts["config"][15])
    synthesizer = Synthesizer(sizes)
    synthesizer.load_state_dict(
        rvc_format.weights_from_file(read_entries(GOLDEN / "checkpoints/G_2333333.pth")["model"])
    )
    lengths = torch.tensor([arrays["phone"].shape[1]])
    out = synthesizer.infer(arrays["phone"], lengths, arrays["pitch"], arrays["pitchf"], arrays["sid"])
    torch.testing.assert_close(out, arrays["infer_out"], atol=1e-4, rtol=0)
