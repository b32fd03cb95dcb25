"""Voice files with entries and weights of unusual types: read, or rejected in one line."""

import json

import pytest
import torch
from stubs import make_voice, quick_config

from rvc_lightning import Voice
from rvc_lightning.conversion.components import content_encoder_for, pitch_extractor_for
from rvc_lightning.errors import VoiceError
from rvc_lightning.voice.__main__ import main
from rvc_lightning.voice.blend import blend
from rvc_lightning.voice.info import as_table, read_voice_info
from rvc_lightning.voice.layouts import in_layout
from rvc_lightning.voice.rvc_format import parse_rate
from rvc_lightning.voice.voice import content_hash

FLOATS = [
    *(torch.float32, torch.float64, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.float8_e4m3fnuz, torch.float8_e5m2fnuz),
]


@pytest.fixture
def content():
    """Entries of a small voice."""
    voice = make_voice(quick_config(), model_name="anna", author="me", epoch=3)
    return {"weight": voice.weights, "config": [257, 32, 8, 16, 16, 2, 1, 3, 0, "1", [3], [[1]], [10, 8], 16, [20, 16],
            2, 8, 8000], **voice.information}  # fmt: skip


def saved(content, folder):
    path = folder / "voice.pth"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_weights_of_any_float_type(content, tmp_path, dtype):
    content["weight"] = {name: tensor.to(dtype) for name, tensor in content["weight"].items()}
    path = saved(content, tmp_path)
    info, voice = read_voice_info(path), Voice.load(path)
    assert f"weights of type {dtype} instead of torch.float16" in info.unusual
    assert info.content_hash == content_hash(voice.weights)
    state = voice.synthesizer.state_dict()
    assert torch.equal(state["speaker_embedding.weight"], content["weight"]["emb_g.weight"].float())
    for half in (blend(voice, voice, 0.5, "b"), in_layout(voice, "webui", "b")):
        assert torch.equal(half.weights["emb_g.weight"], content["weight"]["emb_g.weight"].half())


def test_hash_depends_on_values_of_any_type():
    assert content_hash({"a": torch.tensor([1.0, 2.0]).bfloat16()}) != content_hash({"a": torch.zeros(2).bfloat16()})
    assert content_hash({"a": torch.tensor(1.0)}) == content_hash({"a": torch.tensor([1.0])})


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64], ids=str)
def test_weights_of_other_types_are_rejected(content, tmp_path, dtype):
    content["weight"]["emb_g.weight"] = content["weight"]["emb_g.weight"].to(dtype)
    with pytest.raises(VoiceError, match="not floating-point numbers"):
        Voice.load(saved(content, tmp_path))


def test_tensors_in_place_of_numbers_are_read(content, tmp_path):
    content |= {"sr": torch.tensor(8000), "epoch": torch.tensor(7), "f0": torch.tensor(1)}
    content["config"] = [torch.tensor(v) if not isinstance(v, str) else v for v in content["config"]]
    path = saved(content, tmp_path)
    info = read_voice_info(path)
    assert (info.sample_rate, info.epoch, info.pitch_guided) == (8000, 7, True)
    assert Voice.load(path).config == quick_config()
    assert not any("sr is" in line for line in info.unusual)


def test_numbers_in_place_of_text_are_read(content, tmp_path):
    info = read_voice_info(saved(content | {"model_name": 2024, "author": 1.5}, tmp_path))
    assert (info.name, info.author) == ("2024", "1.5")


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("sr", "²"),
        ("sr", "9" * 5000),
        ("sr", [1, 2]),
        ("info", torch.zeros(2000)),
        ("epoch", "9" * 5000),
        ("epoch", torch.zeros(2, 2)),
        ("model_name", torch.zeros(3)),
        ("author", {"a": 1}),
        ("embedder_model", torch.zeros(3)),
        ("content_hash", torch.zeros(3)),
        ("rvc_lightning", [1]),
        ("rvc_lightning", {"speakers": "ab", "median_f0_hz": "high", "noise_scale": [0.1]}),
    ],
)
def test_entries_of_wrong_types_are_ignored(content, tmp_path, entry, value):
    path = saved(content | {entry: value}, tmp_path)
    info = read_voice_info(path)
    assert info.sample_rate == 8000 and "\n" not in info.name
    assert all(line.isprintable() for line in as_table(info).splitlines())
    in_layout(Voice.load(path), "webui", "a")
    in_layout(Voice.load(path), "applio", "a")


