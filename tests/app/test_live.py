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

BROWSER = {"voice": "anna.pth", "sample_rate": 48000}
DEVICES = {"voice": "anna.pth", "input": "microphone", "output": "loudspeaker"}
SECONDS = 10


class StubProcess:
    """Process of an engine that needs a moment to end."""

    def __init__(self, make, receive):
        self.status, self.error = None, None

    def change(self, values):
        pass

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
