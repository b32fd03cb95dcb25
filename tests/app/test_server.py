"""Requests that the server accepts and rejects, and the components of the page, without a browser."""

import asyncio
import html
import json
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

pytest.importorskip("gradio", reason="the extra 'app' is not installed")

import gradio as gr
import uvicorn
from fastapi.testclient import TestClient
from gradio.components import Component
from sites import LIMITS, make_application, make_site
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from stubs import make_voice, quick_config

import rvc_lightning
from rvc_lightning.app import markup, server
from rvc_lightning.app.catalog import VoiceCatalog
from rvc_lightning.app.controls import EXCLUDED, Controls, control
from rvc_lightning.app.labels import in_words
from rvc_lightning.app.middleware import UploadOnlyMiddleware
from rvc_lightning.app.server import listening, page_of
from rvc_lightning.app.service import ConversionService
from rvc_lightning.app.storage import VisitorFiles, visitor_files
from rvc_lightning.app.tabs.convert import Order
from rvc_lightning.app.texts import Texts
from rvc_lightning.config.options import OptionField, option_fields
from rvc_lightning.conversion.effects import EFFECTS
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import ConfigurationError, UnknownJobError
from rvc_lightning.io.locks import delete_folder
from rvc_lightning.jobs.job import INPUT, ProcessState
from rvc_lightning.jobs.store import JobStore
from rvc_lightning.voice.info import read_voice_info
from rvc_lightning.voice.library import edit_voice


@pytest.fixture(scope="module")
def service(tmp_path_factory, write_voice):
    folder = tmp_path_factory.mktemp("voices")
    write_voice(folder / "anna.pth")
    return ConversionService(VoiceCatalog(folder), lambda voice, index: pytest.fail("a voice was loaded"), LIMITS)


@pytest.fixture(scope="module")
def files():
    with visitor_files(max_bytes=3_000_000, keep_seconds=3600) as files:
        yield files


@pytest.fixture(scope="module")
def client(service, files):
    page = make_application(service, files, files.folder.parent)
    with TestClient(page, base_url="http://127.0.0.1:7860") as client:
        yield client


def config(client):
    return client.get("/config").json()


def join(client, name, recording):
    """Request a conversion as the page does, with any voice and recording."""
    functions = config(client)["dependencies"]
    convert = next(entry for entry in functions if entry["api_name"] == "convert_recordings")
    components = {entry["id"]: entry for entry in config(client)["components"]}
    values = []
    for number in convert["inputs"]:
        props = components[number]["props"]
        values.append({"voice": name, "recording": [recording]}.get(props.get("elem_id"), props.get("value")))
    body = {"data": values, "fn_index": convert["id"], "session_hash": "abc", "trigger_id": None}
    return client.post("/gradio_api/queue/join", json=body)


def upload(client, content=b"abc", **headers):
    return client.post("/gradio_api/upload", files={"files": ("a.wav", content, "audio/wav")}, headers=headers)


def file_data(path, **more):
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}, **more}


@pytest.mark.parametrize("more", [{}, {"is_stream": True}, {"url": "http://127.0.0.1/x.wav"}])
@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../secret.wav", "http://example.com/a.wav", "\0", rvc_lightning.__file__]
)
def test_only_uploaded_files_can_be_converted(client, path, more):
    response = join(client, "anna.pth", file_data(path, **more))
    assert response.status_code == 403
    assert "was not uploaded" in response.json()["detail"]


def test_paths_outside_the_uploads_are_rejected(client):
    uploaded = upload(client).json()[0]
    assert join(client, "anna.pth", file_data(uploaded)).status_code == 200
    assert join(client, "anna.pth", file_data(f"{uploaded}/../../../../../../../../etc/passwd")).status_code == 403


def test_large_requests_are_rejected(client):
    assert client.post("/gradio_api/queue/join", content=b'"' + b"x" * 2_000_000 + b'"').status_code == 413
    assert client.post("/gradio_api/queue/join", content=b"[" * 500_000).status_code in (400, 422)
    assert upload(client, bytes(1_060_000)).status_code == 413
    assert upload(client, bytes(1_500_000)).status_code == 413


