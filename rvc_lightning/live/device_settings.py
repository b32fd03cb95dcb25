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

    input: str | None = option(None, "part of the name of the microphone; null is the system's default")
    output: str | None = option(None, "part of the name of the output; null is the system's default")
    monitor: str | None = option(None, "part of the name of another output that plays the same; null for none")
    input_sample_rate: int | None = option(
        None, "rate of the input; null is the device's own", unit="Hz", min=8000, max=192000
    )
    output_sample_rate: int | None = option(
        None, "rate of the output; null is the device's own", unit="Hz", min=8000, max=192000
    )
    buffer_seconds: float | None = option(
        None, "audio that waits for the output; null follows the time that a block takes", unit="s", min=0, max=0.5
    )
    device_latency_seconds: float | None = option(
        0.03, "latency to request from each device; null is its lowest one", unit="s", min=0, max=1
    )
