"""The tab Create: what it submits for covers and speech, and errors in words."""

import html
import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gradio", reason="the extra 'app' is not installed")

from sites import LIMITS, make_site

from rvc_lightning.app.catalog import VoiceCatalog
from rvc_lightning.app.server import page_of
from rvc_lightning.app.service import ConversionService
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.cli.overrides import parse_overrides
from rvc_lightning.jobs.job import OUTPUT, ProcessState
from rvc_lightning.jobs.store import JobStore

pytestmark = pytest.mark.slow


@pytest.fixture
def make_tab(tmp_path, write_voice, monkeypatch):
    """Return a function that builds the tab of a server with one voice; jobs never start, and espeak-ng is found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(JobStore, "wake", lambda self: None)
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: "espeak-ng" if name == "espeak-ng" else which(name))
    write_voice(tmp_path / "voices" / "anna.pth")

    def make(is_local=True):
        service = ConversionService(VoiceCatalog("voices"), lambda voice, index: None, LIMITS)
        return page_of(make_site(service, tmp_path), is_local).create

    return make


@pytest.fixture
def tab(make_tab):
    return make_tab()


@pytest.fixture
def song(tmp_path):
    path = tmp_path / "uploads" / "Lied 'é'.wav"
    path.parent.mkdir()
    write_audio(path, np.zeros(8000, dtype=np.float32), 8000)
    return str(path)


def press(tab, command, **values):
    """Press a button; return the shown message and the overrides of the only job, None if there is none."""
    given = {
        **{tab.voice: "anna.pth", tab.speaker: 0, tab.preset: "", tab.format: "wav", tab.transpose: 0},
        **dict.fromkeys(tab.uploads.values()),
        **{tab.separation: "vocals", tab.key: 0, tab.loudness: ""},
        **{tab.speech: "", tab.engine: "espeak", tab.speech_voice: None, tab.pitch: ""},
    }
    known = {**tab.uploads, **{name: control for name, control in vars(tab).items() if name in values}}
    given |= {known[name]: value for name, value in values.items()}
    shown = tab.start_cover(given) if command == "cover" else tab.start_speech(given)
    jobs = tab.workplace.jobs.jobs()
    if not jobs:
        assert not [path for path in tab.workplace.jobs.folder.iterdir() if path.is_dir()]
        return html.unescape(shown[tab.message]), None
    (job,) = jobs
    assert job.command == command
    overrides = {name: one.value() for name, one in parse_overrides(job.overrides).items()}
    return html.unescape(shown[tab.message]), {name: str(value) for name, value in overrides.items()}


def test_song_is_stored_with_the_job_and_covered(tab, song):
    shown, overrides = press(tab, "cover", song=song, separation="lead", key=-2, loudness="-14", transpose=12)
    stored = Path(overrides.pop("song"))
    assert stored.is_file() and stored.is_relative_to(tab.workplace.jobs.folder)
    output = Path(overrides.pop("output"))
    assert output.parent.name == OUTPUT and output.suffix == ".wav"
    assert overrides == {
        "voice": "voices/anna.pth",
        "separation": "lead",
        "key_semitones": "-2",
        "loudness_lufs": "-14",
        "transpose_semitones": "12",
    }
    assert "python -m rvc_lightning.cover" in shown


def test_stems_of_one_name_are_both_stored(tab, song):
    _, overrides = press(tab, "cover", vocals=song, instrumental=song)
    assert "song" not in overrides
    assert Path(overrides["vocals"]).is_file() and Path(overrides["instrumental"]).is_file()
    assert overrides["vocals"] != overrides["instrumental"]


@pytest.mark.parametrize("text", ["notes.txt", "/etc/passwd.txt", "Hello.\nSecond line: ${x} \ud800", "null"])
def test_text_is_never_the_name_of_a_file(tab, text):
    Path("notes.txt").write_text("secret")
    _, overrides = press(tab, "speak", speech=text, pitch="255", speech_voice="de")
    path = Path(overrides["text"])
    assert path.is_relative_to(tab.workplace.jobs.folder)
    assert path.read_text(encoding="utf-8") == text.encode("utf-8", "replace").decode()
    assert (overrides["tts"], overrides["tts.voice"], overrides["proposed_pitch_hz"]) == ("espeak", "de", "255")


@pytest.mark.parametrize(
    ("command", "values", "message"),
    [
        ("cover", {}, "Drop a song"),
        ("cover", {"voice": None}, "Choose a voice first"),
        ("cover", {"voice": "../x.pth", "song": ""}, "Unknown voice"),
        ("cover", {"vocals": "SONG"}, "Drop a song, or its vocals and its music"),
        ("cover", {"song": "SONG", "vocals": "SONG"}, "Drop a song, or its vocals and its music"),
        ("cover", {"song": "SONG", "loudness": "loud"}, "from -60 to -5 LUFS"),
        ("cover", {"song": "SONG", "key": 40}, "from -12 to 12 semitones"),
        ("speak", {"speech": " "}, "contains no words"),
        ("speak", {"speech": "Hello", "voice": None}, "Choose a voice first"),
        ("speak", {"speech": "Hello", "engine": None}, "No speech engine is installed"),
        ("speak", {"speech": "Hello", "pitch": "high"}, "from 50 to 1100 Hz"),
        ("speak", {"speech": "Hello", "speech_voice": "../x"}, "cannot be a voice of a speech engine"),
        ("speak", {"speech": "Hello", "engine": "piper"}, "NAME.onnx"),
    ],
)
def test_mistakes_are_explained_and_nothing_is_stored(tab, song, command, values, message):
    shown, overrides = press(
        tab, command, **{name: song if value == "SONG" else value for name, value in values.items()}
    )
    assert message in shown and 'class="status error"' in shown
    assert overrides is None


def test_only_local_visitors_may_name_any_piper_voice(make_tab, tmp_path):
    for name in ("voices/alba.onnx", "elsewhere.onnx"):
        for path in (tmp_path / name, tmp_path / f"{name}.json"):
            path.touch()
    assert make_tab().list_speech_voices("piper")["choices"] == ["alba.onnx"]
    tab = make_tab(is_local=False)
    assert tab._speech_voice("piper", "alba.onnx") == ["tts.path=voices/alba.onnx"]
    assert make_tab()._speech_voice("piper", str(tmp_path / "elsewhere.onnx"))
    for name in (str(tmp_path / "elsewhere.onnx"), "../elsewhere.onnx"):
        shown, overrides = press(tab, "speak", speech="Hello", engine="piper", speech_voice=name)
        assert "not found in the folder of voices" in shown and overrides is None


def test_only_installed_engines_are_offered(tab, monkeypatch):
    present = importlib.import_module

    def import_module(name, package=None):
        if name in ("piper", "edge_tts", "pymss_core", "pyloudnorm", "python_stretch"):
            raise ImportError(f"No module named '{name}'")
        return present(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)
    shown = tab.list_all(None, None)
    assert [name for _, name in shown[tab.engine]["choices"]] == ["espeak"]
    assert shown[tab.engine]["value"] == "espeak"
    assert "piper-tts" in shown[tab.speech_missing] and "pip install" in shown[tab.speech_missing]
    assert shown[tab.uploads["song"]]["visible"] is False
    assert shown[tab.make_cover]["interactive"] is False
    assert "pymss-core" in shown[tab.cover_missing]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    shown = tab.list_all(None, "espeak")
    assert shown[tab.engine]["value"] is None and shown[tab.speak]["interactive"] is False
    assert "apt install espeak-ng" in shown[tab.speech_missing]


def test_proposed_pitch_changes_with_the_voice(tab, write_voice):
    write_voice("voices/ben.pth", rvc_lightning={"speakers": ["ben"], "median_f0_hz": 110})
    tab.workplace.service.catalog.refresh()
    assert tab.describe("ben.pth", "", "172", "172")[tab.pitch] == "110"
    assert tab.pitch not in tab.describe("ben.pth", "", "172", "")


def test_waiting_jobs_are_limited(tab):
    for _ in range(LIMITS.max_waiting):
        tab.workplace.jobs.submit("speak", [], "")
    given = {tab.voice: "anna.pth"}
    assert "are already waiting" in tab.start_speech(given)[tab.message]


def test_result_of_an_ended_job_can_be_heard_and_downloaded(tab):
    press(tab, "speak", speech="Hello <b>")
    (job,) = tab.workplace.jobs.jobs()
    assert tab.show_result(None) == tab.show_result(job.id) == ""
    ProcessState(started=1.0).write(job.folder, ended=2.0, exit_status=0)
    shown = tab.show_result(job.id)
    assert shown.count(f'"/api/v1/jobs/{job.id}/result"') == 2
    assert "<audio" in shown and "download>Download</a>" in shown and "<b>" not in shown


def test_speakers_and_presets_of_a_voice_are_listed(tab):
    presets = Path("voices/anna.presets")
    presets.mkdir()
    (presets / "default.yaml").write_text("transpose_semitones: 12\n")
    shown = tab.describe("anna.pth")
    assert shown[tab.preset]["value"] == "default"
    assert len(shown[tab.speaker]["choices"]) > 1
    assert shown[tab.transpose] == 12
    _, overrides = press(tab, "speak", speech="Hello", preset="default", transpose=12)
    assert overrides["preset"] == "default"


def test_values_of_a_preset_are_shown_and_can_be_replaced(tab):
    presets = Path("voices/anna.presets")
    presets.mkdir()
    (presets / "song.yaml").write_text("transpose_semitones: 12\nspeaker: 1\n")
    shown = tab.show_preset("anna.pth", "song")
    assert (shown[tab.transpose], shown[tab.speaker]["value"]) == (12, 1)
    _, overrides = press(tab, "speak", speech="Hello", preset="song", speaker=0, transpose=0)
    assert (overrides["preset"], overrides["speaker"], overrides["transpose_semitones"]) == ("song", "0", "0")


def test_unchanged_values_of_a_preset_are_not_repeated(tab):
    presets = Path("voices/anna.presets")
    presets.mkdir()
    (presets / "song.yaml").write_text("transpose_semitones: 12\n")
    _, overrides = press(tab, "speak", speech="Hello", preset="song", transpose=12)
    assert "transpose_semitones" not in overrides