@pytest.mark.parametrize("path", ["/etc/passwd", rvc_lightning.__file__, "../../../../etc/passwd"])
def test_other_files_are_not_served(client, path):
    assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_voices_are_not_served(client, service):
    assert client.get(f"/gradio_api/file={service.catalog.folder / 'anna.pth'}").status_code == 403


def test_functions_cannot_be_called_without_the_queue(client):
    for entry in config(client)["dependencies"]:
        # The others run in the browser only.
        assert (entry["api_visibility"], entry["queue"]) == ("private", entry["backend_fn"])
        for route in ("run", "api", "call", "call/v2"):
            response = client.post(
                f"/gradio_api/{route}/{entry['api_name']}", json={"data": [], "fn_index": entry["id"]}
            )
            assert response.status_code == 404
    assert client.put("/gradio_api/queue/join/", json={}).status_code == 404


def test_page_loads_nothing_from_other_hosts(client):
    page = client.get("/").text
    assert "fonts.googleapis.com" not in page
    assert "fonts.gstatic.com" not in client.get("/theme.css").text
    assert config(client)["analytics_enabled"] is False


def test_port_in_use_is_an_error():
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(
                ConfigurationError,
                match=f"host=127.0.0.1 port={port}: another program uses the port; choose another, or port=0",
            ),
            listening("127.0.0.1", port),
        ):
            pass


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this system has no sockets for both protocols")
def test_all_addresses_include_those_of_the_link():
    with listening("::", 0) as listener, socket.create_connection(("127.0.0.1", listener.getsockname()[1]), 5):
        assert ":" not in server._reachable("::")


def test_link_is_an_address_of_ipv6_where_no_other_is_listened_on(monkeypatch):
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    assert server._reachable("::").startswith("[")


def test_jobs_are_watched_after_an_error(service, tmp_path, monkeypatch):
    errors, woken = [OSError(28, "No space left on device"), UnknownJobError("unknown job")], threading.Event()

    def wake(store):
        if errors:
            raise errors.pop()
        woken.set()

    monkeypatch.setattr(JobStore, "wake", wake)
    monkeypatch.setattr(server, "_WATCH_SECONDS", 0.01)
    with server._watched(make_site(service, tmp_path)):
        assert woken.wait(20)


def test_deletions_of_a_killed_server_are_completed(service, tmp_path, monkeypatch):
    monkeypatch.setattr(JobStore, "wake", lambda self: None)
    site = make_site(service, tmp_path)
    (tmp_path / "runs" / "anna" / "1").mkdir(parents=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", Mock(side_effect=KeyboardInterrupt))
        delete_folder(tmp_path / "runs" / "anna" / "1", tmp_path / "runs")
    assert len(list((tmp_path / "runs").iterdir())) == 2
    with server._watched(site):
        pass
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["anna"]


def test_uploads_of_ended_jobs_are_deleted_at_exit(service, tmp_path, monkeypatch):
    monkeypatch.setattr(JobStore, "wake", lambda self: None)
    jobs = make_site(service, tmp_path).jobs
    ended, waiting = (jobs.submit("cover", [], "") for _ in range(2))
    for job in (ended, waiting):
        (job.folder / INPUT).mkdir()
    ProcessState(started=1.0).write(ended.folder, ended=time.time(), exit_status=0)
    with server._watched(make_site(service, tmp_path)):
        pass
    assert [job.id for job in jobs.jobs()] == [waiting.id]


def test_unknown_host_is_an_error(monkeypatch):
    def unknown(*arguments, **more):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConfigurationError, match="port=7860"), listening("nowhere.invalid", 7860):
        pass


def new_controls():
    with gr.Blocks(analytics_enabled=False):
        controls = Controls(Texts())
        controls.add_others()
        return controls


def test_every_option_has_a_control_with_its_default():
    controls = new_controls()
    values = {component: component.value for component in controls.components}
    assert controls.options(values) == ConversionOptions()
    expected = {option.name for option in option_fields(ConversionOptions)} - set(EXCLUDED)
    assert {component.elem_id for component in controls.components} >= {f"option-{name}" for name in expected}