@pytest.mark.parametrize(
    "changes",
    [
        {"version": torch.zeros(3)},
        {"version": 2},
        {"vocoder": torch.zeros(3)},
        {"model_name": "\ud800"},
        {"config": [torch.zeros(2000)] * 18},
        {"config": ["9" * 5000] * 18},
        {"config": torch.zeros(18)},
        {"epoch": 10**5000},
    ],
)
def test_invalid_entries_are_rejected_in_one_line(content, tmp_path, changes):
    with pytest.raises(VoiceError) as caught:
        Voice.load(saved(content | changes, tmp_path))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


def test_control_characters_are_escaped(content, tmp_path, capsys, caplog):
    path = saved(content | {"model_name": "a\x1b[2J\nb", "author": "c\x9bd\u202ee"}, tmp_path)
    main(["info", str(path)])
    lines = capsys.readouterr().out.splitlines()
    assert "name            a\\x1b[2J\\nb" in lines and "author          c\\x9bd\\u202ee" in lines
    main(["info", "--json", str(path)])
    output = capsys.readouterr().out
    assert output.isascii() and json.loads(output)[0]["entries"]["author"] == "c\x9bd\u202ee"
    with pytest.raises(SystemExit):
        main(["info", str(saved(content | {"version": "\x1b[2J\nError: x"}, tmp_path))])
    assert "\x1b" not in caplog.text and "\nError: x" not in caplog.text


def test_forks_append_values_to_the_configuration(content, tmp_path):
    info = read_voice_info(saved(content | {"config": [*content["config"], "extra"]}, tmp_path))
    assert "the configuration has 19 values instead of 18" in info.unusual and info.sample_rate == 8000


@pytest.mark.parametrize(
    ("entries", "encoder"),
    [
        ({"embedder_model": None, "embedder_name": "spin"}, "spin"),
        ({"embedder_model": "contentvec", "embedder_name": "spin"}, "contentvec"),
        ({"embedder_model": ""}, "contentvec"),
        (
            {"embedder_model": "rvc/models/embedders_custom/mine"},
            "rvc/models/embedders_custom/mine",
        ),
    ],
)
def test_content_encoder_of_a_voice(content, tmp_path, entries, encoder):
    assert Voice.load(saved(content | entries, tmp_path)).content_encoder == encoder


def test_paths_of_a_voice_are_never_opened(content):
    missing = {"path": "/nowhere/file.pt"}
    content["rvc_lightning"] = {
        "content": {"name": "spectral", "options": missing},
        "pitch": {"name": "pyin", "options": missing},
    }
    voice = Voice.from_file_content(content)
    assert content_encoder_for(voice, None).name == "spectral"
    assert pitch_extractor_for(voice).name == "pyin"


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["225", "226"], "2: speaker=225, speaker=226"),
        (["1", "2"], "2: speaker=1, speaker=2"),
        (["anna", "ben"], "2: speaker=0 anna, speaker=1 ben"),
    ],
)
def test_speakers_of_numbered_folders_are_listed_by_folder(content, tmp_path, names, line):
    content["rvc_lightning"] = {"speakers": names}
    assert f"speakers        {line}" in as_table(read_voice_info(saved(content, tmp_path))).splitlines()


@pytest.mark.parametrize(
    ("spelling", "rate"), [(40000, 40000), ("40000", 40000), ("40k", 40000), ("22.05K", 22050), (48000.0, 48000)]
)
def test_spellings_of_the_sample_rate(spelling, rate):
    assert parse_rate(spelling) == rate


@pytest.mark.parametrize("value", ["²", "9" * 5000, "", None, [40000], "k", True])
def test_invalid_sample_rates(value):
    with pytest.raises((ValueError, OverflowError)):
        parse_rate(value)
