"""Conversion options: validation, help, and the settings of the commands."""

import re
from dataclasses import fields
from importlib.resources import files
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

import rvc_lightning
from rvc_lightning import ConversionOptions
from rvc_lightning.cli import resolvers
from rvc_lightning.conversion.effects import EFFECTS, Gain, Reverb
from rvc_lightning.conversion.options import (
    default_values,
    help_text,
    markdown_table,
    option_fields,
    options_from,
    register,
)
from rvc_lightning.errors import ConfigurationError

ROOT = Path(rvc_lightning.__file__).parents[1]
OWNERS = [ConversionOptions, *EFFECTS.values()]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("transpose_semitones", 49),
        ("transpose_semitones", float("nan")),
        ("transpose_semitones", "up"),
        ("autotune", 1.5),
        ("autotune", None),
        ("proposed_pitch_hz", 20),
        ("f0_file", 3),
        ("write_f0", 1),
        ("write_f0", "yes"),
        ("index_rate", 1.1),
        ("index_rate", True),
        ("protect", 0.6),
        ("protect", -0.1),
        ("volume_envelope", 2),
        ("volume_envelope", None),
        ("speaker", -1),
        ("speaker", 0.5),
        ("speaker", [1]),
        ("seed", -1),
        ("seed", 2**64),
        ("split_on_silence", None),
        ("clean_noise", float("inf")),
        ("effects", "reverb"),
        ("tail_seconds", -1),
        ("output_sample_rate", 44100.5),
        ("output_sample_rate", 4000),
        ("output_format", "aac"),
    ],
)
def test_invalid_values_are_rejected(name, value):
    with pytest.raises(ConfigurationError, match=rf"{name}=.*choose (a|text|one of|true)"):
        ConversionOptions(**{name: value})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"autotune": 0.5, "f0_file": "x.csv"}, "autotune=0.5 and f0_file=x.csv exclude each other: choose one"),
        ({"autotune": 1, "proposed_pitch_hz": 155}, "autotune=1 and proposed_pitch_hz=155 exclude each other"),
        ({"proposed_pitch_hz": 155, "f0_file": "x"}, "proposed_pitch_hz=155 and f0_file=x exclude each other"),
        (
            {"tail_seconds": 2, "effects": ["gain"]},
            r"tail_seconds=2 requires an effect with a tail: add chorus or delay or reverb",
        ),
    ],
)
def test_contradictions_are_rejected(given, message):
    with pytest.raises(ConfigurationError, match=message):
        ConversionOptions(**given)


@pytest.mark.parametrize(
    ("effects", "message"),
    [
        (["revreb"], "no effect named 'revreb'; choose one of: .*reverb"),
        ([{"room_size": 1}], "is not an effect; choose a name, or a table with a name"),
        ([3], "is not an effect"),
        (
            [{"name": "reverb", "size": 1}],
            "no setting of reverb named 'size'; choose one of: .*room_size",
        ),
        ([{"name": "reverb", "room_size": 2}], r"reverb.room_size=2.0: choose a number from 0 to 1"),
        ([{"name": "gain", "gain_db": "loud"}], r"gain.gain_db='loud': choose a number from -60 to 60 dB"),
    ],
)
def test_unknown_effects_are_rejected(effects, message):
    with pytest.raises(ConfigurationError, match=message):
        ConversionOptions.from_values({"effects": effects})


def test_spellings_of_a_chain():
    table = {"name": "reverb", "room_size": 0.8}
    chain = ConversionOptions(effects=["gain", table]).effects
    assert chain == ConversionOptions(effects=[Gain(), Reverb(room_size=0.8)]).effects
    assert hash(ConversionOptions(effects=["gain", table])) == hash(ConversionOptions(effects=chain))


def test_unknown_options_are_rejected():
    with pytest.raises(ConfigurationError, match=r"no option named 'speakr'; choose one of: .*speaker"):
        ConversionOptions.from_values({"speakr": 1})


@pytest.mark.parametrize("owner", OWNERS, ids=lambda owner: owner.__name__)
def test_every_option_is_described_and_accepts_its_bounds(owner):
    for one in option_fields(owner):
        assert len(one.help) > 5 and one.help[0].islower() and not one.help.endswith("."), one.name
        assert (float in one.kinds) <= (None not in (one.min, one.max)), one.name
        one.check(one.default)
        for bound in (one.min, one.max):
            if bound is not None:
                one.check(int(bound) if float not in one.kinds else bound)
        if one.max is not None:
            with pytest.raises(ConfigurationError, match=re.escape(one.name)):
                one.check(one.max + 1)
    assert [one.name for one in option_fields(owner)] == [one.name for one in fields(owner)]


def configured(*overrides):
    resolvers.register()
    register()
    with initialize_config_module("rvc_lightning.conf", version_base="1.3"):
        return compose("convert", overrides=[*overrides])


def test_command_has_all_options_and_their_defaults():
    assert options_from(configured()) == ConversionOptions()
    own = files("rvc_lightning.conf").joinpath("convert.yaml").read_text()
    assert not [name for name in default_values() if re.search(rf"^{name}:", own, re.MULTILINE)]


def test_options_on_the_command_line():
    config = configured(
        "effects=[compressor,{name:reverb,room_size:0.8}]", "speaker=anna", "output_format=mp3", "autotune=0.5"
    )
    expected = ConversionOptions(
        effects=["compressor", Reverb(room_size=0.8)], speaker="anna", output_format="mp3", autotune=0.5
    )
    assert options_from(config) == expected
    with pytest.raises(ConfigurationError, match="index_rate='much': choose a number from 0 to 1"):
        options_from(configured("index_rate=much"))


def test_help_and_documentation_contain_all_options():
    for one in option_fields(ConversionOptions):
        assert f"  {one.name}={one.default_text} (" in help_text()
    for effect in EFFECTS.values():
        for one in option_fields(effect):
            assert f"{one.name}={one.default_text} (" in help_text()
    assert any(markdown_table() in path.read_text() for path in (ROOT / "README.md", *ROOT.glob("conf/README.md")))