def test_chosen_values_become_options():
    controls = new_controls()
    values = {component.elem_id: component.value for component in controls.components}
    values |= {
        "option-transpose_semitones": 3,
        "option-proposed_pitch_hz": "155.5",
        "option-output_sample_rate": "16000",
        "option-output_format": "flac",
        "option-split_on_silence": True,
        "option-effects": ["reverb", "gain"],
        "option-reverb-room_size": 0.9,
    }
    options = controls.options({component: values[component.elem_id] for component in controls.components}, speaker=1)
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
        ("option-autotune", 2, "autotune=2.*: choose a number from 0 to 1"),
    ],
)
def test_invalid_values_are_rejected(name, value, message):
    controls = new_controls()
    values = {component: value if component.elem_id == name else component.value for component in controls.components}
    if message is None:
        assert controls.options(values).index_rate == 0.5
        return
    with pytest.raises(ConfigurationError, match=message):
        controls.options(values)


def test_control_follows_the_type_of_the_option():
    def described(**facts):
        plain = {"default": 0.0, "help": "new", "unit": "", "choices": (), "optional": False}
        return control(OptionField(name="new_one", **plain | {"kinds": (float,)} | facts), Texts())

    assert described(min=0, max=1).get_block_name() == "slider"
    assert described(min=0).get_block_name() == "number"
    assert described(kinds=(bool,), default=False).get_block_name() == "checkbox"
    assert described(kinds=(str,), choices=("a", "b"), default="a").get_block_name() == "dropdown"
    assert described(kinds=(str,), default="").get_block_name() == "textbox"
    assert described(kinds=(float,), optional=True, default=None).get_block_name() == "textbox"
    assert isinstance(described(min=0, max=1), Component)


def test_every_effect_has_controls_for_its_parameters():
    ids = {component.elem_id for component in new_controls().components}
    for name, effect in EFFECTS.items():
        assert {f"option-{name}-{option.name}" for option in option_fields(effect)} <= ids


VISITOR = SimpleNamespace(session_hash="visitor")


def convert_tab(service):
    return page_of(make_site(service, Path(tempfile.mkdtemp())), is_local=True).convert


def given(tab, voice, *recordings):
    """Return the values of the inputs of a conversion."""
    values = {component: component.value for component in tab.controls.components}
    others = {tab.speaker: 0, tab.voice: voice, tab.recordings: list(recordings), tab.microphone: None, tab.clips: []}
    return values | others


def test_stop_ends_a_waiting_conversion(service):
    page = convert_tab(service)
    assert "No conversion of yours is running." in page.stop_conversion(VISITOR)
    with service.line.ticket():
        waiting = page.convert_recordings(given(page, "anna.pth", "/nowhere.wav"), VISITOR)
        next(waiting)
        page.stop_conversion(VISITOR)
        assert [markup.status("Stopped.", "error")] == [update[page.status] for update in waiting]
    assert "No conversion of yours is running." in page.stop_conversion(VISITOR)


def test_stop_ends_all_conversions_of_a_visitor_and_no_other(service):
    page, other = convert_tab(service), SimpleNamespace(session_hash="other")
    with service.line.ticket():
        runs = [
            page.convert_recordings(given(page, "anna.pth", "/nowhere.wav"), VISITOR),
            page.convert_beginnings(given(page, "anna.pth", "/nowhere.wav"), VISITOR),
        ]
        for run in runs:
            next(run)
        assert "No conversion of yours is running." in page.stop_conversion(other)
        page.stop_conversion(VISITOR)
        for run in runs:
            assert [update[page.status] for update in run] == [markup.status("Stopped.", "error")]
    assert any(function.fn == page.stop_session for function in page.workplace.blocks.fns.values())


def test_results_of_many_recordings_are_all_kept(service, tmp_path):
    page, converted = convert_tab(service), []
    for number in range(30):
        pair = tmp_path / f"{number}.wav", tmp_path / f"{number}_anna.wav"
        for path in pair:
            path.touch()
        converted.append(pair)
    order = Order("anna.pth", [source for source, _ in converted], ConversionOptions(), is_preview=False)
    shown = page._answer(order, converted, [], "1.0", [])
    assert len(shown[page.choice_a]["choices"]) == 60 and shown[page.choice_a]["value"] == 0
    again = page._answer(order, converted[:1], [], "1.0", shown[page.clips])
    assert [again[page.clips][again[choice]["value"]].title for choice in (page.choice_a, page.choice_b)] == [
        "0.wav",
        "0 → anna",
    ]
    assert len(again[page.clips]) == 42


