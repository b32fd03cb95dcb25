"""The HTTP API: voices, conversions, jobs, and what requests cannot do."""

import errno
import io
import json
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import golden_rule
import pytest
import soundfile

pytest.importorskip("gradio", reason="the extra 'app' is not installed")

from disks import limited_file_size
from fastapi.testclient import TestClient
from sites import LIMITS, make_api
from stubs import StubPitch, cpu_trainer
from systems import LINKS

from rvc_lightning import Voice, VoiceConverter
from rvc_lightning.app import api as api_module
from rvc_lightning.app.catalog import VoiceCatalog
from rvc_lightning.app.problems import API
from rvc_lightning.app.service import ConversionService
from rvc_lightning.app.storage import visitor_files
from rvc_lightning.cli.overrides import format_override, parse_overrides
from rvc_lightning.data.manifest import DatasetHeader, write_manifest
from rvc_lightning.io.names import is_device
from rvc_lightning.io.processes import quote_argument
from rvc_lightning.jobs.job import ProcessState
from rvc_lightning.jobs.store import JobStore


@pytest.fixture
def folder(tmp_path, write_voice, monkeypatch):
    """Folders of a server, with a voice, recordings and a dataset; jobs never start."""
    monkeypatch.setattr(JobStore, "wake", lambda self: None)
    for name in ("anna", "more/ben"):
        write_voice(tmp_path / "voices" / f"{name}.pth")
    (tmp_path / "recordings" / "anna").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    # Links require privileges on Windows.
    if os.name != "nt":
        (tmp_path / "recordings" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "datasets" / "anna").mkdir(parents=True)
    header = DatasetHeader(sample_rate=24000, pitch={"name": "swift_f0"}, content={"name": "phonetic"})
    write_manifest(tmp_path / "datasets" / "anna", header, [])
    (tmp_path / "datasets" / "empty").mkdir()
    return tmp_path


@pytest.fixture
def service(folder):
    loaded = []

    def make_converter(voice, index):
        loaded.append(voice.name)
        return VoiceConverter(Voice.load(voice), index, pitch=StubPitch(), trainer=cpu_trainer())

    service = ConversionService(VoiceCatalog(folder / "voices"), make_converter, LIMITS)
    service.loaded = loaded
    return service


