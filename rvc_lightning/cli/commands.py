"""What the commands share: one clear line instead of a traceback, and an exit status that tells the truth."""

from __future__ import annotations

import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from importlib import import_module
from typing import ParamSpec, TypeVar

from omegaconf import DictConfig, OmegaConf

from rvc_lightning.errors import ConfigurationError, RVCError
from rvc_lightning.io.disk import write_error

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
    # The processes that the data settings name are few, and mostly wait for the disk.
    r"This DataLoader will create \d+ worker processes",
    # torchmetrics gathers these from all ranks by themselves.
    r"It is recommended to use `self\.log\('val/",
    # Nothing here changes the output of a sharded network in place, which is what that warns of.
    r"FSDP2-wrapped module .* returned a view tensor",
)
"""Warnings of libraries about themselves, or about what is so on purpose."""

handed_over: ContextVar[bool] = ContextVar("handed_over", default=False)
"""Whether errors are told elsewhere: a sweep says which job's they are, and goes on.

Functions within functions cannot use it: those of a command are sent to the processes of a sweep whole.
"""


def command(function: Callable[P, R]) -> Callable[P, R]:
    """`reported`, for what trains or converts: what libraries say of themselves is left out as well."""

    @functools.wraps(function)
    def quiet(*args: P.args, **kwargs: P.kwargs) -> R:
        quieten()
        return function(*args, **kwargs)

    return reported(quiet)


def reported(function: Callable[P, R]) -> Callable[P, R]:
    """Makes a user's mistake in `function` one line on the error stream and exit status 1.

    So is a disk that is full or does not let itself be written to. Ctrl-C ends in a line as well, with exit status 130.
    Everything else that is no RVCError is a defect of ours and keeps its traceback. In the jobs of a sweep the mistake
    is raised as the RVCError that it is.
    """

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except RVCError as error:
            raise _ended_by(error) from None
        except BrokenPipeError:
            # `… --help | head`: nobody reads any more. What is left in the buffer would fail at the end once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        except OSError as error:
            if (reason := write_error(error)) is None:
                raise
            raise _ended_by(reason) from None
        except KeyboardInterrupt:
            raise _interrupted() from None
        except SystemExit as end:
            # What Lightning makes of Ctrl-C.
            if isinstance(end.__context__, KeyboardInterrupt):
                raise _interrupted() from None
            raise

    return guarded


def _interrupted() -> SystemExit:
    log.error("Interrupted. What is finished is kept: the same command goes on from there.")
    return SystemExit(130)


def _ended_by(error: RVCError) -> BaseException:
    """What to raise for a user's mistake, which is told unless somebody else will."""
    if handed_over.get():
        return error
    log.error("Error: %s", error)
    return SystemExit(1)


def quieten() -> None:
    """Leaves out what libraries say of themselves, so that what a run says is read."""
    for message in _NOISE:
        warnings.filterwarnings("ignore", message=message)
    for name in ("lightning.pytorch", "lightning.fabric"):
        # Imported first, since Lightning sets its level when it is.
        import_module(name)
        logging.getLogger(name).setLevel(logging.WARNING)


def required(config: DictConfig, key: str, meaning: str) -> str:
    """The text of a setting that has no default.

    Args:
        config: Of the command.
        key: The setting, such as paths.dataset.
        meaning: What it should be, for the message.

    Raises:
        ConfigurationError: It is not given, empty, or a list or table.
    """
    value = optional(config, key, meaning)
    if value is None:
        raise ConfigurationError(f"{key}=... is missing: {meaning}")
    return value


def optional(config: DictConfig, key: str, meaning: str) -> str | None:
    """The text of a setting, or None for null. Numbers are text as well: a folder may be called 2024.

    Args:
        config: Of the command.
        key: The setting.
        meaning: What it should be, for the message.

    Raises:
        ConfigurationError: It is empty, or a list or table.
    """
    value = OmegaConf.select(config, key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise ConfigurationError(f"{key}={value}: expected {meaning}")
    return str(value)


def switch(config: DictConfig, key: str) -> bool:
    """A setting that is on or off. Raises ConfigurationError for all but true and false."""
    if not isinstance(value := OmegaConf.select(config, key), bool):
        raise ConfigurationError(f"{key}={value}: choose true or false")
    return value
