"""Voices in the forms that other tools write, each converted from its file to audio."""

import json

import golden_rule
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from stubs import StubPitch, cpu_trainer, make_hubert, make_voice, quick_config
from voices import read_entries

from rvc_lightning import ConversionOptions, Voice, VoiceConverter
from rvc_lightning.content import encoder_name
from rvc_lightning.conversion.components import content_encoder_for
from rvc_lightning.errors import VoiceError
from rvc_lightning.io.safetensors_files import read_safetensors
from rvc_lightning.voice.importing import import_voices
from rvc_lightning.voice.info import read_voice_info
from rvc_lightning.voice.layouts import in_layout
from rvc_lightning.voice.library import edit_voice

OPTIONS = ConversionOptions(noise_scale=0.0)


@pytest.fixture
def content(tmp_path):
    """Entries of a voice with three speakers."""
    return read_entries(make_voice(quick_config(speaker_count=3)).save(tmp_path / "plain.pth"))


def save(content, path):
    torch.save(content, path)
    return path


def save_safetensors(content, path):
    """Write a voice as safetensors: weights as tensors, all other entries as texts."""
    entries = {key: value for key, value in content.items() if key != "weight"}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in entries.items()}
    save_file(content["weight"], path, texts)
    return path


def as_type(content, dtype):
    return content | {"weight": {name: tensor.to(dtype) for name, tensor in content["weight"].items()}}


def with_fork_config(content):
    """Return entries with the 19 values of a fork: the channels of the content before the rate."""
    *sizes, rate = content["config"]
    return content | {"config": [*sizes, 768, rate], "version": "v1", "embedder_name": "spectral"}


def convert(path, speaker=None):
    torch.manual_seed(0)
    converter = VoiceConverter(Voice.load(path), pitch=StubPitch(), trainer=cpu_trainer())
    options = ConversionOptions(noise_scale=0.0, speaker=speaker)
    return converter.convert(golden_rule.stub_audio("others", 0.4), options, 16000)


FORMS = {
    "bfloat16": lambda content, path: save(as_type(content, torch.bfloat16), path),
    "float8_e4m3fn": lambda content, path: save(as_type(content, torch.float8_e4m3fn), path),
    "float8_e5m2": lambda content, path: save(as_type(content, torch.float8_e5m2), path),
    "float32": lambda content, path: save(as_type(content, torch.float32), path),
    "safetensors": save_safetensors,
    "safetensors_as_pth": lambda content, path: save_safetensors(content, path.with_suffix(".pth")),
    "safetensors_bfloat16": lambda content, path: save_safetensors(as_type(content, torch.bfloat16), path),
    "config_of_19": lambda content, path: save(with_fork_config(content), path),
    "safetensors_config_of_19": lambda content, path: save_safetensors(with_fork_config(content), path),
}
LOSSY = ("bfloat16", "float8", "safetensors_bfloat16")


@pytest.mark.parametrize("form", FORMS)
def test_form_converts_like_the_plain_voice(form, content, tmp_path):
    path = FORMS[form](content, tmp_path / "form.safetensors")
    expected, rate = convert(tmp_path / "plain.pth")
    audio, form_rate = convert(path)
    assert form_rate == rate == 8000 and audio.shape == expected.shape
    if form.startswith(LOSSY):
        assert np.isfinite(audio).all() and audio.any()
    else:
        np.testing.assert_array_equal(audio, expected)
    info = read_voice_info(path)
    assert (info.sample_rate, info.content_dim, info.speaker_rows) == (8000, 768, 3)


@pytest.mark.parametrize("form", FORMS)
def test_form_is_written_in_the_layouts_of_tools(form, content, tmp_path):
    voice = Voice.load(FORMS[form](content, tmp_path / "form.safetensors"))
    for layout in ("applio", "webui"):
        path = in_layout(voice, layout, "x").save(tmp_path / f"{layout}.pth")
        stored = read_entries(path)
        assert len(stored["config"]) == 18 and stored["version"] == "v2"
        assert {tensor.dtype for tensor in stored["weight"].values()} == {torch.float16}


def test_safetensors_voice_is_imported_as_pth(content, tmp_path):
    path = save_safetensors(as_type(content, torch.bfloat16) | {"author": "me"}, tmp_path / "anna.safetensors")
    (voice,) = import_voices([path], tmp_path / "voices").voices
    stored = read_entries(voice.voice)
    assert voice.voice.name == "anna.pth" and (stored["author"], stored["config"]) == ("me", content["config"])
    assert all(torch.equal(stored["weight"][name], tensor.bfloat16()) for name, tensor in content["weight"].items())


@pytest.mark.parametrize("change", [lambda data: data[:100], lambda data: data[:-4], lambda data: data + b"x"])
def test_damaged_safetensors_file_is_an_error(change, content, tmp_path):
    path = save_safetensors(content, tmp_path / "a.safetensors")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(VoiceError, match=r"a\.safetensors' cannot be read as a"):
        Voice.load(path)


