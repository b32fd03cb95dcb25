"""Audio devices through PortAudio (the package sounddevice).

A device is named by its host API and its own name, which stay the same when other devices come and go, unlike numbers.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from types import ModuleType
from typing import Any

import numpy as np

from rvc_lightning.cli.columns import format_columns
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.io.packages import import_extra

_RATES = (16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 192000)
_LOST_SECONDS = 3.0
"""Time without a callback after which a device counts as disconnected."""
# The standard error of the process.
_stderr = RLock()


@dataclass(frozen=True)
class Device:
    """One device of one host API."""

    index: int
    """Number in PortAudio, until devices change."""
    name: str
    """Host API and name, unique."""
    inputs: int
    """Channels that can be recorded."""
    outputs: int
    """Channels that can be played."""
    sample_rate: int
    """Default sampling rate in Hz."""


def sounddevice() -> ModuleType:
    """Return the module. Raises ConfigurationError if it or PortAudio is not installed."""
    try:
        with _quiet():
            return import_extra("sounddevice", "live", "the use of audio devices")
    except OSError as error:
        raise ConfigurationError(
            f"{error}: install PortAudio, on Debian and Ubuntu apt install libportaudio2"
        ) from error


def refresh() -> None:
    """Update the list of devices. Open streams end, so close them first."""
    module = sounddevice()
    with _quiet():
        module._terminate()
        module._initialize()


def devices() -> list[Device]:
    """Return all devices of all host APIs."""
    module = sounddevice()
    # It waits for a refresh in another thread.
    with _quiet():
        apis, entries = module.query_hostapis(), module.query_devices()
    found, seen = [], Counter[str]()
    for entry in entries:
        name = f"{apis[entry['hostapi']]['name']}: {entry['name']}"
        seen[name] += 1
        found.append(
            Device(
                index=entry["index"],
                name=name if seen[name] == 1 else f"{name} #{seen[name]}",
                inputs=entry["max_input_channels"],
                outputs=entry["max_output_channels"],
                sample_rate=round(entry["default_samplerate"]),
            )
        )
    return found


def listing() -> str:
    """Return a table of all devices, with the sampling rates that each supports."""
    rows = [("device", "in", "out", "rates in Hz, the default first")]
    for device in devices():
        kinds = [kind for kind, channels in (("input", device.inputs), ("output", device.outputs)) if channels]
        supported = {rate for kind in kinds for rate in supported_rates(device, kind)}
        rates = [device.sample_rate, *sorted(supported - {device.sample_rate})]
        rows.append((device.name, str(device.inputs), str(device.outputs), ", ".join(map(str, rates))))
    return "\n".join(format_columns(rows, numbers=False)) if len(rows) > 1 else "No audio devices found."


def supported_rates(device: Device, kind: str) -> list[int]:
    """Return the common sampling rates at which a device can be opened for 'input' or 'output'."""
    module = sounddevice()
    check: Callable[..., None] = getattr(module, f"check_{kind}_settings")
    found = []
    with _quiet():
        for rate in _RATES:
            with contextlib.suppress(module.PortAudioError):
                check(device=device.index, samplerate=rate)
                found.append(rate)
    return found


def choose(query: str | None, kind: str) -> Device:
    """Return the device whose name contains each word of `query`, or the default device for None.

    Args:
        query: Words that only one device has in its name; a full name always matches.
        kind: 'input' or 'output'.

    Raises:
        ConfigurationError: No device matches, or several do.
    """
    able = [device for device in devices() if (device.inputs if kind == "input" else device.outputs)]
    if query is None:
        default = sounddevice().default.device[kind]
        able = [device for device in able if device.index == default] or able
        if not able:
            raise ConfigurationError(f"no {kind} device found: connect one, or list all devices with devices=true")
        return able[0]
    words = query.lower().split()
    matching = [device for device in able if device.name == query] or [
        device for device in able if all(word in device.name.lower() for word in words)
    ]
    if len(matching) != 1:
        found = f"matches {len(matching)} devices" if matching else "matches no device"
        names = "; ".join(device.name for device in matching or able)
        remedy = f"choose a part of one name: {names}" if names else "none is connected"
        raise ConfigurationError(f"{kind}={query} {found}; {remedy}")
    return matching[0]


class DeviceStream:
    """A device that records or plays; its callback only copies."""

    def __init__(
        self,
        device: Device,
        kind: str,
        sample_rate: int,
        exchange: Callable[[Any], Any],
        latency_seconds: float | None = None,
    ) -> None:
        """Open and start the device.

        Args:
            device: The device.
            kind: 'input' or 'output'.
            sample_rate: Sampling rate in Hz.
            exchange: For an input, takes samples [N, channels]; for an output, returns samples [N] for a number N.
            latency_seconds: Latency to request; None for the lowest one that the device reports as safe.

        Raises:
            ConfigurationError: The device is busy or not permitted, or lacks the sampling rate.
        """
        self.device, self.sample_rate = device, sample_rate
        self._exchange = exchange
        self._last_call = time.monotonic()
        self.gaps = 0
        """Number of overflows or underflows, in which the device lost sound because this process was late."""
        module = sounddevice()
        make = module.InputStream if kind == "input" else module.OutputStream
        with _explained(device, kind, sample_rate), contextlib.ExitStack() as undo:
            self._stream = make(
                device=device.index,
                channels=min(device.inputs if kind == "input" else device.outputs, 2),
                samplerate=sample_rate,
                dtype="float32",
                latency="low" if latency_seconds is None else latency_seconds,
                callback=self._record if kind == "input" else self._play,
            )
            undo.callback(self.close)
            self._stream.start()
            undo.pop_all()

    def _record(self, audio: np.ndarray, frames: int, times: Any, flags: Any) -> None:
        self._last_call = time.monotonic()
        self.gaps += bool(flags.input_overflow)
        self._exchange(audio.copy())

    def _play(self, audio: np.ndarray, frames: int, times: Any, flags: Any) -> None:
        self._last_call = time.monotonic()
        self.gaps += bool(flags.output_underflow)
        audio[:] = self._exchange(frames)[:, None]

    @property
    def is_lost(self) -> bool:
        """Whether the device is disconnected."""
        return not self._stream.active or time.monotonic() - self._last_call > _LOST_SECONDS

    @property
    def latency_seconds(self) -> float:
        """Latency that the device reports."""
        return float(self._stream.latency)

    def close(self) -> None:
        """Stop the device, which may be disconnected."""
        self._stream.abort(ignore_errors=True)
        self._stream.close(ignore_errors=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress output of system libraries to standard error; their errors are also raised as exceptions."""
    with _stderr:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


@contextmanager
def _explained(device: Device, kind: str, sample_rate: int) -> Iterator[None]:
    """Convert an error of PortAudio to one line with the remedy."""
    module = sounddevice()
    try:
        with _quiet():
            yield
    except module.PortAudioError as error:
        reason = str(error.args[0])
        if "sample rate" in reason.lower():
            rates = ", ".join(map(str, supported_rates(device, kind))) or "none of the common rates"
            remedy = f"choose {kind}_sample_rate from: {rates}"
        else:
            remedy = "close the program that uses it, allow access to it, or choose another, see devices=true"
        raise ConfigurationError(f"{kind} '{device.name}' at {sample_rate} Hz: {reason}; {remedy}") from error
