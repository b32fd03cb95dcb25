"""Turn a function of a configuration into a command, with one-line error messages and exit statuses."""

from __future__ import annotations

import functools
import logging
import os
import string
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from io import TextIOWrapper
from typing import Any, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from rvc_lightning.cli.grammar import explain_composition, explain_syntax
from rvc_lightning.cli.messages import silence_libraries
from rvc_lightning.cli.overrides import flags_last, quote_text_settings
from rvc_lightning.cli.sweeps import in_sweep, report_sweep
from rvc_lightning.errors import ConfigurationError, RVCError, unknown_choice
from rvc_lightning.io.disk import write_error
from rvc_lightning.io.processes import raise_on_break

R = TypeVar("R")

log = logging.getLogger(__name__)

COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, ValueError, TypeError, AssertionError, OSError)
"""Exceptions that Hydra was seen to raise for wrong overrides before the job starts."""

_CONF = "rvc_lightning.conf"
_VERSION_BASE = "1.3"
_HELP_FLAGS = frozenset({"--help", "-h"})
_FULL_ERROR = "HYDRA_FULL_ERROR"
_INTERRUPTED = 130
_NO_JOB = "HydraConfig was not set"
_RESOLVER_ERROR = "raised while resolving interpolation: "


def command(
    config_name: str, *, imports_torch: bool = True
) -> Callable[[Callable[[DictConfig], R]], Callable[[], None]]:
    """Turn a function into a command that is configured by `conf/CONFIG_NAME.yaml` and the command line.

    Like `hydra.main`, but a user's mistake is one line on the error stream and exit status 1. With HYDRA_FULL_ERROR=1
    in the environment, Hydra's own errors keep their traceback.

    Args:
        config_name: Name of the configuration file.
        imports_torch: Whether the function imports PyTorch, which takes seconds and is logged.
    """

    def decorate(function: Callable[[DictConfig], R]) -> Callable[[], None]:
        started = False

        @functools.wraps(function)
        def job(config: DictConfig) -> R:
            nonlocal started
            started = True
            silence_libraries()
            if imports_torch and "torch" not in sys.modules:
                log.info("Loading PyTorch")
            with errors_as_exit_status():
                return function(config)

        run = hydra.main(version_base=_VERSION_BASE, config_path=f"pkg://{_CONF}", config_name=config_name)(job)

        @functools.wraps(function)
        def main() -> None:
            nonlocal started
            started = False
            escape_unprintable()
            raise_on_break()
            full_error = os.environ.get(_FULL_ERROR) == "1"
            with errors_as_exit_status(logs=False), report_sweep(), _raised_by_hydra():
                try:
                    _run_or_print_help(config_name, run)
                except COMPOSITION_ERRORS as error:
                    # The job itself raises these only because of defects, which keep their traceback.
                    by_job = started and not in_sweep.get()
                    if full_error or by_job or isinstance(error, BrokenPipeError):
                        raise
                    raise explain_error(error) from None

        return main

    return decorate


def _run_or_print_help(config_name: str, run: Callable[[], None]) -> None:
    """Run a command with the arguments of this process, or print its help page."""
    # Hydra and the processes of other ranks read sys.argv.
    sys.argv[1:] = arguments = quote_text_settings(flags_last(sys.argv[1:]))  # noqa: TID251
    flags = {argument for argument in arguments if argument.startswith("-")}
    if flags and flags <= _HELP_FLAGS:
        _print_help(config_name, [argument for argument in arguments if argument not in flags])
    else:
        run()


