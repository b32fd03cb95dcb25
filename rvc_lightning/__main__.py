"""`python -m rvc_lightning` lists the commands; `rvc-lightning NAME …` runs one."""

from __future__ import annotations

import runpy
import sys

from rvc_lightning.cli.columns import format_columns
from rvc_lightning.cli.command import errors_as_exit_status, escape_unprintable
from rvc_lightning.cli.help_page import summary
from rvc_lightning.errors import unknown_choice
from rvc_lightning.version import __version__

COMMANDS = (
    "train",
    "prepare",
    "export",
    "convert",
    "cover",
    "speak",
    "stream",
    "live",
    "app",
    "evaluate",
    "download",
    "importers",
    "voice",
    "benchmark",
    "pretraining.synthesize",
    "pretraining.train",
    "pretraining.augment_speakers",
    "pretraining.speaker",
)
"""Modules that are commands, in the order of the list."""

_HEAD = "Voice conversion that you train yourself: rvc-lightning COMMAND, or python -m rvc_lightning.COMMAND"
_TAIL = """Help of a command and its settings: rvc-lightning train --help
A first voice in minutes, offline:   rvc-lightning train +experiment=quickstart"""
_VOICE = "List, import, edit and blend voices, and write them for other tools or as ONNX."
"""Summary of the one command without a configuration file."""


def main() -> None:
    """Run the command that the first argument names, or list the commands."""
    escape_unprintable()
    # The command reads the rest from there, and so do the processes of other ranks.
    program, *arguments = sys.argv  # noqa: TID251
    name = arguments[0] if arguments else "--help"
    if name in ("--help", "-h", "help"):
        sys.stdout.write(overview())
        return
    if name == "--version":
        sys.stdout.write(f"rvc-lightning {__version__}\n")
        return
    with errors_as_exit_status():
        if name not in COMMANDS:
            raise unknown_choice("command", name, COMMANDS)
    sys.argv[:] = [program, *arguments[1:]]  # noqa: TID251
    runpy.run_module(f"rvc_lightning.{name}", run_name="__main__", alter_sys=True)


def overview() -> str:
    """Return the list of commands with their summaries."""
    lines = format_columns([(f"  {name}", _summary(name)) for name in COMMANDS], numbers=False)
    return "\n".join([_HEAD, "", *lines, "", _TAIL, ""])


def _summary(name: str) -> str:
    return _VOICE if name == "voice" else summary(name.replace(".", "_"))


if __name__ == "__main__":
    main()
