"""Settings and warnings of `python -m rvc_lightning.app`."""

import logging
import signal
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_module

pytest.importorskip("gradio", reason="the extra 'app' is not installed")

from rvc_lightning.app import server
from rvc_lightning.app.service import Limits
from rvc_lightning.config.values import plain
from rvc_lightning.errors import ConfigurationError


def test_limits_are_read_from_the_configuration():
    with initialize_config_module("rvc_lightning.conf", version_base="1.3"):
        config = compose("app", overrides=["limits.max_seconds=5"])
    assert Limits.from_values(plain(config.limits)).max_seconds == 5
    assert (config.host, config.port) == ("127.0.0.1", 7860)
    with pytest.raises(ConfigurationError, match="unknown setting of limits 'max_secondz'"):
        Limits.from_values(plain(config.limits) | {"max_secondz": 1})


def test_serving_to_the_network_logs_a_warning(caplog, monkeypatch, tmp_path):
    monkeypatch.setattr(server, "application", lambda service, files, local, settings: local)
    monkeypatch.setattr(server.uvicorn.Server, "run", lambda self, sockets: None)
    monkeypatch.setattr(server.uvicorn, "Config", lambda app, **more: app)
    caplog.set_level(logging.INFO)
    service = SimpleNamespace(limits=SimpleNamespace(max_stored_megabytes=1, keep_minutes=1))
    server.serve(service, "127.0.0.1", 0, {})
    assert "no password" not in caplog.text
    server.serve(service, "0.0.0.0", 0, {})
    assert "host=0.0.0.0: the page has no password: anyone who reaches this machine can use it" in caplog.text


def test_ctrl_c_right_after_the_address_stops_the_page(caplog, monkeypatch):
    class PressCtrlC(logging.Handler):
        def emit(self, record):
            if record.getMessage().startswith("Open "):
                signal.raise_signal(signal.SIGINT)

    stopped = []
    monkeypatch.setattr(server, "application", lambda *arguments: lambda scope, receive, send: None)
    service = SimpleNamespace(
        limits=SimpleNamespace(max_stored_megabytes=1, keep_minutes=1), stop=lambda: stopped.append(True)
    )
    caplog.set_level(logging.INFO)
    handler = PressCtrlC()
    server.log.addHandler(handler)
    try:
        server.serve(service, "127.0.0.1", 0, {})
    finally:
        server.log.removeHandler(handler)
    assert stopped and caplog.messages[-1] == "Stopped."
