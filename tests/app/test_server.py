"""What the server lets in and on, without a browser."""

import asyncio
import json
import socket
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="the extra 'app' is not installed")

import gradio as gr
from fastapi.testclient import TestClient
from gradio.components import Component

import rvc_lightning
from rvc_lightning.app.catalog import VoiceCatalog
from rvc_lightning.app.controls import NOT_HERE, Controls, control
from rvc_lightning.app.middleware import UploadOnlyMiddleware
from rvc_lightning.app.page import Page, _table
from rvc_lightning.app.server import application, is_loopback, listening, temporary_files
from rvc_lightning.app.service import ConversionService, Limits
from rvc_lightning.config.options import OptionField, option_fields
from rvc_lightning.conversion.effects import EFFECTS
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import ConfigurationError

LIMITS = Limits(most_seconds=3, most_megabytes=1, most_waiting=2, most_voices=2, keep_minutes=1)
HERE = {"host": "127.0.0.1:7860"}


@pytest.fixture(scope="module")
def service(tmp_path_factory, put_voice):
    folder = tmp_path_factory.mktemp("voices")
    put_voice(folder / "anna.pth")
    return ConversionService(VoiceCatalog(folder), lambda voice, index: pytest.fail("no voice is loaded here"), LIMITS)


@pytest.fixture(scope="module")
def client(service):
    with temporary_files(), TestClient(application(service, local=True), base_url="http://127.0.0.1:7860") as client:
        yield client


def config(client):
    return client.get("/config").json()


def join(client, name, recording):
    """Asks for a conversion as the page does, but for what is asked."""
    functions = config(client)["dependencies"]
    convert = next(one for one in functions if one["api_name"] == "convert_recording")
    components = {one["id"]: one for one in config(client)["components"]}
    values = []
    for number in convert["inputs"]:
        props = components[number]["props"]
        values.append({"voice": name, "recording": recording}.get(props.get("elem_id"), props.get("value")))
    asked = {"data": values, "fn_index": convert["id"], "session_hash": "abc", "trigger_id": None}
    return client.post("/gradio_api/queue/join", json=asked)


def file_data(path, **more):
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}, **more}


@pytest.mark.parametrize("more", [{}, {"is_stream": True}, {"url": "http://127.0.0.1/x.wav"}])
@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../secret.wav", "http://example.com/a.wav", "\0", rvc_lightning.__file__]
)
def test_recordings_are_those_that_were_sent(client, path, more):
    answer = join(client, "anna.pth", file_data(path, **more))
    assert answer.status_code == 403
    assert "was not uploaded" in answer.text


def test_a_path_that_leaves_the_uploads_is_refused(client):
    sent = client.post("/gradio_api/upload", files={"files": ("a.wav", b"abc", "audio/wav")}).json()[0]
    assert join(client, "anna.pth", file_data(sent)).status_code == 200
    assert join(client, "anna.pth", file_data(f"{sent}/../../../../../../../../etc/passwd")).status_code == 403


def test_requests_are_bounded(client):
    assert client.post("/gradio_api/queue/join", content=b'"' + b"x" * 2_000_000 + b'"').status_code == 413
    assert client.post("/gradio_api/queue/join", content=b"[" * 500_000).status_code in (400, 422)
    too_large = client.post("/gradio_api/upload", files={"files": ("a.wav", bytes(1_100_000), "audio/wav")})
    assert too_large.status_code == 413


@pytest.mark.parametrize("path", ["/etc/passwd", rvc_lightning.__file__, "../../../../etc/passwd"])
def test_no_other_file_is_served(client, path):
    assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_voices_are_not_served_either(client, service):
    assert client.get(f"/gradio_api/file={service.catalog.folder / 'anna.pth'}").status_code == 403


def test_other_names_of_this_machine_are_refused(client, service):
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"host": "evil.example:7860"}).status_code == 400
    with TestClient(application(service, local=False), base_url="http://somewhere:7860") as open_to_all:
        assert open_to_all.get("/").status_code == 200


def test_nothing_can_be_run_past_the_queue_or_by_name(client):
    for one in config(client)["dependencies"]:
        assert (one["api_visibility"], one["queue"]) == ("private", True)
        for route in ("run", "api", "call", "call/v2"):
            answer = client.post(f"/gradio_api/{route}/{one['api_name']}", json={"data": [], "fn_index": one["id"]})
            assert answer.status_code == 404
    assert client.put("/gradio_api/queue/join/", json={}).status_code == 404


def test_the_page_fetches_nothing_and_tells_nobody(client):
    page = client.get("/").text
    assert "fonts.googleapis.com" not in page
    assert "fonts.gstatic.com" not in client.get("/theme.css").text
    assert config(client)["analytics_enabled"] is False


def test_a_port_that_is_taken_is_one_clear_error():
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(
                ConfigurationError,
                match=f"host=127.0.0.1 port={port}: the port is taken by another program; choose another, such as ",
            ),
            listening("127.0.0.1", port),
        ):
            pass


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", -1), ("127.0.0.1", 65536), ("127.0.0.1", "x"), ("nowhere.invalid", 7860)]
)
def test_an_address_that_there_is_not(host, port, monkeypatch):
    def unknown(*arguments, **more):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConfigurationError, match=f"port={port}"), listening(host, port):
        pass


def test_loopback():
    assert all(map(is_loopback, ["127.0.0.1", "127.1.2.3", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "192.168.1.2", "example.com", ""]))


def fresh_controls():
    with gr.Blocks(analytics_enabled=False):
        return Controls()


