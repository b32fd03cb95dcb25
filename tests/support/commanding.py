"""Run commands in the process of the tests as from a shell."""

import importlib
import io
import logging
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest import mock

from hydra.core.hydra_config import HydraConfig

PACKAGES = ("app", "importers", "live", "voice")
"""Commands that are packages with a `__main__` module."""


@dataclass
class CommandResult:
    """Result of a command."""

    status: int
    output: str
    errors: str

    @property
    def text(self):
        """Output and error stream."""
        return self.output + self.errors


def text_stream():
    """Return a text stream like that of a terminal."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def text_of(stream):
    return stream.buffer.getvalue().decode()


def run_command(name, *arguments):
    """Run `python -m rvc_lightning.NAME ARGUMENTS`; raise exceptions that the command does not handle."""
    module = importlib.import_module(f"rvc_lightning.{name}{'.__main__' * (name in PACKAGES)}")
    root, package = logging.getLogger(), logging.getLogger("rvc_lightning")
    handlers, root_level, package_level = root.handlers[:], root.level, package.level
    output, errors, empty = text_stream(), text_stream(), text_stream()
    status = 0
    with (
        redirect_stdout(output),
        redirect_stderr(errors),
        mock.patch("sys.argv", [module.__file__, *arguments]),
        mock.patch("sys.stdin", empty),
        # --info and --cfg do not clear the configuration, since the process usually exits afterwards.
        mock.patch.object(HydraConfig.instance(), "cfg", None),
        warnings.catch_warnings(),
    ):
        # Messages that are logged before the command configures its log.
        logging.lastResort = logging.StreamHandler(sys.stderr)
        root.handlers[:] = []
        try:
            module.main()
        except SystemExit as end:
            status = end.code or 0
        finally:
            root.handlers[:] = handlers
            root.setLevel(root_level)
            package.setLevel(package_level)
    return CommandResult(status, text_of(output), text_of(errors))


def single_error(result):
    """Return the error line of a command; fail unless there is exactly one, with exit status 1."""
    assert "Traceback" not in result.text
    assert result.status == 1, result.text
    errors = [line for line in result.text.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and result.text.strip().splitlines()[-1] == errors[0], result.text
    return errors[0]


def list_tree(folder):
    """Return the relative paths of all entries below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
