"""Settings and links of `python -m rvc_lightning.app`."""

import logging
import re
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
from commanding import run_command, single_error
from disks import unreadable
from hydra import compose, initialize_config_module

pytest.importorskip("gradio", reason="the extra 'app' is not installed")

from rvc_lightning.app import server
from rvc_lightning.app.server import Site
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


def test_first_start_creates_the_folder_of_voices_but_no_other(started, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no such folder" in run_command("app", "voices=voicez", "trainer.accelerator=cpu", "port=0").text
    assert not started and list(tmp_path.iterdir()) == []
    started_once = run_command("app", "trainer.accelerator=cpu", "port=0")
    assert started_once.status == 0, started_once.text
    assert len(started) == 1 and (tmp_path / "voices").is_dir()


def test_folders_that_cannot_be_read_end_the_command(started, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("voices", "jobs"):
        (tmp_path / name).mkdir()
        with unreadable(tmp_path / name):
            error = single_error(run_command("app", "trainer.accelerator=cpu", "port=0"))
        assert re.search(rf"{name}.*' cannot be read or written: Permission denied; choose", error)
    assert not started


@pytest.fixture
def site(tmp_path):
    """A site whose service only has limits and a stop."""
    stopped = []
    limits = SimpleNamespace(max_stored_megabytes=1, keep_minutes=1)
    service = SimpleNamespace(limits=limits, stop=lambda: stopped.append(True), stopped=stopped)
    jobs = SimpleNamespace(wake=lambda: None, sweep=lambda keep_seconds: None, folder=tmp_path / "jobs")
    folders = SimpleNamespace(datasets=tmp_path / "datasets", runs=tmp_path / "runs")
    return Site(service, jobs, folders, settings={})


@pytest.fixture
def started(monkeypatch):
    """The accesses with which servers were started."""
    accesses = []
    monkeypatch.setattr(server, "application", lambda site, files, access: accesses.append(access))
    monkeypatch.setattr(server.uvicorn.Server, "run", lambda self, sockets: None)
    monkeypatch.setattr(server.uvicorn, "Config", lambda app, **more: app)
    return accesses


def test_only_the_network_needs_a_token(site, started):
    for host in ("127.0.0.1", "0.0.0.0"):
        server.serve(site, host, 0, None)
    local, network = started
    assert local.is_local and local.token is None and local.link == ""
    assert not network.is_local and len(network.token) >= 32 and network.link == f"/?token={network.token}"


def test_link_has_scheme_host_and_token(site, started, monkeypatch):
    links = []
    monkeypatch.setattr(server._Server, "__init__", lambda self, config, service, address: links.append(address))
    site = replace(site, token="a-token-of-a-user")
    monkeypatch.setattr(server.Certificate, "checked", lambda self: {})
    for host, certificate in (("127.0.0.1", None), ("::1", server.Certificate("a.pem", None))):
        server.serve(site, host, 0, certificate)
    assert re.fullmatch(r"http://127.0.0.1:\d+/\?token=a-token-of-a-user", links[0])
    assert links[1].startswith("https://[::1]:")


def test_short_tokens_and_missing_certificates_are_errors(site, started):
    with pytest.raises(ConfigurationError, match="token: use at least 16 characters"):
        server.serve(replace(site, token="short"), "127.0.0.1", 0, None)
    with pytest.raises(ConfigurationError, match=r"ssl_certfile=missing\.pem ssl_keyfile=None: No such file"):
        server.serve(site, "127.0.0.1", 0, server.Certificate("missing.pem", None))


def test_options_that_would_be_ignored_are_errors(started, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for option, message in (
        ("ssl_keyfile=a.pem", "name its certificate"),
        ("config_dir=mine", "no folder 'experiment'"),
    ):
        error = single_error(run_command("app", "trainer.accelerator=cpu", "port=0", option))
        assert option in error and message in error
    assert not started


def test_ctrl_c_right_after_the_address_stops_the_page(caplog, monkeypatch, site):
    class PressCtrlC(logging.Handler):
        def emit(self, record):
            if record.getMessage().startswith("Open "):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(server, "application", lambda *arguments: lambda scope, receive, send: None)
    caplog.set_level(logging.INFO)
    handler = PressCtrlC()
    server.log.addHandler(handler)
    try:
        server.serve(site, "127.0.0.1", 0, None)
    finally:
        server.log.removeHandler(handler)
    assert site.service.stopped and caplog.messages[-1] == "Stopped."
