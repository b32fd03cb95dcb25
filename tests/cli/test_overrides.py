"""Text settings are taken as typed, and printed commands can be pasted into a shell."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from systems import POSIX_SHELL

import rvc_lightning
from rvc_lightning.cli.overrides import TEXT_SETTINGS, flags_last, format_command, format_override, quote_text_settings
from rvc_lightning.config.options import Settings, option_fields

NAMES = (
    "anna", "José", "声", "Anna B", "anna (1)", "a=b", "a,b", "it's", 'say "hi"', "R&B", "take #2", "2024_01_15", "1_2",
    "1e3", "1.50", "007", "null2", "true", "[x]", "{x}", "back\\slash", "end\\", "-3", ".5", "a;b", "$HOME", "*",
)  # fmt: skip

NOT_TEXT = {
    "precision": "a field of the manifest, not a setting",
    "silence": "a field of the manifest, not a setting",
    "model.synthesizer.generator": "a name of the group generator",
    "callbacks.overtraining.monitor": "a name such as val/mel",
    "path": "typed as separator.PART.path",
    "stem": "typed as separator.PART.stem",
    "tts.speaker": "a number or a name, which differ",
}
"""Fields for text that need no quotes, or are typed under another name."""


def settings_of_the_package():
    package = Path(rvc_lightning.__file__).parent
    for path in package.rglob("*.py"):
        if re.search(r"^class \w+\(Settings\b|^class \w+\(\w+Settings\b", path.read_text("utf-8"), re.MULTILINE):
            name = ".".join(path.relative_to(package.parent).with_suffix("").parts)
            module = pytest.importorskip(name) if ".app." in name else importlib.import_module(name)
            yield from (
                value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Settings)
            )


def test_every_text_of_the_commands_is_a_text_setting():
    names = {
        f"{owner.group}.{field.name}" if owner.group else field.name
        for owner in settings_of_the_package()
        for field in option_fields(owner)
        if str in field.kinds and not field.choices
    }
    assert len(names) > 40
    assert {name for name in names if not TEXT_SETTINGS.fullmatch(name)} == NOT_TEXT.keys()


def value_of(override):
    return OverridesParser.create().parse_override(override).value()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "key", ["output", "speaker", "audio", "voice", "monitor", "preset", "jobs", "token", "paths.root"]
)
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


@pytest.mark.parametrize(
    ("started", "expected"),
    [
        ("/usr/bin/python3 /home/anna/bin/rvc-lightning train", "rvc-lightning export"),
        ("python.exe rvc-lightning.exe app", "rvc-lightning export"),
        ("/usr/bin/python3 -m rvc_lightning.train name=rvc-lightning", "python -m rvc_lightning.export"),
        ("/usr/bin/python3 -m rvc_lightning train", "python -m rvc_lightning.export"),
    ],
)
def test_printed_commands_start_as_this_process(monkeypatch, started, expected):
    monkeypatch.setattr("sys.orig_argv", started.split())
    assert format_command("export") == expected


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
