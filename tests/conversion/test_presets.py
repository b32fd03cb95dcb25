"""Presets of conversion options beside a voice."""

import pytest
from hydra import compose, initialize_config_module

from rvc_lightning import ConversionOptions
from rvc_lightning.cli.overrides import parse_overrides
from rvc_lightning.conversion import options as conversion_options
from rvc_lightning.conversion import presets
from rvc_lightning.errors import ConfigurationError

OPTIONS = ConversionOptions(transpose_semitones=12, effects=["compressor", {"name": "reverb", "room_size": 0.8}])


@pytest.fixture
def voice(tmp_path):
    return tmp_path / "José 1.pth"


def test_saved_preset_restores_the_options(voice):
    path = presets.save_preset(voice, "song", OPTIONS)
    assert path == voice.parent / "José 1.presets" / "song.yaml"
    assert ConversionOptions.from_values(presets.read_preset(voice, "song")) == OPTIONS


def test_preset_omits_defaults_and_files_of_a_recording(voice):
    presets.save_preset(voice, "song", ConversionOptions(index_rate=0.5, write_f0=True, f0_file="curve.csv"))
    assert presets.read_preset(voice, "song") == {"index_rate": 0.5}


def test_default_is_listed_first_and_presets_are_deleted(voice):
    assert presets.list_presets(voice) == []
    for name in ("b", "default", "a"):
        presets.save_preset(voice, name, OPTIONS)
    assert presets.list_presets(voice) == ["default", "a", "b"]
    presets.delete_preset(voice, "a")
    assert presets.list_presets(voice) == ["default", "b"]


def test_preset_is_replaced(voice):
    presets.save_preset(voice, "song", OPTIONS)
    presets.save_preset(voice, "song", ConversionOptions())
    assert presets.read_preset(voice, "song") == {}


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "a\0b"])
def test_name_that_leaves_the_folder_is_rejected(voice, name):
    with pytest.raises(ConfigurationError, match="choose a name"):
        presets.save_preset(voice, name, OPTIONS)
    with pytest.raises(ConfigurationError, match="has no presets"):
        presets.read_preset(voice, name)


def test_missing_preset_lists_candidates(voice):
    presets.save_preset(voice, "song", OPTIONS)
    with pytest.raises(ConfigurationError, match="unknown preset 'sing'; choose one of: song"):
        presets.read_preset(voice, "sing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("transpose: 3", "unknown option 'transpose'"),
        ("index_rate: 2", "index_rate=2: choose a number"),
        ("- 1", "table"),
        ("", "(?<!=)None: choose a table"),
        ("a: [", "expected"),
        ("f0_file: /etc/passwd", "f0_file cannot be part of a preset"),
        ("speaker: ${oc.env:HOME}", "values only"),
    ],
)
def test_invalid_file_is_reported_with_its_path(voice, text, message):
    presets.presets_folder(voice).mkdir()
    (presets.presets_folder(voice) / "bad.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=f"preset '.*bad.yaml': .*(?:{message})"):
        presets.read_preset(voice, "bad")


def test_typed_options_take_precedence_over_the_preset(voice, monkeypatch):
    presets.save_preset(voice, "song", ConversionOptions(transpose_semitones=12, index_rate=0.5))
    typed = ["transpose_semitones=3", "preset=song"]
    monkeypatch.setattr(presets, "typed_overrides", lambda: typed)
    assert parse_overrides(typed)
    conversion_options.register()
    with initialize_config_module("rvc_lightning.conf", version_base="1.3"):
        config = compose("convert", overrides=[*typed, "voice=v", "input=i", "output=o"])
    options = presets.options_with_preset(config, voice, config.preset)
    assert (options.transpose_semitones, options.index_rate) == (3, 0.5)
    assert presets.options_with_preset(config, voice, None).index_rate == 0.3
