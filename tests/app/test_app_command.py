"""`python -m rvc_lightning.app`: its settings, and what it warns of."""

import logging

import pytest
from hydra import compose, initialize_config_module

pytest.importorskip("gradio", reason="the extra 'app' is not installed")

from rvc_lightning.app import server
from rvc_lightning.app.service import Limits
from rvc_lightning.config.values import plain
from rvc_lightning.errors import ConfigurationError


def test_limits_come_from_the_configuration():
    with initialize_config_module("rvc_lightning.conf", version_base="1.3"):
        config = compose("app", overrides=["limits.most_seconds=5"])
    assert Limits(**plain(config.limits)).most_seconds == 5
    assert (config.host, config.port) == ("127.0.0.1", 7860)
    with pytest.raises(ConfigurationError, match="there is no setting of limits named 'most_secondz'"):
        Limits(**plain(config.limits) | {"most_secondz": 1})


def test_opening_it_to_the_network_is_warned_of(caplog, monkeypatch, tmp_path):
    monkeypatch.setattr(server, "application", lambda service, local: local)
    monkeypatch.setattr(server.uvicorn.Server, "run", lambda self, sockets: None)
    monkeypatch.setattr(server.uvicorn, "Config", lambda app, **more: app)
    caplog.set_level(logging.INFO)
    server.serve(None, "127.0.0.1", 0)
    assert "no password" not in caplog.text
    server.serve(None, "0.0.0.0", 0)
    assert "host=0.0.0.0: whoever reaches this machine can use the page, there is no password" in caplog.text
