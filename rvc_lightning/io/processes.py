"""Processes: everything that differs between Windows, macOS and Linux. Tested only on Linux."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

IS_WINDOWS = os.name == "nt"
INTERRUPTS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGBREAK") if hasattr(signal, name))
"""Signals of Ctrl-C, and on Windows of Ctrl-Break, the only one that a process can send to another."""
HANGUPS = tuple(getattr(signal, name) for name in ("SIGHUP",) if hasattr(signal, name))
"""Signal of a terminal that is closed; Windows has none."""

_PROGRAM = "rvc-lightning"
_PYTHON_ARGUMENTS = 3
"""Arguments of Python among which its script is: the interpreter, at most one flag, and the script."""
_RAISED_NICENESS = -10
_PLAIN_ARGUMENT = re.compile(r"[\w@+=:./\\-]+")
"""Argument that neither cmd nor PowerShell changes."""


def start_process_group(
    command: Sequence[str], environment: Mapping[str, str] | None = None, *, detached: bool = False, **options: Any
) -> subprocess.Popen[bytes]:
    """Start a process in its own process group, which Ctrl-C in this one does not reach.

    Args:
        command: Program and arguments.
        environment: Variables in addition to those of this process.
        detached: Whether it also outlives the terminal. On Windows, only the process itself and those that it starts
            can then `interrupt` it.
        options: Further arguments of `subprocess.Popen`.
    """
    # On Windows, the encoding of redirected output would be that of the system.
    variables = {**os.environ, "PYTHONIOENCODING": "utf-8", **(environment or {})}
    # The constants exist only on Windows, where closing a console ends its processes; one without a window has its own.
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    flags |= getattr(subprocess, "CREATE_NO_WINDOW", 0) if detached else 0
    return subprocess.Popen(command, env=variables, creationflags=flags, start_new_session=not IS_WINDOWS, **options)


def interrupt(pid: int) -> None:
    """Send Ctrl-C to a process of `start_process_group` and to its children, if it is still running."""
    if IS_WINDOWS:
        # Any other signal would terminate the process. An error means that it has ended, or has another console.
        with contextlib.suppress(OSError):
            os.kill(pid, getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGINT)


def kill(pid: int) -> None:
    """Kill a process of `start_process_group` and its children, if it is still running."""
    if IS_WINDOWS:
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(pid)], capture_output=True)
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def raise_on_break() -> None:
    """Raise KeyboardInterrupt on Ctrl-Break, which would otherwise terminate the process."""
    for number in INTERRUPTS[1:]:
        signal.signal(number, signal.default_int_handler)


def discard_terminal_output() -> None:
    """Discard what this process prints on a terminal that has been closed, which would otherwise be errors."""
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(number).st_mode):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def raise_priority() -> None:
    """Raise the priority of this process, and of those that it starts, if the system permits it.

    Windows permits it for all users, Linux and macOS for administrators, and Linux also for users with a limit `nice`
    (man limits.conf).
    """
    import psutil

    with contextlib.suppress(psutil.AccessDenied):
        psutil.Process().nice(psutil.HIGH_PRIORITY_CLASS if IS_WINDOWS else _RAISED_NICENESS)


def peak_memory_bytes() -> int:
    """Return the peak resident memory of this process."""
    if IS_WINDOWS:
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    # The module only exists on POSIX.
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def command_start(name: str) -> str:
    """Return how to start a command in the way in which this process was: by its program, or as a module of Python."""
    by_program = any(Path(argument).stem == _PROGRAM for argument in sys.orig_argv[:_PYTHON_ARGUMENTS])
    return f"{_PROGRAM} {name}" if by_program else f"python -m rvc_lightning.{name}"


def quote_argument(text: str) -> str:
    """Quote an argument for a shell of this system: a POSIX shell, or on Windows cmd and PowerShell.

    The latter two agree only on double quotes, and not on how to escape them within an argument; there, single quotes
    replace them, which Hydra also accepts.
    """
    if not IS_WINDOWS:
        return shlex.quote(text)
    if _PLAIN_ARGUMENT.fullmatch(text):
        return text
    return subprocess.list2cmdline([text]) if "'" in text and '"' in text else '"' + text.replace('"', "'") + '"'


def is_closed_pipe(error: OSError) -> bool:
    """Return whether a write failed because the reader of the pipe has ended."""
    return isinstance(error, BrokenPipeError) or (IS_WINDOWS and error.errno == errno.EINVAL)