def test_damaged_recording_of_a_preview_is_named_without_its_folder(service, tmp_path):
    page = convert_tab(service)
    (tmp_path / "song.wav").write_bytes(b"no audio")
    *_, last = page.convert_beginnings(given(page, "anna.pth", str(tmp_path / "song.wav")), VISITOR)
    assert "song.wav" in last[page.status] and str(tmp_path) not in last[page.status]


def test_options_without_effect_on_a_voice_are_disabled():
    controls = new_controls()
    by_id = {component.elem_id: component for component in controls.components}
    values = {by_id["option-transpose_semitones"]: 12, by_id["option-formant_semitones"]: 3}
    shown = controls.for_voice(values, {"transpose_semitones", "formant_semitones", "index_rate"})
    assert shown[by_id["option-transpose_semitones"]] == gr.update(value=12, interactive=False)
    assert shown[by_id["option-formant_semitones"]] == gr.update(value=0, interactive=False)
    assert shown[by_id["option-index_rate"]] == gr.update(interactive=False)
    shown = controls.for_voice(values, set())
    assert shown[by_id["option-formant_semitones"]] == gr.update(value=3, interactive=True)


def test_options_of_a_preset_end_with_its_voice(tmp_path, write_voice):
    for name in ("anna", "ben"):
        write_voice(tmp_path / f"{name}.pth")
    (tmp_path / "anna.presets").mkdir()
    (tmp_path / "anna.presets" / "default.yaml").write_text("transpose_semitones: 12\nspeaker: 1\n")
    page = convert_tab(ConversionService(VoiceCatalog(tmp_path), lambda voice, index: None, LIMITS))
    transpose = next(one for one in page.controls.components if one.elem_id == "option-transpose_semitones")
    anna, ben = page.describe("anna.pth", ""), page.describe("ben.pth", "default")
    assert (anna[transpose]["value"], anna[page.speaker]["value"]) == (12, 1)
    assert (ben[transpose]["value"], ben[page.presets.name], ben[page.presets.choice]["value"]) == (0, "", "")
    assert "value" not in page.describe("ben.pth", "")[transpose]


def test_proposed_pitch_of_a_voice_changes_with_the_voice(tmp_path):
    for name, pitch_hz in (("anna", 171.6), ("ben", 110.0), ("flat", None)):
        config = quick_config(speaker_count=1)
        make_voice(config, rvc_lightning={"median_f0_hz": pitch_hz}).save(tmp_path / f"{name}.pth")
    page = convert_tab(ConversionService(VoiceCatalog(tmp_path), lambda voice, index: None, LIMITS))
    own, proposed = page.pitch, page.pitch.proposed
    shown = page.describe("anna.pth")
    assert shown[own.pitch] == "172" and "172 Hz" in shown[own.button]["value"] and "value" not in shown[proposed]
    assert page.describe("ben.pth", "", "172", "172")[proposed]["value"] == "110"
    assert "value" not in page.describe("ben.pth", "", "172", "150")[proposed]
    shown = page.describe("flat.pth", "", "172", "172")
    assert shown[proposed]["value"] == "" and not shown[own.button]["visible"]


def test_preset_is_saved_and_applied_with_its_speaker(tmp_path, write_voice):
    edit_voice(write_voice(tmp_path / "anna.pth"), speakers=["Anna", "Ben"])
    page = convert_tab(ConversionService(VoiceCatalog(tmp_path), lambda voice, index: None, LIMITS))
    inputs = given(page, "anna.pth") | {page.speaker: "Ben", page.presets.name: "song"}
    assert "Saved" in page.presets.save(inputs)[page.presets.status]
    assert (tmp_path / "anna.presets" / "song.yaml").read_text() == "speaker: Ben\n"
    assert page.presets.apply("anna.pth", "song")[page.speaker]["value"] == "Ben"
    assert page.presets.apply("anna.pth", "")[page.speaker]["value"] == page.describe("anna.pth")[page.speaker]["value"]


