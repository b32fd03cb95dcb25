"""Voices in the layouts of other tools."""

import pytest
import torch
from stubs import make_voice, quick_config
from voices import VOICES, read_entries, with_parametrizations

from rvc_lightning import Voice
from rvc_lightning.errors import VoiceError
from rvc_lightning.voice.layouts import convert_layout, in_layout


@pytest.mark.slow
@pytest.mark.parametrize("path", VOICES, ids=lambda path: path.stem)
def test_convert_to_applio_and_back_to_webui(path, tmp_path):
    before = read_entries(path)
    applio = read_entries(convert_layout(path, tmp_path / "applio.pth", "applio"))
    assert (applio["sr"], applio["f0"]) == (before["config"][-1], bool(before["f0"]))
    assert applio["vocoder"] == before.get("vocoder", "HiFi-GAN")
    assert applio["version"] == before.get("version", "v1")
    assert applio["embedder_model"] == before.get("embedder_model", "contentvec")
    assert isinstance(applio["epoch"] if "epoch" in before or "epoch" in before["info"] else 0, int)
    if applio["vocoder"] != "HiFi-GAN":
        with pytest.raises(VoiceError, match="but the WebUI supports only HiFi-GAN; train a voice for it"):
            convert_layout(tmp_path / "applio.pth", tmp_path / "webui.pth", "webui")
        return
    webui = read_entries(convert_layout(tmp_path / "applio.pth", tmp_path / "webui.pth", "webui"))
    assert webui["sr"] == f"{before['config'][-1] // 1000}k" and type(webui["f0"]) is int
    assert isinstance(webui["info"], str)
    for content in (applio, webui):
        assert content["config"] == before["config"]
        assert content["weight"].keys() == before["weight"].keys()
        assert all(torch.equal(content["weight"][name], tensor) for name, tensor in before["weight"].items())


def test_unknown_entries_are_kept_and_names_normalized(voices):
    voice = Voice.load(voices[0])
    odd = Voice(voice.config, with_parametrizations(voice.weights), voice.information | {"future": "value"})
    normal = in_layout(odd, "webui", "a")
    assert normal.weights.keys() == voice.weights.keys()
    assert normal.information["future"] == "value"


@pytest.mark.parametrize("layout", ["applio", "webui"])
def test_unsupported_generator_is_rejected(layout, tmp_path):
    path = make_voice(quick_config(generator="source_filter")).save(tmp_path / "ours.pth")
    with pytest.raises(VoiceError, match=r"is Source-Filter, but .* supports only .*; train a voice for it with gen"):
        convert_layout(path, tmp_path / "theirs.pth", layout)
    assert not (tmp_path / "theirs.pth").exists()


@pytest.mark.parametrize(
    ("encoder", "layout", "warns"),
    [
        ("phonetic", "applio", True),
        ("spectral", "webui", True),
        ("spin", "webui", True),
        ("spin", "applio", False),
        ("contentvec", "webui", False),
    ],
)
def test_unsupported_content_encoder_causes_a_warning(encoder, layout, warns, tmp_path, caplog):
    path = make_voice(quick_config(), embedder_model=encoder).save(tmp_path / "ours.pth")
    convert_layout(path, tmp_path / "theirs.pth", layout)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == warns
    for line in messages:
        assert f"content encoder '{encoder}'" in line and "Train a voice for it with content=contentvec" in line
