"""Blends of two voices."""

import pytest
import torch
from golden import GOLDEN
from stubs import make_voice, quick_config
from voices import read_entries, with_parametrizations

from rvc_lightning import Voice
from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.voice.blend import blend, blend_files
from rvc_lightning.voice.layouts import convert_layout


def test_blend_matches_applio():
    content = read_entries(GOLDEN / "voices/v2_f0_40k_hifigan.pth")
    first = Voice.from_file_content(content)
    halved = {name: (tensor.float() / 2).half() for name, tensor in content["weight"].items()}
    second = Voice.from_file_content(content | {"weight": halved})
    expected = read_entries(GOLDEN / "voices/v2_f0_40k_blend.pth")
    mixed = blend(first, second, 0.3, "mixed")
    assert mixed.weights.keys() == expected["weight"].keys()
    for name, tensor in expected["weight"].items():
        assert mixed.weights[name].dtype == torch.float16 and torch.equal(mixed.weights[name], tensor)
    about = {key: mixed.information[key] for key in expected if key not in ("weight", "info")}
    assert about == {key: value for key, value in expected.items() if key not in ("weight", "info")}


def test_blend_truncates_the_speaker_table(voices, tmp_path):
    path = blend_files(*voices, 0.25, tmp_path / "out" / "mixed.pth")
    first, second, mixed = (Voice.load(file) for file in (*voices, path))
    assert (mixed.config.speaker_count, mixed.information["model_name"]) == (2, "mixed")
    expected = 0.25 * first.weights["emb_g.weight"][:2].float() + 0.75 * second.weights["emb_g.weight"].float()
    assert torch.equal(mixed.weights["emb_g.weight"], expected.half())
    assert mixed.content_encoder == "spectral"


def test_blend_keeps_layer_and_names_of_the_first_voice():
    names = [{"id": 0, "name": "anna"}, {"id": 1, "name": "ben"}]
    first = make_voice(quick_config(), embedder_output_layer=7, speaker_info=names)
    second = make_voice(quick_config(), embedder_output_layer=7)
    mixed = blend(first, second, 0.5, "a")
    assert (mixed.content_layer, mixed.speaker_names) == (7, ["anna", "ben"])


def test_blend_accepts_both_spellings_of_weight_norm(voices):
    first, second = (Voice.load(path) for path in voices)
    renamed = with_parametrizations(second.weights)
    other = Voice(second.config, renamed, second.information)
    mixed, same = (blend(first, voice, 0.5, "a").weights for voice in (other, second))
    assert all(torch.equal(mixed[name], tensor) for name, tensor in same.items())


@pytest.mark.parametrize(
    ("changes", "information", "message"),
    [
        ({"sample_rate": 16000, "upsample_rates": (10, 16), "upsample_kernel_sizes": (20, 32)}, {}, "sample_rate 8000"),
        ({"generator": "hifigan"}, {}, "generator hifigan_nsf and hifigan"),
        ({"content_dim": 256}, {}, "content_dim 768 and 256"),
        ({"filter_channels": 20}, {}, "filter_channels 16 and 20"),
        ({}, {"embedder_model": "spin"}, "content encoder spectral and spin"),
        (
            {},
            {"rvc_lightning": {"content": {"name": "spectral", "options": {"bands": 3}}}},
            "content encoder spectral and spectral {'bands': 3}",
        ),
        ({}, {"embedder_output_layer": 7}, "content encoder spectral and spectral layer 7"),
    ],
)  # fmt: skip
def test_incompatible_voices_are_rejected(changes, information, message):
    first, second = make_voice(quick_config()), make_voice(quick_config(**changes), **information)
    with pytest.raises(VoiceError, match=message):
        blend(first, second, 0.5, "a")


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_ratio_out_of_range_is_rejected(voices, ratio):
    first, second = map(Voice.load, voices)
    with pytest.raises(VoiceError, match=r"ratio=.* is not between 0"):
        blend(first, second, ratio, "a")


def test_inputs_are_never_overwritten(voices):
    before = [path.read_bytes() for path in voices]
    for path in voices:
        with pytest.raises(ConfigurationError, match="exists; choose another name, or delete that voice"):
            blend_files(*voices, 0.5, path.parent / "." / path.name)
    with pytest.raises(ConfigurationError, match="is the same file as"):
        convert_layout(voices[0], voices[0], "webui")
    assert [path.read_bytes() for path in voices] == before
