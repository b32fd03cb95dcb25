"""Control of a session from the terminal, or by lines of standard input."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Any

from rvc_lightning.errors import RVCError
from rvc_lightning.live.display import KEYS, Steps, line, listen_for_lines, raw_keys, screen
from rvc_lightning.live.options import parse
from rvc_lightning.live.process import Started
from rvc_lightning.live.session import Session

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.1
_SLOW_SHARE = 0.8


def run(session: Session, settings: Mapping[str, Any], report_seconds: float) -> None:
    """Start the sound and show the state until Ctrl-C or the key q.

    Args:
        session: The session.
        settings: Settings of the command.
        report_seconds: Time between lines of the state without a terminal.

    Raises:
        RVCError: The engine has ended, or a device cannot be opened.
    """
    log.info("%s", " -> ".join(session.names))
    log.info("%s", describe(session.process.started))
    session.start()
    has_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
    with contextlib.suppress(KeyboardInterrupt):
        _run_terminal(session, settings) if has_terminal else _run_lines(session, report_seconds)
    status = session.status
    if status is not None:
        log.info("Ended: %s", line(status))


def describe(started: Started) -> str:
    """Return the latency and, for a voice that is too slow, the remedies."""
    latency, block, median, most = (
        f"{1000 * seconds:.0f} ms"
        for seconds in (
            started.latency_seconds,
            started.block_seconds,
            started.compute_median_seconds,
            started.compute_max_seconds,
        )
    )
    text = f"Algorithmic latency {latency}; a block of {block} takes {median}, at most {most}"
    if started.compute_max_seconds < _SLOW_SHARE * started.block_seconds:
        return text
    return (
        f"{text}: too slow for this machine. Choose preset=balanced or preset=quality, index_rate=0, a voice with the "
        "generator source_filter, or a GPU"
    )


def _run_lines(session: Session, report_seconds: float) -> None:
    lines: SimpleQueue[str] = SimpleQueue()
    if sys.stdin is not None:
        listen_for_lines(lines.put)
    messages, due = Messages(session), time.monotonic() + report_seconds
    while True:
        session.watch()
        messages.show(log.warning)
        with contextlib.suppress(Empty):
            change(session, lines.get(timeout=_TICK_SECONDS))
        if time.monotonic() >= due and (status := session.status):
            due = time.monotonic() + report_seconds
            log.info("%s", line(status))


def _run_terminal(session: Session, settings: Mapping[str, Any]) -> None:
    steps, messages = Steps({**settings, "monitor": session.is_monitored}), Messages(session)
    sys.stderr.write(f"{KEYS}\n\n\n")
    with raw_keys() as next_key:
        while (key := next_key(_TICK_SECONDS)) != "q":
            session.watch()
            if key == ":":
                steps.follow(change(session, _typed(next_key)))
            elif changed := steps.change(key):
                session.change(changed)
                messages.note(", ".join(f"{name}={value}" for name, value in changed.items()))
            if status := session.status:
                # Two lines up, and each line is cleared.
                above = "".join(f"\x1b[K{text}\n" for text in screen(status).splitlines())
                sys.stderr.write(f"\x1b[2A{above}")
            messages.show(lambda _, text: sys.stderr.write(f"\x1b[2A\x1b[K{text}\n\n\n"))


def _typed(next_key: Callable[[float], str]) -> str:
    """Read a line of keys up to Enter; Escape, or a minute without a key, discards it."""
    text = ""
    sys.stderr.write(":")
    while (key := next_key(60.0)) not in ("\n", "\r", "", "\x1b"):
        if key in ("\x7f", "\b"):
            text = text[:-1]
        elif key.isprintable():
            text += key
        sys.stderr.write(f"\r\x1b[K:{text}")
    sys.stderr.write("\r\x1b[K")
    return text if key in ("\n", "\r") else ""


def change(session: Session, text: str) -> dict[str, Any]:
    """Apply a line of settings and return them; log an error and return an empty mapping if the line is invalid."""
    try:
        values = parse(text)
        session.change(values)
    except RVCError as error:
        log.warning("%s", error)
        return {}
    return values


class Messages:
    """Errors of changes that the engine reports, each shown once."""

    def __init__(self, session: Session) -> None:
        self._session, self._last, self._own = session, "", ""

    def note(self, text: str) -> None:
        """Add a message to show."""
        self._own = text

    def show(self, write: Callable[[str, str], Any]) -> None:
        """Write the messages that were not shown yet."""
        status = self._session.status
        text = status.engine.message if status else ""
        if text and text != self._last:
            write("%s", text)
        if self._own:
            write("%s", self._own)
        self._last, self._own = text, ""
