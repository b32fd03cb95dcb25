"""Text settings are taken as typed, and printed commands can be pasted into a shell."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from systems import POSIX_SHELL

from rvc_lightning.cli.overrides import flags_last, format_command, format_override, quote_text_settings

NAMES = (
    "anna", "José", "声", "Anna B", "anna (1)", "a=b", "a,b", "it's", 'say "hi"', "R&B", "take #2", "2024_01_15", "1_2",
    "1e3", "1.50", "007", "null2", "true", "[x]", "{x}", "back\\slash", "end\\", "-3", ".5", "a;b", "$HOME", "*",
)  # fmt: skip


def value_of(override):
    return OverridesParser.create().parse_override(override).value()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["output", "speaker", "audio", "name", "voice", "checkpoint", "paths.root"])
def test_text_settings_are_taken_as_typed(key, name):
    (quoted,) = quote_text_settings([f"{key}={name}"])
    assert value_of(quoted) == name
    # The processes of other ranks receive the quoted overrides.
    assert quote_text_settings([quoted]) == [quoted]


@POSIX_SHELL
@pytest.mark.parametrize("name", NAMES)
def test_printed_commands_can_be_pasted(name):
    command = format_command("train", format_override("checkpoint", f"runs/{name}/TIME"), "trainer.max_epochs=3")
    program, override, other = shlex.split(command)[2:]
    assert (program, other) == ("rvc_lightning.train", "trainer.max_epochs=3")
    assert value_of(override) == f"runs/{name}/TIME"


def test_home_folders_are_expanded(monkeypatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, "/home/anna")
    for typed in ("~/x", "'~/x'", '"~/x"'):
        assert value_of(quote_text_settings([f"output={typed}"])[0]) == "/home/anna/x"


@pytest.mark.parametrize(
    "argument",
    [
        "audio=null",
        "audio=",
        "audio=${demo:target}",
        "optimizer.lr=1e-3",
        "seed=007",
        "--multirun",
        "+experiment=voice",
    ],
)
def test_other_arguments_keep_their_grammar(argument):
    assert quote_text_settings([argument]) == [argument]


@pytest.mark.parametrize(
    ("typed", "sorted_"),
    [
        ("a=1 -m b=1,2", "a=1 b=1,2 -m"),
        ("--cfg job a=1 --resolve ~b", "a=1 ~b --cfg job --resolve"),
        ("a=1 --config-dir c=1 +d=2", "a=1 +d=2 --config-dir c=1"),
        ("a=1 --config-dir=c b=2", "a=1 b=2 --config-dir=c"),
        ("a=1 --info", "a=1 --info"),
    ],
)
def test_flags_can_be_anywhere(typed, sorted_):
    assert flags_last(typed.split()) == sorted_.split()


def test_lists_in_a_sweep_stay_lists():
    assert quote_text_settings(["--multirun", "audio=a,b"]) == ["--multirun", "audio=a,b"]


@pytest.mark.parametrize("value", [None, True, 3, 0.5, ["a b", 1, None], {"name": "reverb", "mix": 0.5}])
def test_values_survive_formatting(value):
    assert value_of(format_override("key", value)) == value
