"""Voices from training checkpoints of other tools."""

import json

import pytest
import torch
from stubs import quick_config

from rvc_lightning import Voice
from rvc_lightning.errors import VoiceError
from rvc_lightning.models import Synthesizer
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.layouts import convert_layout


@pytest.fixture
def checkpoint(tmp_path):
    """Return a function that writes a checkpoint of a generator with the JSON files beside it."""

    def make(rate_key="sample_rate", **changes):
        config = quick_config(posterior_layers=16, **changes)
        torch.manual_seed(1)
        model = rvc_format.weights_for_file(Synthesizer(config).state_dict(), config)
        torch.save(
            {"model": model, "iteration": 7, "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}}},
            tmp_path / "G_1200.pth",
        )
        values = rvc_format.config_to_list(config)
        (tmp_path / "config.json").write_text(json.dumps({
            "train": {"seed": 1234},
            "data": {rate_key: config.sample_rate, "filter_length": config.n_fft},
            "model": dict(zip(rvc_format._EXPERIMENT_FIELDS, values[2:], strict=False)),
        }))  # fmt: skip
        (tmp_path / "model_info.json").write_text(
            json.dumps({"embedder_model": "spin", "total_dataset_duration": "00:12:34"})
        )
        return tmp_path / "G_1200.pth", config, model

    return make


@pytest.mark.parametrize(
    ("generator", "content_dim", "rate_key"),
    [
        ("hifigan_nsf", 768, "sample_rate"),
        ("hifigan_nsf", 256, "sampling_rate"),
        ("hifigan", 768, "sampling_rate"),
        ("mrf_hifigan", 768, "sample_rate"),
    ],
)
def test_extract_voice_from_checkpoint(checkpoint, tmp_path, generator, content_dim, rate_key):
    path, config, model = checkpoint(rate_key, generator=generator, content_dim=content_dim)
    written = convert_layout(path, tmp_path / "voice.pth", "applio")
    voice = Voice.load(written)
    assert voice.config == config
    assert voice.weights.keys() == {name for name in model if not name.startswith("enc_q.")}
    assert all(torch.equal(tensor, model[name].half()) for name, tensor in voice.weights.items())
    expected = {"epoch": 7, "step": 1200, "embedder_model": "spin", "dataset_length": "00:12:34", "sr": 8000}
    assert expected.items() <= voice.information.items()


@pytest.mark.slow
def test_invalid_checkpoints_are_rejected(checkpoint, tmp_path):
    path, _, model = checkpoint()
    (tmp_path / "config.json").rename(tmp_path / "other.json")
    with pytest.raises(VoiceError, match=r"'.*config.json' cannot be used: No such file.* by --config FILE"):
        convert_layout(path, tmp_path / "voice.pth", "applio")
    assert convert_layout(path, tmp_path / "voice.pth", "webui", tmp_path / "other.json").is_file()
    model.pop("dec.conv_post.weight")
    torch.save({"model": model}, path)
    with pytest.raises(VoiceError, match="fit no generator of the sizes in"):
        convert_layout(path, tmp_path / "b.pth", "applio", tmp_path / "other.json")
    torch.save({"model": {"discriminators.0.convs.0.bias": torch.zeros(3)}}, path)
    with pytest.raises(VoiceError, match=r"choose a G_….pth, not a D_….pth"):
        convert_layout(path, tmp_path / "b.pth", "applio", tmp_path / "other.json")
    torch.save({"state_dict": {}}, path)
    with pytest.raises(VoiceError, match=r"export its voice: python -m rvc_lightning\.export checkpoint="):
        convert_layout(path, tmp_path / "b.pth", "applio")
    torch.save({"nothing": 3}, path)
    with pytest.raises(VoiceError, match="is not a voice: it has no entry 'weight'"):
        convert_layout(path, tmp_path / "b.pth", "applio")
    assert not (tmp_path / "b.pth").exists()
