"""Commands, run in this process as they are run from a shell: a hundred of them start none."""

import importlib
import io
import logging
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest import mock

from hydra.core.hydra_config import HydraConfig

PACKAGES = ("app", "importers", "voice")
"""Commands that are packages with a `__main__`."""


@dataclass
class Ended:
    """How a command ended."""

    status: int
    output: str
    errors: str

    @property
    def told(self):
        """Whatever it said, whichever stream that went to."""
        return self.output + self.errors


def stream():
    """As a terminal's, which takes no bytes that are no text."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def text(written):
    return written.buffer.getvalue().decode()


def command(name, *arguments):
    """Runs `python -m rvc_lightning.NAME ARGUMENTS`; an error that is not reported as one is raised."""
    module = importlib.import_module(f"rvc_lightning.{name}{'.__main__' * (name in PACKAGES)}")
    root, package = logging.getLogger(), logging.getLogger("rvc_lightning")
    before = root.handlers[:], root.level, package.level
    output, errors, empty = stream(), stream(), stream()
    status = 0
    with (
        redirect_stdout(output),
        redirect_stderr(errors),
        mock.patch("sys.argv", [module.__file__, *arguments]),
        mock.patch("sys.stdin", empty),
        # Which --info and --cfg leave behind: Hydra counts on the end of the process.
        mock.patch.object(HydraConfig.instance(), "cfg", None),
        warnings.catch_warnings(),
    ):
        # For what is said before a command has set up its log.
        logging.lastResort = logging.StreamHandler(sys.stderr)
        root.handlers[:] = []
        try:
            module.main()
        except SystemExit as end:
            status = end.code or 0
        finally:
            root.handlers[:], _ = before[0], root.setLevel(before[1])
            package.setLevel(before[2])
    return Ended(status, text(output), text(errors))


def one_error(ended):
    """The error that a command ended with; fails unless there is one, told in a line, with exit status 1."""
    assert "Traceback" not in ended.told
    assert ended.status == 1, ended.told
    errors = [line for line in ended.told.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and ended.told.strip().splitlines()[-1] == errors[0], ended.told
    return errors[0]


def tree(folder):
    """Every entry below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