def test_controls_show_the_options_of_a_preset():
    with gr.Blocks():
        controls = Controls(Texts())
        controls.add_others()
    options = ConversionOptions(
        transpose_semitones=3, seed=4, noise_scale=0.5, effects=["gain", {"name": "reverb", "room_size": 0.8}]
    )
    values = {component: component.value for component in controls.components} | controls.updates(options)
    assert controls.options(values) == options
    assert controls.options(values | controls.updates(ConversionOptions())) == ConversionOptions()


@pytest.mark.parametrize(
    ("message", "language", "words"),
    [
        ("autotune=2: choose a number from 0 to 1", "de", "Autotune = 2: choose a number from 0 to 1"),
        ("preset='': choose a name", "en", "Preset = empty: choose a name"),
        ("gate_db='x': choose a number or null", "de", "Noise-Gate-Schwelle (dB) = 'x': choose a number or leer"),
        ("autotune=0.5 and f0_file=x.txt exclude each other", "de", "Autotune = 0.5 and Tonhöhendatei = x.txt exclude"),
        ("trainer.max_time=x: choose one, or null", "en", "Time limit = x: choose one, or null"),
        ("reverb.room_size=3: choose", "en", "Reverb, Room size = 3: choose"),
        (
            "lower data.batch_size or model.crop_frames, or",
            "en",
            "lower 'Batch size' or 'Length of excerpts (frames)', or",
        ),
        ("per step with batch_size=auto.", "en", "per step with Batch size = auto."),
        ("the seed of 'a/pitch=1.wav' and sample_rate.txt", "en", "the seed of 'a/pitch=1.wav' and sample_rate.txt"),
    ],
)
def test_messages_have_the_labels_of_the_page(message, language, words):
    assert in_words(message, Texts(language)).startswith(words)


def test_sentences_keep_the_names_of_settings():
    assert markup.sentence("choose a voice") == "Choose a voice."
    assert markup.sentence("data.batch_size=0: choose 1 or more.") == "data.batch_size=0: choose 1 or more."


def test_untrusted_text_is_escaped():
    table = markup.table([("author", "<b>${1+1}</b> {{value}} `x`")])
    assert "<b>" not in table
    assert not set("${}`") & set(table)


def test_folder_without_voices_shows_a_notice(tmp_path):
    page = convert_tab(ConversionService(VoiceCatalog(tmp_path), lambda voice, index: None, LIMITS))
    first, last = page.list_voices(None)
    assert first[page.notice]["visible"] and "No voices in" in first[page.notice]["value"]
    assert first[page.voice]["choices"] == last[page.voice]["choices"] == []


def test_broken_voices_leave_the_list_and_the_choice_is_kept(tmp_path, write_voice):
    write_voice(tmp_path / "good.pth")
    (tmp_path / "a bad one.pth").write_bytes(b"")
    (tmp_path / "worse.pth").write_bytes(b"")
    page = convert_tab(ConversionService(VoiceCatalog(tmp_path), lambda voice, index: None, LIMITS))
    first, last = page.list_voices(None)
    assert first[page.voice] == {"__type__": "update", "choices": ["good.pth", "worse.pth"], "value": "good.pth"}
    assert last[page.voice] == {"__type__": "update", "choices": ["good.pth"]}
    assert last[page.unusable]["visible"]
    assert "worse.pth" in last[page.unusable_list]
    assert next(page.list_voices("good.pth"))[page.voice]["value"] == "good.pth"


def test_missing_inputs_are_reported(service):
    page = convert_tab(service)
    for name, expected in ((None, "Choose a voice first."), ("anna.pth", "Drop or record something to convert first.")):
        (update,) = page.convert_recordings(given(page, name), VISITOR)
        assert expected in update[page.status]


def middleware(app):
    return UploadOnlyMiddleware(app, Path(), VisitorFiles(Path("nowhere"), 10**6, keep_seconds=60), 10**6)


