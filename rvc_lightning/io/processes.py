"""Processes: everything that differs between Windows, macOS and Linux. Only Linux was tried."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

IS_WINDOWS = os.name == "nt"
INTERRUPTS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGBREAK") if hasattr(signal, name))
"""Signals of Ctrl-C, and on Windows of Ctrl-Break, the only one that a process can send to another."""

_RAISED_NICENESS = -10
_PLAIN_ARGUMENT = re.compile(r"[\w@+=:./\\-]+")
"""Argument that neither cmd nor PowerShell changes."""


def start_apart(
    command: Sequence[str], environment: Mapping[str, str] | None = None, *, lasting: bool = False, **options: Any
) -> subprocess.Popen[bytes]:
    """Start a process that the Ctrl-C of this one does not reach.

    Args:
        command: Program and arguments.
        environment: Variables in addition to those of this process.
        lasting: Whether it also outlives the terminal. On Windows, `interrupt` then only reaches it from itself and
            from processes that it starts.
        options: Further arguments of `subprocess.Popen`.
    """
    # On Windows, the encoding of redirected output would be that of the system.
    variables = {**os.environ, "PYTHONIOENCODING": "utf-8", **(environment or {})}
    # The constants only exist on Windows, where closing a console ends its processes: one without a window has its own.
    apart = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    apart |= getattr(subprocess, "CREATE_NO_WINDOW", 0) if lasting else 0
    return subprocess.Popen(command, env=variables, creationflags=apart, start_new_session=not IS_WINDOWS, **options)


def interrupt(pid: int) -> None:
    """Send Ctrl-C to a process of `start_apart` and to its children, if it still runs."""
    if IS_WINDOWS:
        # Any other signal would terminate the process. An error is that of an ended process, or of another console.
        with contextlib.suppress(OSError):
            os.kill(pid, getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGINT)


def kill(pid: int) -> None:
    """Kill a process of `start_apart` and its children, if it still runs."""
    if IS_WINDOWS:
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(pid)], capture_output=True)
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def raise_on_break() -> None:
    """Raise KeyboardInterrupt on Ctrl-Break, which would otherwise terminate the process."""
    for number in INTERRUPTS[1:]:
        signal.signal(number, signal.default_int_handler)


def raise_priority() -> None:
    """Raise the priority of this process, and of those that it starts, if the system permits it.

    Windows permits it to all users, Linux and macOS to administrators, and Linux also to users with a limit `nice` (man
    limits.conf).
    """
    import psutil

    with contextlib.suppress(psutil.AccessDenied):
        psutil.Process().nice(psutil.HIGH_PRIORITY_CLASS if IS_WINDOWS else _RAISED_NICENESS)


def peak_memory_bytes() -> int:
    """Return the peak of the memory of this process."""
    if IS_WINDOWS:
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    # The module only exists on POSIX.
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def quote_argument(text: str) -> str:
    """Quote an argument for a shell of this system: a POSIX shell, or on Windows cmd and PowerShell.

    The latter agree on double quotes only, not on those within them, for which Hydra accepts single quotes.
    """
    if not IS_WINDOWS:
        return shlex.quote(text)
    if _PLAIN_ARGUMENT.fullmatch(text):
        return text
    return subprocess.list2cmdline([text]) if "'" in text and '"' in text else '"' + text.replace('"', "'") + '"'


def is_closed_pipe(error: OSError) -> bool:
    """Return whether a write failed because the reader of the pipe has ended."""
    return isinstance(error, BrokenPipeError) or (IS_WINDOWS and error.errno == errno.EINVAL)
