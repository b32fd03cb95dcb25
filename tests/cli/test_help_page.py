"""The page of --help says what the configuration files say, and the list of commands has them all."""

import subprocess
import sys
from functools import cache

import pytest
import yaml
from commanding import command, one_error
from configurations import COMMANDS, CONF

from rvc_lightning.__main__ import COMMANDS as LISTED
from rvc_lightning.cli import help_page
from rvc_lightning.cli.help_page import Comment, read_comments, summary

MODULES = {name.replace(".", "_"): name for name in LISTED if name != "voice"}
OF_OTHER_PAGES = {"defaults", "hydra", "trainer", "callbacks", "model"}
NOT_TYPED = {("benchmark", "name"), ("benchmark", "author")}


@cache
def page_of(name):
    return command(MODULES[name], "--help").output


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_page_with_usage_and_a_meaning_for_each_setting(name):
    told = page_of(name)
    assert told.startswith(f"{summary(name)}\n\n  ") and len(summary(name)) <= 100
    assert told.count(f"python -m rvc_lightning.{MODULES[name]} ") and told.count("python -m") >= 2
    for key, value in yaml.safe_load((CONF / f"{name}.yaml").read_text()).items():
        inner = isinstance(value, dict) and all(f"\n  {key}.{part}=" in told for part in value)
        known = key in OF_OTHER_PAGES or (name, key) in NOT_TYPED
        assert inner or f"\n  {key}=" in told or known or f"\n  {key}: " in told, key
    assert not [word for word in ("powered by Hydra", "???", "None", "\n\n\n", "plugins") if word in told]


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_each_group_on_a_page_has_a_meaning(name):
    told = page_of(name)
    _, _, rest = told.partition("Groups, with")
    lines = rest.partition("Settings of the current")[0].splitlines()
    groups = [number for number, line in enumerate(lines) if line[:2] == "  " != line[2:4] and "=" in line]
    assert all(any(line.startswith("      ") for line in lines[number + 1 : number + 3]) for number in groups)
    # Recordings do not care what judges a training.
    foreign = {"prepare": "discriminator=", "convert": "max_epochs", "download": "Groups", "importers": "generator="}
    assert foreign.get(name, "nothing of the kind") not in told


@pytest.mark.slow
def test_values_are_those_of_what_is_typed_with_it():
    told = command("train", "+experiment=quickstart", "data.batch_size=3", "--help").output
    assert "\n  data.batch_size=3\n      Slices per batch" in told
    assert "\n  model=small (full, small, tiny)\n" in told and "\n  trainer.max_time=00:00:07:00\n" in told
    assert "\n  model.crop_frames=64\n      Frames of the random crop" in told
    assert "\n  audio=… (required)\n" in page_of("prepare")


@pytest.mark.slow
def test_what_is_typed_in_quotes_is_shown_in_quotes():
    assert "prepare 'audio=${demo:target}' " in page_of("prepare")


def test_what_is_read_of_a_file(tmp_path, monkeypatch):
    lines = """# @package place
# What it is.
#   an example
defaults:
  - other
  - _self_
  - kind: ${oc.env:X,one}   # which kind
  - override hydra/job_logging: stdout

# Of the file, not of the setting.

plain: 1
# In two
# lines.
first: [1, 2]
table:
  # Of the object.
  _target_: some.thing
  inner: null  # behind
outer: ???   # required

hydra:
  # Of nobody's concern.
  job: 1
"""
    (tmp_path / "x.yaml").write_text(lines)
    monkeypatch.setattr(help_page, "_CONF", tmp_path)
    read = read_comments("x")
    assert (read.header, read.package) == ("What it is.\n  an example", "place")
    assert (read.included, read.groups) == (["other"], {"kind": "which kind"})
    assert read.settings == {
        "first": Comment("In two lines.", False),
        "table": Comment("Of the object.", True),
        "table.inner": Comment("behind", False),
        "outer": Comment("required", False),
    }


def test_commands_are_listed_with_what_they_are_for():
    told = command("__main__")
    assert (told.status, told.errors) == (0, "") and "\n  train                         Train a voice" in told.output
    assert "--help" in told.output and command("__main__", "--help").output == told.output
    assert set(MODULES) == set(COMMANDS)


def test_another_word_is_one_error():
    assert "no command named 'trian'; choose one of: app, benchmark" in one_error(
        command("__main__", "trian", "audio=x")
    )


@pytest.mark.slow
def test_a_command_runs_by_its_name():
    done = subprocess.run([sys.executable, "-m", "rvc_lightning", "export"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("Error: checkpoint")


@pytest.mark.slow
def test_help_waits_for_nothing_heavy():
    script = (
        "import sys, rvc_lightning.__main__; sys.argv = ['train', '--help']\nfrom rvc_lightning.train import main\n"
        "main()\nsys.exit(' '.join({'torch', 'librosa', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
