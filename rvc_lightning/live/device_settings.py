"""Choice of audio devices, as settings."""

from __future__ import annotations

from dataclasses import dataclass

from rvc_lightning.config.options import Settings, option


@dataclass(frozen=True)
class DeviceSettings(Settings):
    """Choice of the devices.

    Raises:
        ConfigurationError: A value has the wrong type or is out of range.
    """

    input: str | None = option(None, "part of the name of the microphone; null for the system's default")
    output: str | None = option(None, "part of the name of the output; null for the system's default")
    monitor: str | None = option(None, "part of the name of another output that plays the same; null for none")
    input_sample_rate: int | None = option(
        None, "sampling rate of the input; null for that of the device", unit="Hz", min=8000, max=192000
    )
    output_sample_rate: int | None = option(
        None, "sampling rate of the output; null for that of the device", unit="Hz", min=8000, max=192000
    )
    buffer_seconds: float | None = option(
        None,
        "audio buffered before the output; null derives it from the time that a block takes",
        unit="s",
        min=0,
        max=0.5,
    )
    device_latency_seconds: float | None = option(
        0.03, "latency to request from each device; null for the lowest that it supports", unit="s", min=0, max=1
    )
