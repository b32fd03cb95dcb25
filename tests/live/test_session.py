"""A session with stubs of the devices and of the engine's process."""

from types import SimpleNamespace
from typing import ClassVar

import pytest

from rvc_lightning.errors import ConfigurationError
from rvc_lightning.live import session
from rvc_lightning.live.device_settings import DeviceSettings
from rvc_lightning.live.devices import Device
from rvc_lightning.live.process import Started

LATENCIES = {"microphone": 0.5, "loudspeaker": 0.25, "headphones": 0.125}


class StubStream:
    """Device that opens unless its name is in `broken`."""

    broken = ()
    opened: ClassVar[list[str]] = []

    def __init__(self, device, kind, sample_rate, exchange, latency_seconds):
        if device.name in self.broken:
            raise ConfigurationError(f"'{device.name}' is busy")
        self.device, self.latency_seconds, self.gaps, self.is_lost = device, LATENCIES[device.name], 0, False
        self.opened.append(device.name)

    def close(self):
        self.opened.remove(self.device.name)


class StubProcess:
    """Process of an engine with a latency of a second."""

    def __init__(self, make, receive):
        self.started = Started(16000, 1.0, 0.1, 0.01, 0.02)
        self.status, self.skipped_seconds, self.error = SimpleNamespace(latency_seconds=1.0), 0.0, None

    def push(self, audio):
        pass

    def close(self):
        pass


@pytest.fixture
def make_session(monkeypatch):
    """Return a function that starts a session."""
    monkeypatch.setattr(StubStream, "opened", [])
    monkeypatch.setattr(session, "DeviceStream", StubStream)
    monkeypatch.setattr(session, "EngineProcess", StubProcess)
    monkeypatch.setattr(session, "choose", lambda name, kind: Device(0, name, 1, 1, 16000))
    started = []

    def make(**settings):
        devices = DeviceSettings(input="microphone", output="loudspeaker", buffer_seconds=0.0625, **settings)
        started.append(session.Session(devices, lambda **rates: None))
        return started[-1]

    yield make
    for one in started:
        one.close()


@pytest.mark.parametrize("monitor", [None, "headphones"])
def test_latency_is_that_of_input_engine_buffer_and_output(make_session, monitor):
    live = make_session(monitor=monitor)
    live.start()
    assert live.status.total_seconds == 0.5 + 1.0 + 0.0625 + 0.25


def test_no_device_stays_open_if_one_cannot_be_opened(make_session, monkeypatch):
    live = make_session(monitor="headphones")
    monkeypatch.setattr(StubStream, "broken", ("microphone",))
    with pytest.raises(ConfigurationError, match="'microphone' is busy"):
        live.start()
    assert StubStream.opened == []
    with pytest.raises(ConfigurationError, match="'microphone' is busy"):
        make_session()
    assert StubStream.opened == []


def test_devices_are_opened_again_when_all_of_them_are_back(make_session, monkeypatch):
    monkeypatch.setattr(session, "refresh", lambda: None)
    monkeypatch.setattr(session, "_RETRY_SECONDS", 0.0)
    live = make_session()
    live.start()
    live._streams[0].is_lost = True
    monkeypatch.setattr(StubStream, "broken", ("microphone",))
    live.watch()
    assert live.status.is_waiting and StubStream.opened == []
    monkeypatch.setattr(StubStream, "broken", ())
    live.watch()
    assert not live.status.is_waiting and StubStream.opened == ["loudspeaker", "microphone"]
