"""`python -m rvc_lightning.convert`, run as a user runs it."""

import os
import subprocess
import sys

import golden_rule
import numpy as np
import pytest
import soundfile
from stubs import make_pitch_weights, make_voice, quick_config

from rvc_lightning.audio.encode import write_audio
from rvc_lightning.convert import index_of
from rvc_lightning.retrieval import build_index, save_index


@pytest.fixture
def folder(tmp_path):
    make_voice(quick_config()).save(tmp_path / "voices" / "anna.pth")
    write_audio(tmp_path / "in" / "a.wav", golden_rule.stub_audio("command", 0.5), 16000)
    return tmp_path


def run(folder, *overrides):
    command = [sys.executable, "-m", "rvc_lightning.convert", *overrides]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "HYDRA_FULL_ERROR": "0"}
    )


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_converts_and_leaves_nothing_else(folder):
    features = np.random.default_rng(0).standard_normal((50, 768)).astype(np.float32)
    save_index(build_index(features, 0), folder / "voices" / "anna.index")
    before = files(folder)
    done = run(
        folder,
        "voice=voices/anna.pth",
        "input=in",
        "output=out",
        "transpose_semitones=2",
        "accelerator=cpu",
        "protect=0.3",
        "precision=bf16-mixed",
    )
    assert done.returncode == 0, done.stderr
    assert files(folder) == sorted([*before, "out/a.wav"])
    info = soundfile.info(folder / "out" / "a.wav")
    assert (info.samplerate, info.frames) == (8000, 4000)
    assert done.stderr.splitlines() == [
        "Index: voices/anna.index",
        "Wrote out/a.wav",
        "Converted 1 of 1 recordings to 'out'",
    ]


def test_pitch_by_another_extractor(folder):
    path = make_pitch_weights(folder, "rmvpe")
    chosen = "pitch=rmvpe", f"pitch.path={path}"
    done = run(folder, "voice=voices/anna.pth", "input=in", "output=out", *chosen, "accelerator=cpu")
    assert done.returncode == 0, done.stderr
    assert soundfile.info(folder / "out" / "a.wav").frames == 4000


def test_a_mistake_is_one_line_and_exit_status_1(folder):
    done = run(folder, "voice=voices/anna.pth")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == "Error: input=... is missing: a recording or a folder"


def test_the_index_beside_the_voice(tmp_path, caplog):
    caplog.set_level("INFO")
    voice = str(tmp_path / "anna.pth")
    assert index_of(voice, None) is None
    assert "Index: none, there is no index of" in caplog.text
    (tmp_path / "anna.index").touch()
    assert index_of(voice, None) == tmp_path / "anna.index"
    assert index_of(voice, "other.index").name == "other.index"
    assert "Index: other.index" in caplog.text