def test_safetensors_are_copied(content, tmp_path):
    """Windows neither replaces nor deletes a mapped file."""
    path = save_safetensors(content, tmp_path / "a.safetensors")
    weights, _ = read_safetensors(path)
    with path.open("r+b") as stream:
        stream.write(bytes(path.stat().st_size))
    assert all(torch.equal(weights[name], tensor) for name, tensor in content["weight"].items())


def test_safetensors_without_metadata_are_an_error(content, tmp_path):
    save_file(content["weight"], tmp_path / "a.safetensors")
    with pytest.raises(VoiceError, match="it has no entry 'config'"):
        Voice.load(tmp_path / "a.safetensors")


def test_safetensors_are_not_edited_in_place(content, tmp_path):
    path = save_safetensors(content, tmp_path / "a.safetensors")
    before = path.read_bytes()
    with pytest.raises(VoiceError, match="it is a safetensors file"):
        edit_voice(path, name="x")
    assert path.read_bytes() == before


SPEAKERS = [
    ([{"id": 0, "name": "anna"}, {"id": 2, "name": "ben"}], ["anna", "1", "ben"]),
    ([{"id": 1, "name": "ben"}, {"id": 0, "name": "anna"}, {"id": 1, "name": "late"}], ["anna", "ben"]),
    ({"1": "ben", "0": "anna"}, ["anna", "ben"]),
    ({0: "anna"}, ["anna"]),
    ([{"id": 7, "name": "far"}, {"id": -1, "name": "x"}, {"id": 10**9, "name": "y"}], []),
    ([1, None, {"id": "a", "name": "b"}, {"id": 0}, {"id": 0, "name": ["a"]}, {"name": "x"}], []),
    ("anna", []),
]


@pytest.mark.parametrize(("entry", "names"), SPEAKERS)
def test_names_of_speakers_of_the_webui(entry, names, content, tmp_path):
    voice = Voice.load(save(content | {"speaker_info": entry}, tmp_path / "a.pth"))
    assert voice.speaker_names == names


def test_speaker_is_chosen_by_the_name_of_the_webui(content, tmp_path):
    names = [{"id": 0, "name": "anna"}, {"id": 2, "name": "ben"}]
    path = save(content | {"speaker_info": names}, tmp_path / "a.pth")
    np.testing.assert_array_equal(convert(path, "ben")[0], convert(tmp_path / "plain.pth", 2)[0])
    assert (convert(path, "ben")[0] != convert(path)[0]).any()


def test_layout_of_the_webui_has_the_names_of_speakers(content):
    voice = Voice.from_file_content(content | {"rvc_lightning": {"speakers": ["anna", "ben"]}})
    entry = in_layout(voice, "webui", "x").information["speaker_info"]
    assert entry == [{"id": 0, "name": "anna"}, {"id": 1, "name": "ben"}]


def test_name_of_a_fork_is_read(content):
    assert Voice.from_file_content(content | {"name": "anna"}).name == "anna"
    assert Voice.from_file_content(content | {"name": "anna", "model_name": "ben"}).name == "ben"


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("contentvec", "contentvec"),
        ("contentvec768", "contentvec"),
        ("hubert_base", "contentvec"),
        ("hubert_base768", "contentvec"),
        ("assets/hubert/hubert_base.pt", "contentvec"),
        ("hubert-base-japanese", "japanese-hubert-base"),
        ("korean_hubert_base", "korean-hubert-base"),
        ("spin", "spin"),
        ("rvc/models/embedders/embedders_custom/spin", "hubert"),
        ("C:\\embedders\\mine", "hubert"),
        ("mine", "hubert"),
    ],
)
def test_names_of_encoders(entry, name):
    assert encoder_name(entry) == name


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "layer"), [("custom/mine", None), ("hubert_base768", 9), ("contentvec", 12)])
def test_custom_encoder_in_a_folder_is_used(entry, layer, content, tmp_path):
    folder = make_hubert(tmp_path / "mine", layers=12)
    voice = Voice.from_file_content(content | {"embedder_model": entry, "embedder_output_layer": layer})
    encoder = content_encoder_for(voice, folder)
    assert len(encoder.hubert.encoder.layers) == (layer or 12)
    converter = VoiceConverter(voice, content_path=folder, pitch=StubPitch(), trainer=cpu_trainer())
    audio, _ = converter.convert(golden_rule.stub_audio("others", 0.4), OPTIONS, 16000)
    assert np.isfinite(audio).all() and audio.any()


@pytest.mark.parametrize("layer", [0, -1, "9", 2.5, True, None])
def test_unusual_layers_are_ignored(layer, content):
    assert Voice.from_file_content(content | {"embedder_output_layer": layer}).content_layer is None