@pytest.fixture
def client(folder, service):
    with visitor_files(max_bytes=10**8, keep_seconds=60) as files:
        application = make_api(service, files, folder)
        with TestClient(application, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
            client.files = files
            yield client


@pytest.fixture
def store(folder):
    return JobStore(folder / "jobs")


def audio(seconds=0.5, rate=16000):
    stream = io.BytesIO()
    soundfile.write(stream, golden_rule.stub_audio("api", seconds), rate, format="WAV")
    return stream.getvalue()


def convert(client, content=None, name="a song.wav", **form):
    recording = {"recording": (name, audio() if content is None else content)}
    return client.post(f"{API}/convert", data={"voice": "anna.pth"} | form, files=recording)


def problem(response, status):
    """Return the line of a problem document."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert response.json()["status"] == status
    return response.json()["detail"]


def end(job, **changes):
    """Write the end of a job as the supervisor does."""
    ProcessState(started=1.0).write(job.folder, **{"ended": 2.0, "exit_status": 0} | changes)


def test_voices_and_datasets_are_listed(client, folder, write_voice):
    assert client.get(f"{API}/voices").json() == [{"name": "anna.pth"}, {"name": "more/ben.pth"}]
    write_voice(folder / "voices" / "new.pth")
    facts = client.get(f"{API}/voices/new.pth").json()
    assert (facts["sample_rate"], facts["index"]) == (8000, None)
    assert client.get(f"{API}/voices/more/ben.pth").status_code == 200
    datasets = client.get(f"{API}/datasets").json()
    assert datasets == [{"name": "anna", "sample_rate": 24000, "slices": 0, "speakers": ["0"]}]


@pytest.mark.parametrize("name", ["missing.pth", "..%2fsecret", "/etc/passwd", "anna.pth%00", "é"])
def test_unknown_voices_are_not_found(client, name):
    assert "unknown voice" in problem(client.get(f"{API}/voices/{name}"), 404)
    assert "unknown voice" in problem(convert(client, voice=name), 404)


def test_conversion_answers_with_audio(client, service, folder):
    response = convert(client, transpose_semitones=3, output_format="flac")
    assert response.headers["content-type"] == "audio/flac"
    assert (
        'filename="a song_anna.flac"'
        in response.headers["content-disposition"].replace("%20", " ").replace("*=utf-8''", '="') + '"'
    )
    assert soundfile.info(io.BytesIO(response.content)).frames == 4000
    assert convert(client).content != convert(client, transpose_semitones=3).content
    assert service.loaded == ["anna.pth"]
    assert not list(client.files.folder.glob("*/input"))


@pytest.mark.parametrize(
    ("form", "status", "message"),
    [
        ({"content": b"not audio"}, 415, "a song.wav"),
        ({"content": b""}, 415, "a song.wav"),
        ({"content": audio(4)}, 413, "longer than the limit of 3 seconds"),
        ({"index_rate": 2}, 422, "index_rate='2': Input should be less than or equal to 1"),
        ({"transpose_semitone": 2}, 422, "unknown field 'transpose_semitone'; /api/v1/docs lists the fields"),
        ({"output_format": "exe"}, 422, "output_format='exe': Input should be 'wav', 'flac', 'mp3', 'ogg' or 'm4a'"),
        ({"effects": "echoo"}, 422, "unknown effect 'echoo'"),
        ({"effects": "{"}, 422, "not a name, and not JSON"),
        ({"effects": '{"name": "gain", "gain": 1}'}, 422, "gain"),
        ({"autotune": 1, "proposed_pitch_hz": 200}, 422, "exclude each other"),
        ({"speaker": "nobody"}, 422, "nobody"),
        ({"f0_file": "/etc/passwd"}, 422, "f0_file"),
        ({"write_f0": True}, 422, "unknown field 'write_f0'"),
    ],
)
def test_mistakes_are_problems_in_one_line(client, folder, form, status, message):
    detail = problem(convert(client, **form), status)
    assert message in detail and "\n" not in detail and str(folder) not in detail and "/tmp" not in detail


def test_defect_is_a_problem_without_details(client, service, monkeypatch):
    monkeypatch.setattr(service, "convert", lambda *arguments: 1 / 0)
    assert problem(convert(client), 500) == "internal error; the log of the server has the details"
    assert list(Path(tempfile.gettempdir()).glob("*/input")) == []


def test_effects_are_names_or_tables(client):
    loud = convert(client, effects=["gain", '{"name": "gain", "gain_db": 6}'])
    assert loud.status_code in (200, 422)
    if loud.status_code == 422:
        assert "pedalboard" in problem(loud, 422)


def test_uploads_are_bounded(client):
    assert problem(convert(client, bytes(1_200_000)), 413) == "the file is too large"
    kind = {"content-type": "multipart/form-data; boundary=a"}
    assert "Content-Length" in problem(client.post(f"{API}/convert", content=iter([b"a"]), headers=kind), 411)
    assert problem(client.post(f"{API}/train", content=bytes(2_000_000)), 413) == "the request is too large"
    problem(client.put(f"{API}/voices/anna.pth", content=b""), 405)
    problem(client.get(f"{API}/nothing"), 404)


@pytest.mark.parametrize(
    "name",
    ["../../evil.wav", "..", ".hidden", "/etc/evil.wav", "a\\b.wav", "é" * 300, "", "-x", "con.wav", "AUX", "x. "],
)
def test_names_of_uploads_stay_in_the_folder_of_their_job(client, store, name):
    response = convert(client, name=name or "x", as_job=True)
    assert response.status_code == 202
    (job,) = store.jobs()
    (recording,) = (job.folder / "input").iterdir()
    assert format_override("input", recording) in job.overrides
    assert recording.name[0] not in ".-" and len(recording.name) <= 100
    assert not is_device(recording.name) and not recording.name.endswith((".", " "))


def test_conversion_as_a_job_keeps_its_files_with_the_job(client, store, folder):
    response = convert(client, as_job=True, transpose_semitones=12, effects=["gain"])
    job = store.job(response.json()["id"])
    assert response.headers["location"] == f"{API}/jobs/{job.id}"
    assert response.json()["state"] == "waiting" and job.title == "a song.wav"
    assert job.overrides == (
        format_override("voice", folder / "voices" / "anna.pth"),
        format_override("input", job.folder / "input" / "a song.wav"),
        format_override("output", job.folder / "output" / "a song_anna.wav"),
        "transpose_semitones=12.0",
        "effects=[gain]",
    )
    assert os.name == "nt" or f'input="{job.folder}/input/a song.wav"' in job.overrides
    result = f"{API}/jobs/{job.id}/result"
    assert "is waiting; its result is not complete" in problem(client.get(result), 409)
    (job.folder / "output").mkdir()
    (job.folder / "output" / "a song_anna.wav").write_bytes(audio())
    end(job)
    assert client.get(result).content == audio()
    assert client.delete(f"{API}/jobs/{job.id}").status_code == 204
    assert not job.folder.exists()


def test_conversion_with_a_pitch_curve_is_resumed_with_its_files(client, store):
    files = {"recording": ("song.wav", audio()), "f0_file": ("curve.csv", b"0,100")}
    form = {"voice": "anna.pth", "as_job": True}
    job = store.job(client.post(f"{API}/convert", data=form, files=files).json()["id"])
    store.stop(job.id)
    again = store.resume(job.id)
    store.remove(job.id)
    paths = {name: Path(one.value()) for name, one in parse_overrides(again.overrides).items()}
    assert paths["input"].read_bytes() == audio() and paths["f0_file"].read_bytes() == b"0,100"


def test_old_conversions_are_removed_and_other_jobs_kept(client, store, service, folder):
    convert(client, as_job=True)
    store.submit("train", [], "")
    for job in store.jobs():
        end(job)
    # Uploads of servers that were killed before they submitted the job.
    interrupted, uploading = (store.folder / store.new_id() for _ in range(2))
    for unsubmitted in (interrupted, uploading):
        (unsubmitted / "input").mkdir(parents=True)
    os.utime(interrupted, (1, 1))
    store.sweep(60)
    assert [job.command for job in store.jobs()] == ["train"]
    assert uploading.is_dir() and not interrupted.exists()


def test_recordings_are_added_to_a_folder_of_their_name(client, folder):
    def add(name, *files):
        return client.post(f"{API}/recordings", data={"name": name}, files=[("files", (file, b"x")) for file in files])

    assert add("ben é", "1.wav", "../2.wav").json() == {"name": "ben é", "files": ["1.wav", "2.wav"]}
    assert (folder / "recordings" / "ben é" / "2.wav").read_bytes() == b"x"
    assert "has a file '1.wav' already" in problem(add("ben é", "3.wav", "1.wav"), 409)
    for name in ("../x", ".x", "", "a/b", "a\\b", "a\0b"):
        problem(add(name, "1.wav"), 422)
    names = [entry["name"] for entry in client.get(f"{API}/recordings").json()]
    assert names == ["anna", "ben é"]
    assert client.post(f"{API}/prepare", json={"audio": "ben é"}).status_code == 202


@LINKS
@pytest.mark.parametrize("names", [("new.wav", "old.wav"), ("new.wav", "new.wav")])
def test_rejected_recordings_are_not_stored_in_part(client, folder, names):
    (folder / "recordings" / "ben").mkdir()
    (folder / "recordings" / "ben" / "old.wav").touch()
    files = [("files", (name, b"abc")) for name in names]
    assert "already" in problem(client.post(f"{API}/recordings", data={"name": "ben"}, files=files), 409)
    assert [path.name for path in (folder / "recordings" / "ben").iterdir()] == ["old.wav"]


def test_links_are_neither_listed_nor_written_to(client):
    form = {"data": {"name": "link"}, "files": {"files": ("1.wav", b"x")}}
    assert "is a link" in problem(client.post(f"{API}/recordings", **form), 409)
    assert [entry["name"] for entry in client.get(f"{API}/recordings").json()] == ["anna"]


def test_full_disk_is_a_problem(client, folder, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    assert "the disk is full" in problem(convert(client, as_job=True), 507)
    files = {"files": ("1.wav", b"x")}
    assert "the disk is full" in problem(client.post(f"{API}/recordings", data={"name": "x"}, files=files), 507)
    assert list((folder / "jobs").iterdir()) == list((folder / "recordings" / "x").iterdir()) == []


def test_upload_that_exceeds_the_disk_is_a_problem(client, folder):
    """Uploads of more than a megabyte are files as soon as they arrive."""
    with limited_file_size(500_000):
        assert "no space left" in problem(convert(client, bytes(600_000), as_job=True), 507)
        assert "no space left" in problem(convert(client, bytes((1 << 20) + 1000), as_job=True), 507)
        assert "no space left" in problem(convert(client, bytes((1 << 20) + 1000)), 507)
    assert list((folder / "jobs").iterdir()) == []


def test_training_sets_the_settings_of_the_request_only(client, store, folder):
    request = {
        "audio": "anna",
        "experiment": "quickstart",
        "name": "Anna é",
        "author": "${oc.env:HOME} 'a' \"b\"",
        "trainer.max_time": "00:00:10:00",
        "data.batch_size": 4,
        "optimizer.lr": 0.0005,
    }
    response = client.post(f"{API}/train", json=request)
    assert response.status_code == 202
    assert store.jobs()[0].overrides[:7] == (
        "+experiment=quickstart",
        format_override("audio", folder / "recordings" / "anna"),
        'name="Anna é"',
        'author="\\${oc.env:HOME} \'a\' \\"b\\""',
        'trainer.max_time="00:00:10:00"',
        "data.batch_size=4",
        "optimizer.lr=0.0005",
    )
    datasets = quote_argument(format_override("paths.datasets", folder / "datasets"))
    assert datasets in response.json()["shell_command"]
    assert os.name == "nt" or datasets == f"paths.datasets={folder}/datasets"


def test_training_chooses_its_batch_size(client, store):
    request = {"audio": "anna", "experiment": "quickstart", "data.batch_size": "auto", "data.step_slices": 16}
    assert client.post(f"{API}/train", json=request).status_code == 202
    assert {"data.batch_size=auto", "data.step_slices=16"} <= set(store.jobs()[0].overrides)


@pytest.mark.parametrize(
    ("route", "request_", "message"),
    [
        ("train", {"hydra.run.dir": "/tmp"}, "unknown field 'hydra.run.dir'; /api/v1/docs"),
        ("train", {"_target_": "os.system"}, "unknown field"),
        ("train", {"callbacks": "x"}, "unknown field"),
        ("train", {"checkpoint": "/tmp/x.ckpt"}, "unknown field"),
        ("train", {"experiment": "../voice"}, "experiment"),
        ("train", {"audio": "anna", "name": "../x"}, "name"),
        ("train", {"audio": "anna", "name": ".x"}, "name"),
        ("train", {"audio": "anna", "data.batch_size": "4; rm"}, "data.batch_size"),
        (
            "train",
            {"audio": "anna", "data.batch_size": 0},
            "data.batch_size=0: Input should be greater than",
        ),
        ("train", {"audio": "anna", "optimizer.lr": 0}, "optimizer.lr=0: Input should be greater than 0"),
        ("train", {"audio": "anna", "optimizer.lr": 1e-12}, "optimizer.lr=1e-12: choose a number from 1e-09 to 1"),
        ("train", {"audio": "anna", "trainer.max_time": "${now:}"}, "trainer.max_time"),
        ("train", {"audio": "missing"}, "'missing' not found in the folder of recordings; choose one of anna"),
        ("train", {"audio": "link"}, "'link' not found in the folder of recordings"),
        ("train", {"audio": "../secret"}, "'../secret' not found in the folder of recordings"),
        ("train", {"audio": "/etc"}, "'/etc' not found in the folder of recordings"),
        ("train", {"audio": "a\0b"}, "in the folder of recordings"),
        ("train", {"audio": "a" * 999}, "in the folder of recordings"),
        ("train", {"name": "missing"}, "'missing' not found in the folder of datasets"),
        ("train", {}, "audio: name the recordings"),
        ("prepare", {}, "audio: Field required"),
        ("prepare", {"audio": "../voices"}, "'../voices' not found"),
        ("prepare", {"audio": "anna", "paths.datasets": "/tmp"}, "unknown field"),
    ],
)
def test_requests_name_no_other_settings_and_no_paths(client, store, route, request_, message):
    assert message in problem(client.post(f"{API}/{route}", json=request_), 422)
    assert store.jobs() == []


def test_training_on_a_prepared_dataset(client, store):
    assert client.post(f"{API}/train", json={"name": "anna", "experiment": "voice"}).status_code == 202
    assert store.jobs()[0].overrides[:3] == ("+experiment=voice", "audio=null", "name=anna")


def test_dataset_that_nothing_uses_is_deleted(client, folder, store):
    job_id = client.post(f"{API}/train", json={"name": "anna", "experiment": "voice"}).json()["id"]
    assert "'anna' is used by 'anna'" in problem(client.delete(f"{API}/datasets/anna"), 409)
    store.stop(job_id)
    assert client.delete(f"{API}/datasets/anna").status_code == 204
    assert client.get(f"{API}/datasets").json() == [] and (folder / "recordings" / "anna").is_dir()
    for name in ("anna", "empty", "..", "%2e%2e", "..%2fsecret"):
        assert client.delete(f"{API}/datasets/{name}").status_code in (404, 405)
    assert (folder / "datasets" / "empty").is_dir() and (folder / "secret").is_dir()


def test_jobs_are_listed_canceled_resumed_and_removed(client, store):
    job_id = client.post(f"{API}/prepare", json={"audio": "anna"}).json()["id"]
    one = f"{API}/jobs/{job_id}"
    assert [job["id"] for job in client.get(f"{API}/jobs").json()] == [job_id]
    assert "stop it first" in problem(client.delete(one), 409)
    assert "stop it first" in problem(client.post(f"{one}/resume"), 409)
    assert client.post(f"{one}/cancel").json()["state"] == "stopped"
    again = client.post(f"{one}/resume").json()
    assert (again["command"], again["state"]) == ("prepare", "waiting")
    (store.folder / job_id / "log.txt").write_text("slicing é\n", encoding="utf-8")
    assert client.get(f"{one}/log").text == "slicing é\n"
    assert "has no result" in problem(client.get(f"{one}/result"), 404)
    assert client.delete(one).status_code == 204
    assert "unknown job" in problem(client.get(one), 404)


@pytest.mark.parametrize("action", ["", "/log", "/events", "/result"])
@pytest.mark.parametrize("name", ["none", "..", "%2e%2e", "20260101-000000-abcdef"])
def test_unknown_jobs_are_not_found(client, name, action):
    assert client.get(f"{API}/jobs/{name}{action}").status_code == 404


def test_too_many_waiting_jobs_are_rejected(client):
    for _ in range(LIMITS.max_waiting):
        assert client.post(f"{API}/prepare", json={"audio": "anna"}).status_code == 202
    response = client.post(f"{API}/train", json={"audio": "anna"})
    assert "2 jobs are already waiting" in problem(response, 429) and response.headers["retry-after"]
    problem(convert(client, as_job=True), 429)


@pytest.mark.slow
def test_events_end_with_the_job(client, store, monkeypatch):
    monkeypatch.setattr(api_module, "_EVENT_SECONDS", 0.05)
    monkeypatch.setattr(api_module, "_KEEP_ALIVE_SECONDS", 0.1)
    job = store.submit("train", [], "")
    # The response is complete when it is returned, so that the first events cannot be awaited.
    threading.Timer(4.0, end, [job]).start()
    with client.stream("GET", f"{API}/jobs/{job.id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    states = [json.loads(line.removeprefix("data: "))["state"] for line in lines if line.startswith("data: ")]
    assert states == ["waiting", "done"] and ": waiting" in lines


def test_events_end_when_the_job_is_removed(client, store):
    job = store.submit("train", [], "")
    end(job)
    assert client.get(f"{API}/jobs/{job.id}/events").text.count("data: ") == 1


def test_conversions_beyond_the_limit_are_rejected_and_none_is_lost(client, service, monkeypatch):
    running, most = [], []

    def slow(name, recording, options, folder, report):
        running.append(name)
        most.append(len(running))
        time.sleep(0.1)
        running.remove(name)
        result = folder / "result.wav"
        result.write_bytes(recording.read_bytes())
        return result

    monkeypatch.setattr(service, "convert", slow)
    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(lambda _: convert(client).status_code, range(8)))
    assert set(statuses) == {200, 429} and statuses.count(200) >= LIMITS.max_requests
    assert set(most) == {1} and len(most) == statuses.count(200)
    assert convert(client).status_code == 200


def test_documentation_loads_nothing_from_other_hosts(client):
    assert client.get("/docs").url.path == f"{API}/docs"
    page = client.get("/docs").text
    assert "http://" not in page and "https://" not in page
    for path in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        assert f"{API}/static-offline-docs/{path}" in page
        assert client.get(f"{API}/static-offline-docs/{path}").status_code == 200
    schema = client.get(f"{API}/openapi.json").json()
    assert schema["servers"] == [{"url": API}] and {"/convert", "/train", "/jobs"} <= set(schema["paths"])
