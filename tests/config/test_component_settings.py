"""Every registered component has a YAML file with its options, and every such file builds a component."""

from dataclasses import fields
from pathlib import Path

import pytest
from configurations import compose_config
from omegaconf import OmegaConf
from optional_pitch import skip_without_package
from stubs import make_pitch_weights

from rvc_lightning.config.values import plain
from rvc_lightning.content import CONTENT_ENCODERS, build_content_encoder
from rvc_lightning.data.slicing import MODES, SlicingConfig
from rvc_lightning.pitch import PITCH_EXTRACTORS, build_pitch_extractor
from rvc_lightning.pitch.base import PitchNetwork
from rvc_lightning.separation import SEPARATORS
from rvc_lightning.tts import SPEECH_ENGINES
from rvc_lightning.voice.rvc_format import CONTENT_DIMS

CONF = Path(__file__).parents[2] / "conf"


def load(group, name):
    return OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))


@pytest.mark.parametrize(
    ("group", "names"),
    [
        ("pitch", PITCH_EXTRACTORS),
        ("content", CONTENT_ENCODERS),
        ("slicing", MODES),
        ("separator", SEPARATORS),
        ("tts", SPEECH_ENGINES),
    ],
)
def test_one_yaml_for_each_choice(group, names):
    assert {path.stem for path in (CONF / group).glob("*.yaml")} == set(names)


@pytest.mark.parametrize("name", sorted(PITCH_EXTRACTORS))
def test_pitch(name, tmp_path):
    skip_without_package(name)
    settings = load("pitch", name)
    if issubclass(PITCH_EXTRACTORS[name], PitchNetwork):
        assert settings["path"] is None
        settings["path"] = make_pitch_weights(tmp_path, name)
    assert build_pitch_extractor(**settings).name == name


@pytest.mark.parametrize("name", sorted(CONTENT_ENCODERS))
def test_content(name):
    settings = load("content", name)
    assert settings["name"] == name
    if name in ("spectral", "phonetic"):
        assert build_content_encoder(**settings).dim == CONTENT_DIMS[settings.get("version", "v2")]


@pytest.mark.parametrize("name", MODES)
def test_slicing_states_every_field(name):
    settings = plain(compose_config(f"slicing={name}").slicing)
    assert list(settings) == [field.name for field in fields(SlicingConfig)]
    assert SlicingConfig.from_values(settings).mode == name
