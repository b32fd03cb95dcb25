"""The WebSocket of the live page, with stubs of the engine's process and of the devices."""

import asyncio
import time
from threading import Event

import pytest
from stubs import make_voice, quick_config

pytest.importorskip("gradio", reason="the extra 'app' is not installed")

from fastapi import FastAPI
from starlette.testclient import TestClient

from rvc_lightning.app import live
from rvc_lightning.app.catalog import VoiceCatalog
from rvc_lightning.app.texts import Texts
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.live import build
from rvc_lightning.live.devices import Device
from rvc_lightning.live.engine import Status
from rvc_lightning.live.options import Changes

BROWSER = {"voice": "anna.pth", "sample_rate": 48000}
DEVICES = {"voice": "anna.pth", "input": "microphone", "output": "loudspeaker"}
SECONDS = 10


class StubProcess:
    """Process of an engine that needs a moment to end."""

    def __init__(self, make, receive):
        self.status, self.error, self.changes = None, None, []
        self.values = make.keywords["values"]
        StubProcess.last = self

    def change(self, values):
        self.changes.append(values)

    def push(self, audio):
        pass

    def close(self):
        time.sleep(0.5)


class StubSession:
    """Devices whose check takes as long as the test wants."""

    def __init__(self, settings, make):
        self.status = None
        self.is_checking, self.may_continue, self.closed = Event(), Event(), Event()
        StubSession.last = self

    def start(self):
        pass

    def change(self, values):
        pass

    def watch(self):
        self.is_checking.set()
        self.may_continue.wait(SECONDS)
        self.was_closed_during_the_check = self.closed.is_set()

    def close(self):
        self.closed.set()


@pytest.fixture
def app(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "EngineProcess", StubProcess)
    monkeypatch.setattr(live, "Session", StubSession)
    monkeypatch.setattr(live, "devices", list)
    monkeypatch.setattr(live, "refresh", list)
    make_voice(quick_config()).save(tmp_path / "anna.pth")
    app = FastAPI()
    live.LivePage(VoiceCatalog(tmp_path), {}, True, Texts()).add_to(app)
    return app


@pytest.fixture
def client(app):
    with TestClient(app) as client:
        yield client


def connect(client):
    return client.websocket_connect("/live/stream")


def test_visitor_who_sends_nothing_does_not_block_others(client):
    with connect(client), connect(client) as socket:
        socket.send_json(BROWSER)
        assert socket.receive_json() == {"ready": True}


def test_visitor_who_returns_at_once_waits_for_the_own_engine(client):
    with connect(client) as first, connect(client) as second:
        first.send_json(BROWSER)
        assert first.receive_json() == {"ready": True}
        first.close()
        second.send_json(BROWSER)
        assert second.receive_json() == {"ready": True}


def test_second_visitor_is_rejected_after_some_time(client, monkeypatch):
    monkeypatch.setattr(live, "_PATIENCE_SECONDS", 0.1)
    with connect(client) as first, connect(client) as second:
        first.send_json(BROWSER)
        assert first.receive_json() == {"ready": True}
        second.send_json(BROWSER)
        assert "another visitor is live" in second.receive_json()["error"]


def test_slow_devices_do_not_stall_the_server_and_are_not_opened_after_the_end(client):
    with connect(client) as socket:
        socket.send_json(DEVICES)
        assert socket.receive_json() == {"ready": True}
        session = StubSession.last
        assert session.is_checking.wait(SECONDS)
        started = time.monotonic()
        assert client.get("/live/choices").json()["voices"] == ["anna.pth"]
        assert time.monotonic() - started < SECONDS / 2
        socket.close()
        session.may_continue.set()
    assert session.closed.wait(SECONDS) and not session.was_closed_during_the_check


def test_devices_are_closed_if_they_do_not_start(client, monkeypatch):
    def fail(session):
        raise ConfigurationError("the microphone is busy")

    monkeypatch.setattr(StubSession, "start", fail)
    with connect(client) as socket:
        socket.send_json(DEVICES)
        assert socket.receive_json()["error"] == "the microphone is busy"
    assert StubSession.last.closed.wait(SECONDS)


def test_a_connection_leaves_no_task_when_the_server_ends(app):
    async def run():
        ready, messages = asyncio.Event(), asyncio.Queue()
        messages.put_nowait({"type": "websocket.connect"})
        messages.put_nowait({"type": "websocket.receive", "text": '{"voice": "anna.pth", "sample_rate": 48000}'})

        async def send(message):
            if "ready" in message.get("text", ""):
                ready.set()

        scope = {"type": "websocket", "path": "/live/stream", "headers": [], "query_string": b""}
        connection = asyncio.create_task(app(scope, messages.get, send))
        await asyncio.wait_for(ready.wait(), SECONDS)
        await asyncio.sleep(0.1)
        connection.cancel()
        await asyncio.gather(connection, return_exceptions=True)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(run()) == set()


