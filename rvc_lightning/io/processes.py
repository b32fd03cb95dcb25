"""Processes: everything that differs between Windows, macOS and Linux. Only Linux was tried."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

IS_WINDOWS = os.name == "nt"
INTERRUPTS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGBREAK") if hasattr(signal, name))
"""Signals of Ctrl-C, and on Windows of Ctrl-Break, the only one that a process can send to another."""


def start_apart(
    command: Sequence[str], environment: Mapping[str, str] | None = None, **options: Any
) -> subprocess.Popen[bytes]:
    """Start a process that the Ctrl-C of this one does not reach.

    Args:
        command: Program and arguments.
        environment: Variables in addition to those of this process.
        options: Further arguments of `subprocess.Popen`.
    """
    # On Windows, the encoding of redirected output would be that of the system.
    variables = {**os.environ, "PYTHONIOENCODING": "utf-8", **(environment or {})}
    # The constant only exists on Windows.
    apart = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    return subprocess.Popen(command, env=variables, creationflags=apart, start_new_session=not IS_WINDOWS, **options)


def interrupt(pid: int) -> None:
    """Send Ctrl-C to a process of `start_apart` and to its children, if it still runs."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, INTERRUPTS[-1]) if IS_WINDOWS else os.killpg(pid, signal.SIGINT)


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


def peak_memory_bytes() -> int:
    """Return the peak of the memory of this process; 0 on Windows, where Python does not measure it."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
