"""Devices with a stub of PortAudio."""

from types import SimpleNamespace

import pytest

from rvc_lightning.errors import ConfigurationError
from rvc_lightning.live import devices


class PortAudioError(Exception):
    pass


def test_device_that_does_not_start_is_closed(monkeypatch):
    calls = []

    class Stream:
        def __init__(self, **settings):
            calls.append("open")

        def start(self):
            raise PortAudioError("device unavailable")

        def abort(self, ignore_errors):
            calls.append("abort")

        def close(self, ignore_errors):
            calls.append("close")

    module = SimpleNamespace(InputStream=Stream, PortAudioError=PortAudioError)
    monkeypatch.setattr(devices, "sounddevice", lambda: module)
    microphone = devices.Device(0, "microphone", 1, 0, 48000)
    with pytest.raises(ConfigurationError, match="'microphone' at 48000 Hz: device unavailable"):
        devices.DeviceStream(microphone, "input", 48000, calls.append)
    assert calls == ["open", "abort", "close"]
