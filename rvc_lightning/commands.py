"""What the commands share: one clear line instead of a traceback, and an exit status that tells the truth."""

from __future__ import annotations

import functools
import logging
import warnings
from argparse import ArgumentParser
from collections.abc import Callable
from importlib import import_module
from importlib.resources import files
from typing import ParamSpec, TypeVar

from omegaconf import DictConfig, OmegaConf

from rvc_lightning.errors import ConfigurationError, RVCError, unknown_choice

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)

_NOISE = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"The number of training batches .* is smaller than the logging interval",
    r"The '\w+_dataloader' does not have many workers",
    # The schedule of a discriminator that joins later, see model.adversarial_from_step.
    r"Detected call of `lr_scheduler\.step\(\)` before",
    r"You defined a `validation_step` but have no `val_dataloader`",
    # Ranks that find everything prepared.
    r"Total length of `DataLoader` across ranks is zero",
    # That of a run that goes on.
    r"Checkpoint directory .* exists and is not empty",
)
"""Warnings of libraries about themselves, or about what is so on purpose."""


def command(function: Callable[P, R]) -> Callable[P, R]:
    """`reported`, for what trains or converts: what libraries say of themselves is left out as well."""

    @functools.wraps(function)
    def quiet(*args: P.args, **kwargs: P.kwargs) -> R:
        quieten()
        return function(*args, **kwargs)

    return reported(quiet)


def reported(function: Callable[P, R]) -> Callable[P, R]:
    """Makes a user's mistake in `function` one line on the error stream and exit status 1.

    Ctrl-C ends in a line as well, with exit status 130. Everything else that is no RVCError is a defect of ours and
    keeps its traceback.
    """

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except RVCError as error:
            log.error("Error: %s", error)
            raise SystemExit(1) from None
        except KeyboardInterrupt:
            log.error("Interrupted. What is finished is kept: the same command goes on from there.")
            raise SystemExit(130) from None

    return guarded


def readable_choices(main: Callable[P, R]) -> Callable[P, R]:
    """Answers the choice of a group by a bare number, such as precision=9, with the choices there are.

    Hydra does so for all other names, but takes a number for a value and ends with a traceback through itself: so this
    stands before `hydra.main`.
    """

    @functools.wraps(main)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        _, arguments = ArgumentParser(add_help=False).parse_known_args()
        for argument in arguments:
            group, _, choice = argument.partition("=")
            if choice.isdecimal() and (folder := files("rvc_lightning.conf") / group).is_dir() and group:
                names = [name for file in folder.iterdir() if (name := file.name.removesuffix(".yaml")) != file.name]
                log.error("Error: %s", unknown_choice(group, choice, names))
                raise SystemExit(1)
        return main(*args, **kwargs)

    return guarded


def quieten() -> None:
    """Leaves out what libraries say of themselves, so that what a run says is read."""
    for message in _NOISE:
        warnings.filterwarnings("ignore", message=message)
    for name in ("lightning.pytorch", "lightning.fabric"):
        # Imported first, since Lightning sets its level when it is.
        import_module(name)
        logging.getLogger(name).setLevel(logging.WARNING)


def required(config: DictConfig, key: str, meaning: str) -> str:
    """The value of a setting that has no default.

    Args:
        config: Of the command.
        key: The setting.
        meaning: What it should be, for the message.

    Raises:
        ConfigurationError: It is not given.
    """
    if OmegaConf.is_missing(config, key) or config[key] is None:
        raise ConfigurationError(f"{key}=... is missing: {meaning}")
    return str(config[key])
