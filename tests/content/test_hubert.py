"""HuBERT encoders, with tiny random models in the layout of transformers."""

import pytest
import torch
from stubs import cpu_trainer, make_hubert, make_voice, quick_config
from transformers import HubertModel

from rvc_lightning.content import build_content_encoder
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.errors import AssetError, ConfigurationError, VoiceError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_hubert(tmp_path_factory.mktemp("hubert"))


def noise(samples, seed=0):
    return 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_v2_uses_the_last_layer(folder):
    encoder = build_content_encoder("contentvec", path=folder)
    wav = noise(16000)
    expected = HubertModel.from_pretrained(folder).eval()(wav).last_hidden_state
    torch.testing.assert_close(encoder(wav, torch.tensor([16000])), expected, atol=1e-5, rtol=0)
    assert encoder.dim == 768


@torch.no_grad()
def test_v1_uses_layer_nine_and_the_projection(folder):
    encoder = build_content_encoder("contentvec", path=folder, version="v1")
    wav = noise(16000)
    ninth = HubertModel.from_pretrained(folder).eval()(wav, output_hidden_states=True).hidden_states[9]
    stored = torch.load(folder / "pytorch_model.bin", weights_only=True)
    expected = torch.nn.functional.linear(ninth, stored["final_proj.weight"], stored["final_proj.bias"])
    torch.testing.assert_close(encoder(wav, torch.tensor([16000])), expected, atol=1e-5, rtol=0)
    assert encoder.dim == 256


def test_weights_are_frozen(folder):
    encoder = build_content_encoder("contentvec", path=folder)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not any(module.training for module in encoder.modules())


def test_error_names_missing_weights(tmp_path):
    folder = make_hubert(tmp_path)
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    del weights["encoder.layers.3.attention.q_proj.weight"]
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(ConfigurationError, match=r"lacks 1 weights .*layers\.3\.attention\.q_proj\.weight"):
        build_content_encoder("contentvec", path=folder)


def test_v1_requires_nine_layers_and_a_projection(tmp_path):
    shallow = make_hubert(tmp_path / "shallow", layers=8)
    with pytest.raises(ConfigurationError, match=r"lacks \d+ weights .*encoder\.layers\.8\."):
        build_content_encoder("contentvec", path=shallow, version="v1")
    unprojected = make_hubert(tmp_path / "unprojected", projection=False)
    with pytest.raises(ConfigurationError, match=r"final_proj\.weight"):
        build_content_encoder("contentvec", path=unprojected, version="v1")
    build_content_encoder("contentvec", path=unprojected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "nowhere"}, "content.path=nowhere"),
        ({"path": "~no-such-user/x"}, "content.path=~no-such-user/x"),
        ({"version": "v3"}, "content.version=v3: choose one of: v1, v2"),
        ({"layer": 0}, "content.layer=0: choose a whole number from 1, or null"),
        (
            {},
            "content.path=FOLDER is missing: 'hubert' is a custom model; name its folder with config.json and pytorch",
        ),
    ],
)
def test_invalid_options_raise(options, message):
    with pytest.raises(ConfigurationError, match=message):
        build_content_encoder("hubert", **options)


def test_pickled_code_is_not_run(tmp_path):
    folder = make_hubert(tmp_path)
    torch.save({"encoder": exit}, folder / "pytorch_model.bin")
    with pytest.raises(ConfigurationError, match="is not a folder with a HuBERT model"):
        build_content_encoder("contentvec", path=folder)


@pytest.mark.parametrize(("dim", "version"), [(256, "v1"), (768, "v2")])
def test_voice_of_another_tool_gets_the_encoder_of_its_version(folder, dim, version):
    voice = make_voice(quick_config(content_dim=dim), embedder_model="contentvec")
    converter = VoiceConverter(voice, content_path=folder, trainer=cpu_trainer())
    wav = noise(16000)
    expected = build_content_encoder("contentvec", path=folder, version=version)(wav, torch.tensor([16000]))
    assert torch.equal(converter.content(wav, torch.tensor([16000])), expected)
    audio, rate = converter.convert(noise(16000)[0].numpy(), sample_rate=16000)
    assert len(audio) == rate == 8000


def test_voice_without_an_encoder_entry_uses_contentvec(folder, monkeypatch):
    voice = make_voice(quick_config(), embedder_model=None)
    monkeypatch.setattr("rvc_lightning.content.hubert.fetch_folder", lambda files, otherwise: folder)
    assert VoiceConverter(voice, trainer=cpu_trainer()).content.name == "contentvec"


def test_download_error_names_the_remedies_in_training():
    with pytest.raises(AssetError, match=r"spin-v2/config\.json.*https://.*Or: content\.path=FOLDER, a folder"):
        build_content_encoder("spin-v2")


def test_download_error_names_the_remedies_in_conversion():
    voice = make_voice(quick_config(), embedder_model="spin-v2")
    with pytest.raises(AssetError) as caught:
        VoiceConverter(voice, trainer=cpu_trainer())
    message = str(caught.value)
    assert message.startswith("the voice requires the content encoder 'spin-v2': 'Resources/embed")
    assert "files=spin-v2 folder=FOLDER" in message
    assert message.endswith("Or name the folder of its files: content_path=FOLDER")
    assert "content.path" not in message and "phonetic" not in message


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("spin-v2", "spin-v2"),
        ("hubert_base", "contentvec"),
        ("assets/hubert/hubert_base.pt", "contentvec"),
        ("custom", "hubert"),
        ("rvc/models/embedders/embedders_custom/mine", "hubert"),
        ("C:\\Applio\\rvc\\models\\embedders\\embedders_custom\\mine", "hubert"),
    ],
)
def test_voices_of_other_tools_with_custom_encoders(entry, name, folder):
    voice = make_voice(quick_config(), embedder_model=entry)
    converter = VoiceConverter(voice, content_path=folder, trainer=cpu_trainer())
    assert converter.content.name == name
    if name == "hubert":
        with pytest.raises(VoiceError) as caught:
            VoiceConverter(voice, trainer=cpu_trainer())
        assert f"the content encoder '{entry}': content_path=FOLDER is missing" in str(caught.value)


@pytest.mark.parametrize(
    ("encoder", "path", "message"),
    [
        ("contentvec", "nowhere", r"'contentvec': content_path=nowhere is not a folder with a HuBERT model"),
        ("hubert", None, "'hubert': content_path=FOLDER is missing: 'hubert' is a custom model"),
        ("phonetic", "nowhere", "'phonetic': content_path=nowhere is not a phonetic encoder"),
    ],
)
def test_conversion_errors_name_its_own_setting(encoder, path, message):
    voice = make_voice(quick_config(content_dim=256), embedder_model=encoder)
    with pytest.raises(VoiceError, match=message):
        VoiceConverter(voice, content_path=path, trainer=cpu_trainer())
