"""The page of --help contains the comments of the configuration files, and the overview lists every command."""

import subprocess
import sys
from functools import cache

import pytest
import yaml
from commanding import run_command, single_error
from configurations import COMMANDS, CONF

from rvc_lightning.__main__ import COMMANDS as LISTED
from rvc_lightning.cli import help_page
from rvc_lightning.cli.help_page import Comment, read_comments, summary
from rvc_lightning.version import __version__

MODULES = {name.replace(".", "_"): name for name in LISTED if name != "voice"}
ON_OTHER_PAGES = {"defaults", "hydra", "trainer", "callbacks", "model"}
NOT_TYPED = {("benchmark", "name"), ("benchmark", "author")}


@cache
def page_of(name):
    return run_command(MODULES[name], "--help").output


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_page_contains_usage_and_every_setting(name):
    page = page_of(name)
    assert page.startswith(f"{summary(name)}\n\n  ") and len(summary(name)) <= 100
    assert page.count(f"python -m rvc_lightning.{MODULES[name]} ") and page.count("python -m") >= 2
    for key, value in yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8")).items():
        inner = isinstance(value, dict) and all(f"\n  {key}.{part}=" in page for part in value)
        known = key in ON_OTHER_PAGES or (name, key) in NOT_TYPED
        assert inner or f"\n  {key}=" in page or known or f"\n  {key}: " in page, key
    assert not [word for word in ("powered by Hydra", "???", "None", "\n\n\n", "plugins") if word in page]


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_every_group_on_the_page_is_described(name):
    page = page_of(name)
    _, _, rest = page.partition("Groups, with")
    lines = rest.partition("Settings of the current")[0].splitlines()
    groups = [number for number, line in enumerate(lines) if line[:2] == "  " != line[2:4] and "=" in line]
    assert all(any(line.startswith("      ") for line in lines[number + 1 : number + 3]) for number in groups)
    # Settings and groups of other commands.
    foreign = {"prepare": "discriminator=", "convert": "max_epochs", "download": "Groups", "importers": "generator="}
    assert foreign.get(name, "no such text") not in page


@pytest.mark.slow
def test_page_shows_overridden_values():
    page = run_command("train", "+experiment=quickstart", "data.batch_size=3", "--help").output
    assert "\n  data.batch_size=3\n      Slices per batch" in page
    assert "\n  model=direct (direct, full, small, tiny)\n" in page and "\n  trainer.max_time=00:00:07:00\n" in page
    assert "\n  model.crop_frames=80\n      Frames of the random crop" in page
    assert "\n  audio=… (required)\n" in page_of("prepare")


@pytest.mark.slow
def test_examples_keep_their_quotes():
    assert "prepare 'audio=${demo:target}' " in page_of("prepare")


def test_comments_of_a_file(tmp_path, monkeypatch):
    lines = """# @package place
# Summary.
#   an example
defaults:
  - other
  - _self_
  - kind: ${oc.env:X,one}   # which kind
  - override hydra/job_logging: stdout

# A comment of the file, not of a setting.

plain: 1
# In two
# lines.
first: [1, 2]
table:
  # Comment of the table.
  _target_: some.thing
  inner: null  # behind
outer: ???   # required

hydra:
  # Not on the page.
  job: 1
"""
    (tmp_path / "x.yaml").write_text(lines)
    monkeypatch.setattr(help_page, "_CONF", tmp_path)
    read = read_comments("x")
    assert (read.header, read.package) == ("Summary.\n  an example", "place")
    assert (read.included, read.groups) == (["other"], {"kind": "which kind"})
    assert read.settings == {
        "first": Comment("In two lines.", False),
        "table": Comment("Comment of the table.", True),
        "table.inner": Comment("behind", False),
        "outer": Comment("required", False),
    }


def test_commands_are_listed_with_their_summaries():
    listed = run_command("__main__")
    assert (listed.status, listed.errors) == (0, "")
    assert "\n  train                         Train a voice" in listed.output
    assert "--help" in listed.output and run_command("__main__", "--help").output == listed.output
    assert set(MODULES) == set(COMMANDS)


def test_unknown_command_is_an_error():
    assert "unknown command 'trian'; choose one of: app, benchmark" in single_error(
        run_command("__main__", "trian", "audio=x")
    )


@pytest.mark.slow
def test_command_runs_by_name():
    done = subprocess.run([sys.executable, "-m", "rvc_lightning", "export"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("Error: checkpoint")


def test_version_is_printed():
    assert run_command("__main__", "--version").output == f"rvc-lightning {__version__}\n"
