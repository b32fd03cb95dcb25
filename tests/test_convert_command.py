"""The command `python -m rvc_lightning.convert`."""

import subprocess
import sys

import golden_rule
import numpy as np
import pytest
import soundfile
from commanding import run_command
from stubs import make_pitch_weights, make_voice, quick_config

from rvc_lightning.audio.encode import write_audio
from rvc_lightning.convert import VoiceSettings
from rvc_lightning.retrieval.index import build_index, save_index

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_voice(quick_config()).save(tmp_path / "voices" / "anna.pth")
    write_audio(tmp_path / "in" / "a.wav", golden_rule.stub_audio("command", 0.5), 16000)
    return tmp_path


def run(*overrides):
    return run_command("convert", *overrides)


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_converts_and_writes_nothing_else(folder):
    features = np.random.default_rng(0).standard_normal((50, 768)).astype(np.float32)
    save_index(build_index(features, 0), folder / "voices" / "anna.index")
    before = files(folder)
    settings = "transpose_semitones=2", "trainer.accelerator=cpu", "protect=0.3", "precision=bf16-mixed"
    command = [sys.executable, "-m", "rvc_lightning.convert", "voice=voices/anna.pth", "input=in", "output=out"]
    done = subprocess.run([*command, *settings], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert files(folder) == sorted([*before, "out/.converted.jsonl", "out/a.wav"])
    info = soundfile.info(folder / "out" / "a.wav")
    assert (info.samplerate, info.frames) == (8000, 4000)
    assert done.stderr.splitlines() == [
        "Loading PyTorch",
        "Index: voices/anna.index",
        "Wrote out/a.wav",
        "Converted 1 of 1 recording to 'out'",
    ]


def test_another_pitch_extractor_and_an_unused_index(folder):
    path = make_pitch_weights(folder, "rmvpe")
    chosen = "pitch=rmvpe", f"pitch.path={path}", "index=gone.index", "index_rate=0"
    done = run("voice=voices/anna.pth", "input=in", "output=out", *chosen, "trainer.accelerator=cpu")
    assert done.status == 0, done.errors
    assert soundfile.info(folder / "out" / "a.wav").frames == 4000


def test_options_on_the_command_line(folder):
    (folder / "curve.txt").write_text("0,150\n0.4,300\n")
    options = "f0_file=curve.txt", "write_f0=true", "clean_noise=0.5", "output_sample_rate=22050", "output_format=flac"
    done = run("voice=voices/anna.pth", "input=in", "output=out", "trainer.accelerator=cpu", *options)
    assert done.status == 0, done.errors
    assert files(folder / "out") == [".converted.jsonl", "a.f0.csv", "a.flac"]
    info = soundfile.info(folder / "out" / "a.flac")
    assert (info.samplerate, info.frames) == (22050, 11025)
    assert (folder / "out" / "a.f0.csv").read_text(encoding="utf-8").startswith("seconds,hz\n0.00,150\n")


def test_invalid_option_is_one_line(folder):
    done = run("voice=voices/anna.pth", "input=in", "output=out", "effects=[reverb,{name:gain,db:3}]")
    message = "Error: unknown setting of gain 'db'; choose one of: gain_db"
    assert (done.status, done.output, done.errors.strip()) == (1, "", message)
    assert not (folder / "out").exists()


def test_help_describes_options(folder):
    done = run("--help")
    assert "  protect=0.5 (0 to 0.5)\n      share of those features in consonants" in done.output
    assert "  reverb: reverberation of a room\n      room_size=0.5 (0 to 1): size of the room" in done.output


def test_error_is_one_line_and_exit_status_1(folder):
    done = run("voice=voices/anna.pth")
    assert (done.status, done.output) == (1, "")
    assert done.errors.strip() == "Error: input=... is missing: a recording or a folder"


def test_index_beside_the_voice(tmp_path, caplog):
    caplog.set_level("INFO")
    voice = {"voice": str(tmp_path / "anna.pth"), "content_path": None}
    assert VoiceSettings(**voice, index=None).index_path() is None
    assert "Index: none; no index beside" in caplog.text
    (tmp_path / "anna.index").touch()
    assert VoiceSettings(**voice, index=None).index_path() == tmp_path / "anna.index"
    assert VoiceSettings(**voice, index="other.index").index_path().name == "other.index"
    assert "Index: other.index" in caplog.text
