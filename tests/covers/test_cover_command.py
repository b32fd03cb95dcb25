"""`python -m rvc_lightning.cover` with a tiny voice and tiny separation models."""

import numpy as np
import pytest
import soundfile
from commanding import list_tree, run_command, single_error
from separation import write_model
from stubs import make_voice, quick_config

from rvc_lightning.audio.encode import write_audio

pytest.importorskip("pyloudnorm")
pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path, monkeypatch):
    make_voice(quick_config()).save(tmp_path / "anna.pth")
    rng, time = np.random.default_rng(0), np.arange(11025) / 11025
    for name, hertz in (("vocals", 200), ("music", 500)):
        audio = 0.1 * np.sin(2 * np.pi * hertz * time)[:, None] + rng.normal(0, 0.01, (11025, 2))
        write_audio(tmp_path / f"{name}.flac", audio.astype(np.float32), 11025)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cover(*overrides):
    return run_command("cover", "voice=anna.pth", "trainer.accelerator=cpu", *overrides)


def test_stems_are_covered_without_separation(folder):
    before = list_tree(folder)
    done = cover("vocals=vocals.flac", "instrumental=music.flac", "output=out/cover.mp3", "key_semitones=2")
    assert done.status == 0, done.text
    assert list_tree(folder) == before | {"out", "out/cover.mp3"}
    info = soundfile.info(folder / "out" / "cover.mp3")
    assert (info.samplerate, info.frames, info.channels) == (11025, 11025, 2)


def test_song_is_separated_once(folder):
    models = {part: write_model(folder / "models", part, target=part, instruments=(part, "rest")) for part in ("lead",)}
    models |= {"vocals": write_model(folder / "models", "vocals")}
    chosen = [f"separator.{part}.path={path}" for part, path in models.items()]
    done = cover("song=music.flac", "output=a.wav", "separation=lead", "keep_stems=true", *chosen)
    assert done.status == 0, done.text
    parts = sorted(path.name.partition(".")[2] for path in (folder / "stems").iterdir())
    assert parts == ["lead.wav", "vocals.wav"]
    assert (folder / "a.lead.wav").is_file() and (folder / "a.song_backing.wav").is_file()
    again = cover("song=music.flac", "output=b.wav", "separation=lead", "gains.lead=3", *chosen)
    assert again.status == 0 and "Found the lead of music.flac, separated earlier" in again.text
    assert soundfile.info(folder / "b.wav").frames == 11025


def test_mistakes_are_one_line_and_write_nothing(folder):
    before = list_tree(folder)
    stems = "vocals=vocals.flac", "instrumental=music.flac"
    assert "song=... is missing: name the recording" in single_error(cover("output=a.wav"))
    assert "output=... is missing: the file to write" in single_error(cover(*stems))
    assert "gone.mp3' cannot be read" in single_error(cover("song=gone.mp3", "output=a.wav"))
    assert "separation='all': choose one of: vocals, lead, dry" in single_error(
        cover("song=music.flac", "separation=all", "output=a.wav")
    )
    assert "separator.vocals.path=gone.ckpt" in single_error(
        cover("song=music.flac", "separator.vocals.path=gone.ckpt", "output=a.wav")
    )
    assert "write_f0=True: a cover has the length" in single_error(cover(*stems, "write_f0=true", "output=a.wav"))
    assert list_tree(folder) - {"stems"} == before
