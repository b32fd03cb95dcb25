"""State of a session in a terminal, with keys, or as lines without one."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

from rvc_lightning.config.options import option_fields
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.live.options import LiveOptions
from rvc_lightning.live.session import LiveStatus

_BAR = 20
_EMPTY_DB = -60.0

_SWITCHES = {"m": "mute", "b": "bypass", "h": "monitor"}
_STEPS = {
    "+": ("transpose_semitones", 1), "=": ("transpose_semitones", 1), "-": ("transpose_semitones", -1),
    "]": ("index_rate", 0.05), "[": ("index_rate", -0.05),
    "I": ("input_gain_db", 1), "i": ("input_gain_db", -1),
    "O": ("output_gain_db", 1), "o": ("output_gain_db", -1),
    "G": ("gate_db", 2), "g": ("gate_db", -2),
}  # fmt: skip
_FIRST_GATE_DB = -70.0
"""Threshold from which the keys change a gate that was open."""

KEYS = "m mute  b bypass  h hear yourself  +/- pitch  [/] index rate  i/I o/O gains  g/G gate  : setting  q quit"
"""Help text of the keys, in one line."""


def line(status: LiveStatus) -> str:
    """Return the state in one line."""
    engine = status.engine
    pitch = f"{engine.f0_hz:.0f} Hz" if engine.f0_hz else "unvoiced"
    median, p99, block = (
        f"{1000 * seconds:.0f}"
        for seconds in (engine.compute_median_seconds, engine.compute_p99_seconds, engine.block_seconds)
    )
    parts = [
        f"in {engine.input_db:.0f} dB, out {engine.output_db:.0f} dB, {pitch}",
        f"latency {1000 * status.total_seconds:.0f} ms (algorithm {1000 * engine.latency_seconds:.0f} ms)",
        f"block median/p99 {median}/{p99} of {block} ms",
        f"late {status.underruns}",
    ]
    if status.device_gaps:
        parts.append(f"device gaps {status.device_gaps}, raise device_latency_seconds")
    if status.skipped_seconds:
        parts.append(f"skipped {status.skipped_seconds:.1f} s")
    if status.is_waiting:
        parts.append("waiting for a device")
    return "; ".join(parts)


def bar(level_db: float) -> str:
    """Return a level as a bar."""
    filled = round(_BAR * min(max(1 - level_db / _EMPTY_DB, 0), 1))
    return "█" * filled + "·" * (_BAR - filled)


def screen(status: LiveStatus) -> str:
    """Return the state as two lines of a terminal."""
    engine = status.engine
    return f"in {bar(engine.input_db)} out {bar(engine.output_db)}\n{line(status)}"


class Steps:
    """Values of the options that keys change."""

    def __init__(self, values: dict[str, Any]) -> None:
        """Start with the settings of the command."""
        self._values = values

    def change(self, key: str) -> dict[str, Any]:
        """Return the changed option of a key; an empty mapping for other keys."""
        changed: dict[str, Any] = {}
        if key in _SWITCHES:
            changed = {_SWITCHES[key]: not self._values[_SWITCHES[key]]}
        elif key in _STEPS:
            name, step = _STEPS[key]
            before = self._values[name]
            changed = {name: _within_range(name, (_FIRST_GATE_DB if before is None else before) + step)}
        self._values |= changed
        return changed

    def follow(self, values: dict[str, Any]) -> None:
        """Store options that were changed by other means."""
        self._values |= values


def _within_range(name: str, value: float) -> float:
    """Return the nearest value that an option allows, rounded to hundredths."""
    fields = [*option_fields(ConversionOptions), *option_fields(LiveOptions)]
    field = next(field for field in fields if field.name == name)
    assert field.min is not None and field.max is not None
    return round(min(max(value, field.min), field.max), 2)


def listen_for_lines(receive: Callable[[str], None]) -> None:
    """Call `receive` with each line of standard input, in a thread, until it ends."""

    def read() -> None:
        # Not sys.stdin, whose lock this thread would hold when Python exits.
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as source:
            for text in source:
                receive(text.decode("utf-8", "replace"))

    Thread(target=read, daemon=True).start()


@contextlib.contextmanager
def raw_keys() -> Iterator[Callable[[float], str]]:
    """Yield a function that waits some seconds for a key and returns it, or ''."""
    if os.name == "nt":
        # An empty command makes consoles before Windows 11 interpret escape sequences.
        os.system("")
        yield _windows_key
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield _posix_key
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _posix_key(seconds: float) -> str:
    if not _has_input(seconds):
        return ""
    source = sys.stdin.fileno()
    key = os.read(source, 1)
    if key == b"\x1b" and _has_input(0):
        # Arrow and function keys send escape sequences.
        key += os.read(source, 16)
    elif key >= b"\xc0":
        # The first byte of a UTF-8 character determines how many follow.
        key += os.read(source, 1 + (key >= b"\xe0") + (key >= b"\xf0"))
    return key.decode("utf-8", "replace")


def _has_input(seconds: float) -> bool:
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def _windows_key(seconds: float) -> str:
    import msvcrt

    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if msvcrt.kbhit():  # type: ignore[attr-defined]
            key = msvcrt.getwch()  # type: ignore[attr-defined]
            # Arrow and function keys arrive as two characters.
            is_first = key in ("\0", "\xe0") and msvcrt.kbhit()  # type: ignore[attr-defined]
            return f"\0{msvcrt.getwch()}" if is_first else key  # type: ignore[attr-defined]
        time.sleep(0.02)
    return ""