def _print_help(config_name: str, overrides: Sequence[str]) -> None:
    """Print the help page of a command.

    Hydra's own `--help` prints the same page in three times the time: it also composes the lists of all groups.
    """
    with hydra.initialize_config_module(_CONF, version_base=_VERSION_BASE):
        config = hydra.compose(config_name, list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        page = string.Template(config.hydra.help.template).substitute()
    sys.stdout.write(f"{page}\n")


@contextmanager
def errors_as_exit_status(*, logs: bool = True) -> Iterator[None]:
    """Turn a user's mistake, a full disk and Ctrl-C into one line on the error stream and an exit status.

    The status is 1, and 130 after Ctrl-C. Other exceptions are defects and keep their traceback. In a job of a sweep an
    RVCError is raised unchanged.

    Args:
        logs: Whether to log the line if logging is set up. Before the job, only Hydra's own logging is.
    """
    try:
        yield
    except BrokenPipeError:
        # `… --help | head`: the reader has closed the pipe. Flushing the rest at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except (RVCError, OmegaConfBaseException, OSError) as error:
        reason: RVCError | None
        if isinstance(error, OmegaConfBaseException):
            reason = explain_error(error)
        else:
            reason = write_error(error) if isinstance(error, OSError) else error
        if reason is None:
            raise
        if in_sweep.get():
            raise reason from None
        _print_error(f"Error: {reason}", logs=logs)
        raise SystemExit(1) from None
    except (KeyboardInterrupt, SystemExit) as end:
        # Lightning raises SystemExit on Ctrl-C. An inner use of this context has printed the line.
        is_ctrl_c = isinstance(end, KeyboardInterrupt) or isinstance(end.__context__, KeyboardInterrupt)
        if not is_ctrl_c or (isinstance(end, SystemExit) and end.code == _INTERRUPTED):
            raise
        _print_error("Interrupted. Finished files are kept.", logs=logs)
        raise SystemExit(_INTERRUPTED) from None


def _print_error(line: str, *, logs: bool) -> None:
    """Log the line, or write it to the error stream."""
    if logs and logging.getLogger().handlers:
        log.error("%s", line)
    else:
        sys.stderr.write(f"{line}\n")


def escape_unprintable() -> None:
    """Escape characters that the terminal cannot encode, such as bytes of file names that are not UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _raised_by_hydra() -> Iterator[None]:
    """Make Hydra raise its errors instead of printing them."""
    before = os.environ.get(_FULL_ERROR)
    os.environ[_FULL_ERROR] = "1"
    try:
        yield
    finally:
        os.environ.pop(_FULL_ERROR) if before is None else os.environ.update({_FULL_ERROR: before})


def explain_error(error: Exception) -> RVCError:
    """Convert an error of Hydra or OmegaConf to one with a single line, and the choices where known."""
    cause = error.__cause__
    if isinstance(error, OSError) and (reason := write_error(error)) is not None:
        return reason
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return unknown_choice(group, choice, error.options)
    if isinstance(error, OverrideParseException):
        return ConfigurationError(explain_syntax(error.override))
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.full_key:
        return _unknown_setting(cause)
    text = _first_lines(error)
    if explained := explain_composition(text):
        return ConfigurationError(explained)
    if _NO_JOB in text:
        return ConfigurationError(
            "${hydra:…} has no value before the jobs of a sweep start, and the folder of the sweep contains name= and "
            "paths.runs=; leave it out of these: each job has its own folder there"
        )
    if _RESOLVER_ERROR in text:
        # An error of ours, which OmegaConf prefixes with its class.
        return ConfigurationError(text.partition(_RESOLVER_ERROR)[2])
    key = f"{error.full_key}: " if isinstance(error, OmegaConfBaseException) and error.full_key else ""
    because = f": {_first_lines(cause)}" if isinstance(cause, OmegaConfBaseException) else ""
    return ConfigurationError(f"{key}{text}{because}")


def _unknown_setting(error: OmegaConfBaseException) -> ConfigurationError:
    """Return the error for an unknown setting, with settings of similar names."""
    *groups, name = str(error.full_key).split(".")
    names = [str(other) for other in error.parent_node or ()]
    near = get_close_matches(name, names, cutoff=0.7) or [other for other in names if other.startswith(f"{name}_")]
    suggestion = f" Did you mean {' or '.join('.'.join([*groups, other]) for other in near)}?" if near else ""
    return ConfigurationError(f"unknown setting '{error.full_key}'.{suggestion} --cfg job lists all settings")


def _first_lines(error: Any) -> str:
    """Return a message without the lines that list search paths, links and internal types."""
    lines: list[str] = []
    for line in filter(None, map(str.strip, str(error).splitlines())):
        if line.startswith(("Config search path", "See https", "full_key:", "object_type=")):
            break
        lines.append(line)
    return " ".join(lines) or f"Hydra rejects these settings ({type(error).__name__})"
