"""The commands, a line each: `python -m rvc_lightning`."""

from __future__ import annotations

import argparse
import sys

from rvc_lightning.cli.columns import format_columns
from rvc_lightning.cli.help_page import summary
from rvc_lightning.errors import ConfigurationError

COMMANDS = (
    "train",
    "prepare",
    "export",
    "convert",
    "stream",
    "app",
    "evaluate",
    "download",
    "importers",
    "voice",
    "benchmark",
    "phonetic.speak",
    "phonetic.train",
    "phonetic.crowd",
)
"""Modules that are commands, those needed first in front."""

_HEAD = "Voice conversion that you train yourself: python -m rvc_lightning.COMMAND, where COMMAND is one of"
_ENDING = """Each explains itself and its settings: python -m rvc_lightning.train --help
A first voice, in minutes and offline:     python -m rvc_lightning.train +experiment=quickstart"""
_VOICE = "Tells of voices, blends them, writes them for other tools or as ONNX."
"""Of the one command without a configuration file."""


def main() -> None:
    """Lists the commands; what is asked of the list itself is answered with how a command is run."""
    _, words = argparse.ArgumentParser(add_help=False).parse_known_args()
    if words and words[0] not in ("--help", "-h", "help"):
        sys.stderr.write(f"Error: {_refusal(words[0])}\n")
        raise SystemExit(1)
    sys.stdout.write(overview())


def overview() -> str:
    """Every command and what it is for, and how to get help."""
    lines = format_columns([(f"  {name}", _summary(name)) for name in COMMANDS], numbers=False)
    return "\n".join([_HEAD, "", *lines, "", _ENDING, ""])


def _summary(name: str) -> str:
    return _VOICE if name == "voice" else summary(name.replace(".", "_"))


def _refusal(word: str) -> ConfigurationError:
    """Why a word is no use here, and the remedy."""
    if word in COMMANDS:
        return ConfigurationError(f"{word}: a command is run by its whole name: python -m rvc_lightning.{word}")
    choices = ", ".join(COMMANDS)
    return ConfigurationError(
        f"there is no command '{word}'; choose one of: {choices}; each explains itself with --help"
    )


if __name__ == "__main__":
    main()