def status_of(voice, message=""):
    return Status(voice, -20.0, -20.0, 200.0, 0.1, 0.1, 0.01, 0.02, 5, message)


def wait_for_status(socket, condition):
    ends = time.monotonic() + SECONDS
    while not condition(status := socket.receive_json()):
        assert time.monotonic() < ends, status
    return status


def test_engine_starts_with_the_options_of_the_page(client):
    with connect(client) as socket:
        socket.send_json(BROWSER | {"mute": True, "transpose_semitones": 3})
        assert socket.receive_json() == {"ready": True}
        assert StubProcess.last.values == {"mute": True, "transpose_semitones": 3}
        assert not StubProcess.last.changes


def test_invalid_option_of_the_start_is_an_error_before_sound(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(build, "set_up_torch", lambda config: None)
    monkeypatch.setattr(build, "Engine", lambda load, changes, **others: started.append(changes))
    monkeypatch.setattr(build, "stream_fabrics", lambda config: ())
    settings = {"voice": "anna.pth", "index": None, "content_path": None, "record_input": None, "record_output": None}
    settings |= {"compile": False, "preset": "balanced", "stream": {}}
    build.build_engine(settings, 48000, values={"mute": True})
    assert isinstance(started[0], Changes) and started[0].live.mute
    with pytest.raises(ConfigurationError, match="gate_db=3"):
        build.build_engine(settings, 48000, values={"gate_db": 3})


def test_voice_deleted_meanwhile_is_a_message_and_the_session_goes_on(client, tmp_path):
    with connect(client) as socket:
        socket.send_json(BROWSER)
        assert socket.receive_json() == {"ready": True}
        StubProcess.last.status = status_of("anna.pth")
        (tmp_path / "anna.pth").unlink()
        socket.send_json({"voice": "anna.pth"})
        assert "unknown voice" in wait_for_status(socket, lambda status: status["message"])["message"]
        socket.send_json({"mute": True})
        wait_for_status(socket, lambda status: not status["message"])
        assert StubProcess.last.changes == [{"mute": True}]


def test_messages_have_names_of_voices_and_labels_of_options(client, tmp_path):
    with connect(client) as socket:
        socket.send_json(BROWSER)
        assert socket.receive_json() == {"ready": True}
        StubProcess.last.status = status_of("anna.pth", f"'{tmp_path / 'ben.pth'}' is damaged, gate_db=3")
        message = wait_for_status(socket, lambda status: status["message"])["message"]
        assert message == "'ben.pth' is damaged, Gate (dB) = 3"
        StubProcess.last.error = ConfigurationError(f"'{tmp_path / 'ben.pth'}' has ended it")
        assert wait_for_status(socket, lambda status: "error" in status)["error"] == "'ben.pth' has ended it"


@pytest.mark.parametrize("name", ["voice", "preset", "speaker"])
def test_texts_of_visitors_are_not_resolved(client, monkeypatch, name):
    monkeypatch.setenv("SECRET", "hidden")
    with connect(client) as socket:
        socket.send_json(BROWSER | {name: "${oc.env:SECRET}"})
        assert "hidden" not in str(socket.receive_json()) and "hidden" not in str(StubProcess.last.values)


def test_new_devices_are_listed_unless_a_visitor_is_live(client, monkeypatch):
    found = []
    monkeypatch.setattr(live, "refresh", lambda: found.append(Device(0, f"headset {len(found)}", 1, 1, 48000)))
    monkeypatch.setattr(live, "devices", lambda: found)
    assert client.get("/live/choices").json()["inputs"] == ["headset 0"]
    with connect(client) as socket:
        socket.send_json(BROWSER)
        assert socket.receive_json() == {"ready": True}
        assert client.get("/live/choices").json()["inputs"] == ["headset 0"]


def test_controls_without_effect_on_a_voice_are_listed(client, tmp_path):
    make_voice(quick_config(generator="hifigan")).save(tmp_path / "flat.pth")
    make_voice(quick_config(generator="source_filter", variational=False)).save(tmp_path / "quick.pth")
    (tmp_path / "broken.pth").write_bytes(b"no voice")
    client.get("/live/choices")

    def names(voice):
        return client.get("/live/voice", params={"name": voice}).json()["without_effect"]

    assert names("anna.pth") == ["index_rate", "protect"]
    assert names("flat.pth") == ["autotune", "formant_semitones", "index_rate", "protect", "transpose_semitones"]
    assert names("quick.pth") == ["index_rate", "noise_scale", "protect"]
    assert names("broken.pth") == names("../anna.pth") == []
