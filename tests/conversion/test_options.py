"""Conversion options: validation, help, and the settings of the commands."""

import re
from dataclasses import fields, replace

import pytest
from configurations import CONF, compose_config

from rvc_lightning import ConversionOptions
from rvc_lightning.config.values import plain
from rvc_lightning.conversion.effects import EFFECTS, Gain, Reverb
from rvc_lightning.conversion.lengths import PRESETS, BlockSettings, ChunkLengths, StreamLengths
from rvc_lightning.conversion.options import help_text, option_fields
from rvc_lightning.errors import ConfigurationError

LENGTHS = [ChunkLengths, StreamLengths]
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
        ("speaker", -1),
        ("speaker", 0.5),
        ("speaker", [1]),
        ("seed", -1),
        ("seed", True),
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
    ],
)
def test_contradictions_are_rejected(given, message):
    with pytest.raises(ConfigurationError, match=message):
        ConversionOptions(**given)


@pytest.mark.parametrize(
    ("effects", "message"),
    [
        (["revreb"], "unknown effect 'revreb'; choose one of: .*reverb"),
        ([{"room_size": 1}], "unknown effect '{'room_size': 1}'; choose one of: .*reverb"),
        ([3], "unknown effect '3'"),
        (
            [{"name": "reverb", "size": 1}],
            "unknown setting of reverb 'size'; choose one of: .*room_size",
        ),
        ([{"name": "reverb", "room_size": 2}], r"reverb.room_size=2: choose a number from 0 to 1"),
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
    with pytest.raises(ConfigurationError, match=r"unknown option 'speakr'; choose one of: .*speaker"):
        ConversionOptions.from_values({"speakr": 1})


@pytest.mark.parametrize("owner", OWNERS, ids=lambda owner: owner.__name__)
def test_every_option_is_described_and_accepts_its_bounds(owner):
    for option in option_fields(owner):
        assert len(option.help) > 5 and option.help[0].islower() and not option.help.endswith("."), option.name
        assert (float in option.kinds) <= (None not in (option.min, option.max)), option.name
        option.check(option.default)
        for bound in (option.min, option.max):
            if bound is not None:
                option.check(int(bound) if float not in option.kinds else bound)
        if option.max is not None:
            with pytest.raises(ConfigurationError, match=re.escape(option.name)):
                option.check(option.max + 1)
    assert [option.name for option in option_fields(owner)] == [option.name for option in fields(owner)]


def names(*owners):
    return [option.name for owner in owners for option in option_fields(owner)]


def configured(*overrides, command="convert"):
    return compose_config(*overrides, command=command)


def test_typed_lengths_take_precedence_over_the_preset():
    config = configured("preset=balanced", "stream.block_seconds=0.5", command="live")
    lengths = BlockSettings.from_config(plain(config)).lengths()
    assert lengths == replace(PRESETS["balanced"], block_seconds=0.5)


def test_command_has_all_options_and_their_defaults():
    assert ConversionOptions.from_config(configured()) == ConversionOptions()
    assert ChunkLengths.from_values(configured().chunks) == ChunkLengths()
    assert BlockSettings.from_config(plain(configured(command="stream"))).lengths() == StreamLengths()
    found = names(*LENGTHS, ConversionOptions)
    for command in ("convert", "stream", "evaluate"):
        own = (CONF / f"{command}.yaml").read_text(encoding="utf-8")
        assert not [name for name in found if re.search(rf"^ *{name}: [^n]", own, re.MULTILINE)]


def test_options_on_the_command_line():
    config = configured(
        "effects=[compressor,{name:reverb,room_size:0.8}]", "speaker=anna", "output_format=mp3", "autotune=0.5"
    )
    expected = ConversionOptions(
        effects=["compressor", Reverb(room_size=0.8)], speaker="anna", output_format="mp3", autotune=0.5
    )
    assert ConversionOptions.from_config(config) == expected
    with pytest.raises(ConfigurationError, match="index_rate='much': choose a number from 0 to 1"):
        ConversionOptions.from_config(configured("index_rate=much"))


def test_help_and_documentation_contain_all_options():
    text, readme = help_text("conversion_options"), (CONF / "README.md").read_text(encoding="utf-8")
    for option in option_fields(ConversionOptions):
        assert f"  {signature(option)}\n      " in text
        assert f"| `{option.name}={option.default_text}` | {allowed(option)} | {escaped(option.help)} |\n" in readme
    for effect in EFFECTS.values():
        for option in option_fields(effect):
            assert f"\n      {signature(option)}: {option.help}" in text
        parameters = ", ".join(
            f"`{option.name}={option.default_text}` ({allowed(option)})" for option in option_fields(effect)
        )
        assert f"| `{effect.name}` | {parameters} | {effect.description} |\n" in readme


@pytest.mark.parametrize(("name", "owner"), [("chunk_lengths", ChunkLengths), ("stream_lengths", StreamLengths)])
def test_help_contains_all_lengths(name, owner):
    assert all(f"  {owner.group}.{signature(option)}\n      " in help_text(name) for option in option_fields(owner))


def allowed(option):
    return escaped(option.allowed.removeprefix("a number from "))


def escaped(text):
    return text.replace("|", "\\|")


def signature(option):
    return f"{option.name}={option.default_text} ({option.allowed.removeprefix('a number from ')})"