def test_middleware_forwards_the_body_that_it_has_read():
    async def app(scope, receive, send):
        received.append(await receive())

    async def receive():
        return parts.pop(0)

    received, body = [], json.dumps({"data": ["anna"]}).encode()
    parts = [{"type": "http.request", "body": body[:5], "more_body": True}, {"type": "http.request", "body": body[5:]}]
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "headers": []}
    asyncio.run(middleware(app)(scope, receive, None))
    assert received == [{"type": "http.request", "body": body, "more_body": False}]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:7860"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://proxy.example"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:8000"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_requests_of_other_sites_are_rejected(client, headers, status):
    assert upload(client, **headers).status_code == status
    if status == 403:
        assert client.post("/gradio_api/queue/join", json={}, headers=headers).status_code == 403


def test_uploads_are_bounded_in_total(client, files):
    (files.folder / "other").write_bytes(bytes(files.max_bytes - 500_000))
    response = upload(client, bytes(600_000))
    assert (response.status_code, response.text) == (507, "the page's storage is full; try again in a few minutes")
    assert upload(client).status_code == 200
    (files.folder / "other").unlink()
    assert upload(client, bytes(600_000)).status_code == 200


def test_uploads_need_a_length(client):
    response = client.post("/gradio_api/upload", content=(part for part in [b"a"]))
    assert response.status_code == 411


def test_stalled_uploads_are_disconnected(monkeypatch):
    monkeypatch.setattr("rvc_lightning.app.middleware._MAX_IDLE_SECONDS", 0.05)

    async def app(scope, receive, send):
        async for _ in Request(scope, receive).stream():
            pass

    async def receive():
        if parts:
            return parts.pop()
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    parts, sent = [{"type": "http.request", "body": b"half", "more_body": True}], []
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "headers": [(b"content-length", b"8")]}
    asyncio.run(middleware(app)(scope, receive, send))
    assert sent[0]["status"] == 408


def test_page_loads_do_not_count_as_conversions(service):
    assert convert_tab(service).workplace.blocks._queue.max_size is None


def test_waiting_visitors_see_the_length_of_the_queue(service):
    page = convert_tab(service)
    inputs = given(page, "anna.pth", "/nowhere.wav")
    with service.line.ticket():
        waiting = page.convert_recordings(inputs, VISITOR)
        assert "Conversions of other visitors ahead: 1." in next(waiting)[page.status]
        with service.line.ticket():
            (rejected,) = page.convert_recordings(inputs, VISITOR)
            assert "2 conversions are already waiting; try again in a few minutes." in rejected[page.status]
    (update,) = waiting
    assert "nowhere.wav" in update[page.status]


@pytest.mark.slow
def test_malformed_voice_files_do_not_hide_the_others(tmp_path, write_voice, monkeypatch):
    def raise_for_bad(path):
        if path.name == "bad.pth":
            raise TypeError("unhashable type: 'list'")
        return read_voice_info(path)

    monkeypatch.setattr("rvc_lightning.app.catalog.read_voice_info", raise_for_bad)
    write_voice(tmp_path / "good.pth")
    write_voice(tmp_path / "bad.pth")
    page = convert_tab(ConversionService(VoiceCatalog(tmp_path), lambda voice, index: None, LIMITS))
    last = list(page.list_voices(None))[-1]
    assert last[page.voice]["choices"] == ["good.pth"]
    assert "'bad.pth' cannot be read as a voice" in html.unescape(last[page.unusable_list])


@pytest.mark.slow
def test_incomplete_requests_time_out(service, files, monkeypatch):
    monkeypatch.setattr(server, "_HEADER_SECONDS", 0.5)

    async def app(scope, receive, send):
        await PlainTextResponse("ok")(scope, receive, send)

    with listening("127.0.0.1", 0) as listener:
        config = uvicorn.Config(app, http=server._Protocol, lifespan="off", log_level="critical")
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        for start in (b"", b"GET / HTTP/1.1\r\nHost: 127", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HT"):
            with socket.create_connection(listener.getsockname(), timeout=10) as connection:
                connection.sendall(start)
                received = b"".join(iter(lambda: connection.recv(4096), b""))
                assert (b"ok" in received) == (b"Host: a" in start)
        running.should_exit = True
        thread.join(10)
