"""Going on with a run: what it was started with holds, but for what is typed anew."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from rvc_lightning.cli.command_line import read_arguments
from rvc_lightning.cli.resolvers import run_folder

_OVERRIDES = ".hydra/overrides.yaml"
"""Where Hydra keeps, in the folder of a run, what was typed to start it."""


def with_settings_of_run(arguments: Sequence[str]) -> list[str]:
    """The command line of a training that goes on in a run folder, with the settings that the run was started with.

    Args:
        arguments: As typed, such as ["checkpoint=runs/anna/monday", "trainer.max_epochs=600"].

    Returns:
        The same after the run's own settings, of which those that are typed are left out; the arguments as they are
        where no run folder is named, for a sweep, or for what Hydra does not understand, which it says itself.
    """
    try:
        asked, _ = read_arguments(arguments)
        typed = _parsed(asked.overrides)
        kept = [] if asked.multirun else _settings_of(typed)
    except (HydraException, ArgumentError):
        return list(arguments)
    first = list(arguments).index(asked.overrides[0]) if asked.overrides else 0
    return [*arguments[:first], *kept, *arguments[first:]]


def _parsed(overrides: Sequence[str]) -> dict[str, Override]:
    """What is typed, by the setting or the group that it is about."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {override.key_or_group: override for override in parsed}


def _settings_of(typed: dict[str, Override]) -> list[str]:
    """What the run that `checkpoint=` names was started with, but for what is typed."""
    given = typed["checkpoint"].value() if "checkpoint" in typed else None
    folder = run_folder(given, "") if isinstance(given, str | int | float) else ""
    if not folder or not (Path(folder) / _OVERRIDES).is_file():
        return []
    saved = [str(one) for one in OmegaConf.load(Path(folder) / _OVERRIDES)]
    return [text for text, key in zip(saved, _parsed(saved), strict=True) if key not in typed]
