"""From what is typed to the settings of a command: Hydra's way, but a mistake is one line that says what to do."""

from __future__ import annotations

import functools
import os
import sys
from argparse import ArgumentError, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.resources import files
from io import TextIOWrapper
from typing import Any, NoReturn, TypeVar

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    UnsupportedInterpolationType,
)

from rvc_lightning.cli.commands import handed_over, reported
from rvc_lightning.cli.sweeps import told_at_the_end
from rvc_lightning.config.validation import is_name
from rvc_lightning.errors import ConfigurationError, RVCError, unknown_choice

R = TypeVar("R")

_REFUSALS = (HydraException, OmegaConfBaseException, ValueError, TypeError, AssertionError, OSError)
"""What Hydra was seen to raise for what is typed, before the command itself begins."""

_UNRESOLVED = (InterpolationResolutionError, UnsupportedInterpolationType, MissingMandatoryValue)
_BY_A_RESOLVER = "raised while resolving interpolation: "
_FULL_ERROR = "HYDRA_FULL_ERROR"


def configured(config_name: str) -> Callable[[Callable[[DictConfig], R]], Callable[[], None]]:
    """Makes a function a command, whose settings are those of `conf/CONFIG_NAME.yaml` and what is typed.

    As `hydra.main`, whose complaints take many lines, or are a traceback through itself: here each is one line on the
    error stream and exit status 1. With HYDRA_FULL_ERROR=1 in the environment they are Hydra's own.
    """

    def decorate(function: Callable[[DictConfig], R]) -> Callable[[], None]:
        within = False

        @functools.wraps(function)
        @reported
        def job(config: DictConfig) -> R:
            nonlocal within
            within = True
            with _resolving():
                result = function(config)
            within = False
            return result

        main = hydra.main(version_base="1.3", config_path="pkg://rvc_lightning.conf", config_name=config_name)(job)

        @functools.wraps(function)
        @reported
        @told_at_the_end()
        def guarded() -> None:
            nonlocal within
            within = False
            _escape_what_cannot_be_shown()
            if os.environ.get(_FULL_ERROR) == "1":
                main()
                return
            try:
                _check_arguments()
                with _raised_by_hydra():
                    main()
            except BrokenPipeError:
                raise
            except _REFUSALS as error:
                # What the command itself raises is a defect, and keeps its traceback; a sweep lets none of it out.
                if within and not handed_over.get():
                    raise
                _end(_explained(error))
            except RVCError as error:
                _end(error)

        return guarded

    return decorate


def _escape_what_cannot_be_shown() -> None:
    """Lets names of files in bytes that are no text, or in a script that the terminal lacks, be written escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _end(error: RVCError) -> NoReturn:
    """Says what is wrong where the command has no log of its own yet."""
    sys.stderr.write(f"Error: {error}\n")
    raise SystemExit(1)


@contextmanager
def _raised_by_hydra() -> Iterator[None]:
    """Lets Hydra raise its errors instead of printing them."""
    before = os.environ.get(_FULL_ERROR)
    os.environ[_FULL_ERROR] = "1"
    try:
        yield
    finally:
        os.environ.pop(_FULL_ERROR) if before is None else os.environ.update({_FULL_ERROR: before})


@contextmanager
def _resolving() -> Iterator[None]:
    """Raises ConfigurationError where a setting refers to what does not exist, which shows when it is read."""
    try:
        yield
    except _UNRESOLVED as error:
        raise _explained(error) from error


def read_arguments(arguments: Sequence[str] | None = None) -> tuple[Namespace, list[str]]:
    """What Hydra makes of a command line, by default that of this process, and the options that it does not know.

    Raises:
        ArgumentError: An option lacks its value, or has one that it does not take.
    """
    parser = get_args_parser()
    parser.exit_on_error = False
    return parser.parse_known_args(arguments)


def _check_arguments() -> None:
    """Refuses what Hydra would answer with its usage or a traceback. Raises ConfigurationError."""
    try:
        asked, unknown = read_arguments()
    except ArgumentError as error:
        raise ConfigurationError(f"{error}; --hydra-help lists the options") from error
    if unknown:
        raise ConfigurationError(
            f"{' '.join(unknown)}: there is no such option. Settings are NAME=VALUE, options such as --multirun stand "
            "before or after all of them; --hydra-help lists the options, --help the settings"
        )
    for text in asked.overrides:
        override = _parsed(text)
        if not override.is_delete() and not override.is_sweep_override():
            _check_choice(override)
            _check_name(override)


def _parsed(text: str) -> Override:
    """What is typed, as Hydra understands it. Raises ConfigurationError if it does not."""
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise ConfigurationError(
            f"{text}: this is not understood ({_line(error)}). Settings are NAME=VALUE; a value with commas, brackets, "
            "'=' or quotes takes quotes of both kinds: 'NAME=\"VALUE\"'"
        ) from error


def _check_choice(override: Override) -> None:
    """Refuses null, numbers and the like where a file of a group is to be chosen. Raises ConfigurationError."""
    group, choice = override.key_or_group, override.value()
    if not group.isidentifier() or isinstance(choice, str | list):
        return
    if (folder := files("rvc_lightning.conf") / group).is_dir():
        given = "null" if choice is None else str(choice).lower() if isinstance(choice, bool) else choice
        raise unknown_choice(group, given, _choices(file.name for file in folder.iterdir()))


def _choices(names: Iterator[str]) -> list[str]:
    return [name.removesuffix(".yaml") for name in names if name.endswith(".yaml")]


def _check_name(override: Override) -> None:
    """Refuses names that would lead out of the folders that are called by them. Raises ConfigurationError."""
    name = override.value()
    if (
        override.key_or_group == "name"
        and name is not None
        and (isinstance(name, list | dict) or not is_name(f"{name}"))
    ):
        raise ConfigurationError(
            f"name={name}: files and folders are called by it, so it cannot be empty, a path or a list; "
            "paths.root=FOLDER puts them elsewhere"
        )


def _explained(error: Exception) -> RVCError:
    """What Hydra or OmegaConf complains of, in a line."""
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return unknown_choice(group, choice, error.options)
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.full_key:
        return _unknown_setting(cause)
    told = _line(error)
    if _BY_A_RESOLVER in told:
        # An error of ours, whose class OmegaConf has put before it.
        return ConfigurationError(told.partition(_BY_A_RESOLVER)[2])
    key = f"{error.full_key}: " if isinstance(error, OmegaConfBaseException) and error.full_key else ""
    because = f": {_line(cause)}" if isinstance(cause, OmegaConfBaseException) else ""
    return ConfigurationError(f"{key}{told}{because}")


def _unknown_setting(error: OmegaConfBaseException) -> ConfigurationError:
    """With the settings beside it that are written much like it."""
    *groups, name = str(error.full_key).split(".")
    names = [str(other) for other in error.parent_node or ()]
    near = get_close_matches(name, names, cutoff=0.7) or [other for other in names if other.startswith(f"{name}_")]
    meant = f"; do you mean {' or '.join('.'.join([*groups, other]) for other in near)}?" if near else ";"
    return ConfigurationError(f"there is no setting '{error.full_key}'{meant} --cfg job shows all there are")


def _line(error: Any) -> str:
    """A message without the lines that follow what is wrong: where Hydra has looked, and its addresses."""
    kept: list[str] = []
    for line in filter(None, map(str.strip, str(error).splitlines())):
        if line.startswith(("Config search path", "See https", "full_key:", "object_type=")):
            break
        kept.append(line)
    return " ".join(kept) or f"Hydra does not take these settings ({type(error).__name__})"