def test_every_option_has_a_control_and_its_default_is_that_of_the_option():
    controls = fresh_controls()
    values = {one: one.value for one in controls.components}
    assert controls.options(values) == ConversionOptions()
    wanted = {one.name for one in option_fields(ConversionOptions)} - set(NOT_HERE)
    assert {one.elem_id for one in controls.components} >= {f"option-{name}" for name in wanted}


def test_what_is_chosen_reaches_the_options():
    controls = fresh_controls()
    values = {one.elem_id: one.value for one in controls.components}
    values |= {
        "option-transpose_semitones": 3,
        "option-proposed_pitch_hz": "155.5",
        "option-output_sample_rate": "16000",
        "option-output_format": "flac",
        "option-split_on_silence": True,
        "option-effects": ["reverb", "gain"],
        "option-reverb-room_size": 0.9,
    }
    options = controls.options({one: values[one.elem_id] for one in controls.components}, speaker=1)
    assert options == ConversionOptions(
        transpose_semitones=3,
        proposed_pitch_hz=155.5,
        output_sample_rate=16000,
        output_format="flac",
        split_on_silence=True,
        speaker=1,
        effects=[{"name": "reverb", "room_size": 0.9}, "gain"],
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("option-proposed_pitch_hz", "high", "proposed_pitch_hz='high': choose a number from 50 to 1100 Hz"),
        ("option-output_sample_rate", "44.1", "output_sample_rate='44.1': choose a whole number"),
        ("option-index_rate", "0.5", None),
        ("option-autotune", 2, "autotune=2: choose a number from 0 to 1"),
    ],
)
def test_what_cannot_be_chosen_is_named(name, value, message):
    controls = fresh_controls()
    values = {one: value if one.elem_id == name else one.value for one in controls.components}
    if message is None:
        assert controls.options(values).index_rate == 0.5
        return
    with pytest.raises(ConfigurationError, match=message):
        controls.options(values)


def test_a_new_option_gets_a_control_by_itself():
    def described(**facts):
        plain = {"default": 0.0, "help": "new", "unit": "", "low": None, "high": None, "choices": (), "optional": False}
        return control(OptionField(name="new_one", **plain | {"kinds": (float,)} | facts))

    assert described(min=0, max=1).get_block_name() == "slider"
    assert described(min=0).get_block_name() == "number"
    assert described(kinds=(bool,), default=False).get_block_name() == "checkbox"
    assert described(kinds=(str,), choices=("a", "b"), default="a").get_block_name() == "dropdown"
    assert described(kinds=(str,), default="").get_block_name() == "textbox"
    assert described(kinds=(float,), optional=True, default=None).get_block_name() == "textbox"
    assert isinstance(described(min=0, max=1), Component)


def test_every_effect_has_its_parameters():
    ids = {one.elem_id for one in fresh_controls().components}
    for name, effect in EFFECTS.items():
        assert {f"option-{name}-{one.name}" for one in option_fields(effect)} <= ids


def test_what_strangers_wrote_is_shown_as_text():
    shown = _table([("author", "<b>${1+1}</b> {{value}} `x`")])
    assert "<b>" not in shown
    assert not set("${}`") & set(shown)


def test_a_folder_without_voices_says_so(tmp_path):
    page = Page(ConversionService(VoiceCatalog(tmp_path), lambda voice, index: None, LIMITS))
    first, last = page.list_voices(None)
    assert "There are no voices in" in first[page.facts]
    assert first[page.voice]["choices"] == last[page.voice]["choices"] == []


def test_broken_voices_leave_the_list_and_what_is_chosen_meanwhile_stays(tmp_path, put_voice):
    put_voice(tmp_path / "good.pth")
    (tmp_path / "a bad one.pth").write_bytes(b"")
    (tmp_path / "worse.pth").write_bytes(b"")
    page = Page(ConversionService(VoiceCatalog(tmp_path), lambda voice, index: None, LIMITS))
    first, last = page.list_voices(None)
    assert first[page.voice] == {"__type__": "update", "choices": ["good.pth", "worse.pth"], "value": "good.pth"}
    assert last[page.voice] == {"__type__": "update", "choices": ["good.pth"]}
    assert last[page.unusable]["visible"]
    assert "worse.pth" in last[page.unusable_list]
    assert next(page.list_voices("good.pth"))[page.voice]["value"] == "good.pth"


def test_an_empty_click_says_what_is_missing(service):
    page = Page(service)
    given = {one: one.value for one in page.controls.components} | {page.speaker: 0}
    for name, expected in ((None, "Choose a voice first."), ("anna.pth", "Drop or record something to convert first.")):
        (answer,) = page.convert_recording(given | {page.voice: name, page.recording: None})
        assert expected in answer[page.status]
        assert answer[page.result]["value"] is None


def test_temporary_files_go(tmp_path):
    with temporary_files():
        folder = Path(tempfile.mkdtemp())
        assert folder.parent.stat().st_mode & 0o077 == 0
    assert not folder.parent.exists()
    assert Path(tempfile.gettempdir()) != folder.parent


def test_guard_passes_on_what_it_has_read():
    async def app(scope, receive, send):
        seen.append(await receive())

    async def receive():
        return parts.pop(0)

    seen, body = [], json.dumps({"data": ["anna"]}).encode()
    parts = [{"type": "http.request", "body": body[:5], "more_body": True}, {"type": "http.request", "body": body[5:]}]
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join"}
    asyncio.run(UploadOnlyMiddleware(app, folder=Path())(scope, receive, None))
    assert seen == [{"type": "http.request", "body": body, "more_body": False}]
