"""Live conversion between audio devices.

input device ─▶ engine's process ─▶ buffer ─▶ output device
                                └──▶ buffer ─▶ monitor device
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from rvc_lightning.errors import ConfigurationError
from rvc_lightning.live.buffer import PlayBuffer
from rvc_lightning.live.device_settings import DeviceSettings
from rvc_lightning.live.devices import Device, DeviceStream, choose, refresh
from rvc_lightning.live.engine import Engine, Status
from rvc_lightning.live.process import EngineProcess, Started

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_SPARE_SECONDS = 0.02
"""Part of the buffer in addition to the time that a block takes: for blocks of devices, and for the scheduler."""


@dataclass(frozen=True)
class LiveStatus:
    """State of a session."""

    engine: Status
    """State of the engine."""
    total_seconds: float
    """Latency from the input to the output: devices, engine and buffer."""
    underruns: int
    """Late blocks, which were concealed."""
    device_gaps: int
    """Overflows and underflows of devices since they were opened: their latency is too low for this machine."""
    skipped_seconds: float
    """Audio that was skipped after long stalls."""
    is_waiting: bool
    """Whether the session waits for a disconnected device."""


class Session:
    """An engine between devices."""

    def __init__(self, settings: DeviceSettings, make: Callable[..., Engine]) -> None:
        """Choose the devices and start the engine.

        Args:
            settings: The devices.
            make: Function that builds the engine for the arguments `input_rate` and `output_rate`, in another process.

        Raises:
            RVCError: A device or the engine cannot be used.
        """
        self._settings = settings
        source, sink, monitor = self._choose()
        self._rates = (
            settings.input_sample_rate or source.sample_rate,
            settings.output_sample_rate or sink.sample_rate,
            monitor.sample_rate if monitor else 0,
        )
        self.names = [device.name for device in (source, sink, monitor) if device]
        """Names of the devices."""
        self.is_monitored = monitor is not None
        self._buffers: list[PlayBuffer] = []
        # The output, the monitor if any, and the input.
        self._streams: list[DeviceStream] = []
        # Opened once before the voice is loaded, to report devices that cannot be opened.
        self._open(source, sink, monitor, [lambda count: np.zeros(count, np.float32)] * 2, lambda audio: None)
        self._close_devices()
        self.process = EngineProcess(partial(make, input_rate=self._rates[0], output_rate=self._rates[1]), self._play)
        self._make_buffers(self.process.started)
        self._is_waiting, self._retry_at = False, 0.0

    def _make_buffers(self, started: Started) -> None:
        target = self._settings.buffer_seconds
        target = 1.2 * started.compute_max_seconds + _SPARE_SECONDS if target is None else target
        self._buffers = [PlayBuffer(self._rates[1], rate, min(target, 0.5)) for rate in self._rates[1:] if rate]

    def start(self) -> None:
        """Open the devices and start the conversion."""
        self._open(*self._choose(), [buffer.read for buffer in self._buffers], self._push)

    def watch(self) -> None:
        """Wait for disconnected devices and reopen them; call it several times a second.

        Raises:
            RVCError: The engine has ended.
        """
        if self.process.error:
            raise self.process.error
        if not self._is_waiting and any(stream.is_lost for stream in self._streams):
            lost = ", ".join(stream.device.name for stream in self._streams if stream.is_lost)
            log.warning("Disconnected: %s; waiting for the device", lost)
            self._close_devices()
            self._is_waiting = True
        if self._is_waiting and time.monotonic() >= self._retry_at:
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            self._reopen()

    def _reopen(self) -> None:
        refresh()
        try:
            self.start()
        except ConfigurationError:
            return
        self._is_waiting = False
        log.warning("All devices are back: %s", ", ".join(self.names))

    def change(self, values: Mapping[str, Any]) -> None:
        """Change options while the session runs; 'monitor' turns the monitor on and off."""
        values = dict(values)
        if "monitor" in values:
            self.is_monitored = bool(values.pop("monitor")) and len(self._buffers) > 1
        if values:
            self.process.change(values)

    @property
    def status(self) -> LiveStatus | None:
        """State of the session; None before the first sound."""
        engine = self.process.status
        if engine is None:
            return None
        return LiveStatus(
            engine=engine,
            total_seconds=engine.latency_seconds
            + self._buffers[0].fill_seconds
            + sum(stream.latency_seconds for stream in (*self._streams[:1], *self._streams[-1:])),
            underruns=self._buffers[0].underruns,
            device_gaps=sum(stream.gaps for stream in self._streams),
            skipped_seconds=self._buffers[0].skipped_seconds + self.process.skipped_seconds,
            is_waiting=self._is_waiting,
        )

    def close(self) -> None:
        """Close the devices and end the engine."""
        self._close_devices()
        self.process.close()

    def _choose(self) -> tuple[Device, Device, Device | None]:
        settings = self._settings
        monitor = None if settings.monitor is None else choose(settings.monitor, "output")
        return choose(settings.input, "input"), choose(settings.output, "output"), monitor

    def _open(
        self,
        source: Device,
        sink: Device,
        monitor: Device | None,
        reads: list[Callable[[int], Any]],
        take: Callable[[np.ndarray], Any],
    ) -> None:
        """Open all devices, or none if one of them cannot be opened."""
        latency = self._settings.device_latency_seconds
        outputs = [device for device in (sink, monitor) if device]
        with contextlib.ExitStack() as undo:
            undo.callback(self._close_devices)
            for device, rate, read in zip(outputs, self._rates[1:], reads, strict=False):
                self._streams.append(DeviceStream(device, "output", rate, read, latency))
            self._streams.append(DeviceStream(source, "input", self._rates[0], take, latency))
            undo.pop_all()

    def _close_devices(self) -> None:
        for stream in self._streams:
            stream.close()
        self._streams = []

    def _push(self, audio: np.ndarray) -> None:
        """Send recorded audio [N, channels] to the engine, in mono."""
        self.process.push(audio.mean(axis=1))

    def _play(self, audio: np.ndarray) -> None:
        """Pass the engine's output to the devices."""
        for number, buffer in enumerate(self._buffers):
            buffer.write(audio if number == 0 or self.is_monitored else np.zeros_like(audio))
