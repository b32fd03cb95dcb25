"""`python -m rvc_lightning.speak` with a tiny voice."""

import shutil

import pytest
import soundfile
from commanding import list_tree, run_command, single_error
from stubs import make_voice, quick_config

pytestmark = [
    pytest.mark.slow,
    pytest.mark.program,
    pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    make_voice(quick_config()).save(tmp_path / "anna.pth")
    (tmp_path / "lines.txt").write_text("First line.\n\nThird line.\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def speak(*overrides):
    return run_command("speak", "voice=anna.pth", "trainer.accelerator=cpu", *overrides)


def test_text_becomes_a_file_with_all_options(folder):
    before = list_tree(folder)
    options = "output_sample_rate=24000", "transpose_semitones=3", "write_f0=true"
    done = speak("text=Good morning, Anna. How are you?", "output=a.flac", *options)
    assert done.status == 0, done.text
    assert list_tree(folder) == before | {"a.flac", "a.f0.csv"}
    info = soundfile.info(folder / "a.flac")
    assert info.samplerate == 24000 and 0.8 < info.duration < 10


def test_lines_become_files(folder):
    done = speak("text=lines.txt", "lines=true", "output=out", "output_format=mp3")
    assert done.status == 0, done.text
    assert list_tree(folder / "out") - {".converted.jsonl"} == {"0001.mp3", "0003.mp3"}


def test_whole_file_is_one_recording(folder):
    assert speak("text=lines.txt", "output=a.wav", "tts.words_per_minute=300").status == 0
    assert soundfile.info(folder / "a.wav").duration > 0.8


def test_mistakes_are_one_line_and_write_nothing(folder):
    before = list_tree(folder)
    for overrides, message in (
        (("output=a.wav",), "text=... is missing: the text, or a text file"),
        (("text=gone.txt", "output=a.wav"), "text=gone.txt: the file cannot be read"),
        (("text=...", "output=a.wav"), "it contains no words"),
        (("text=hi", "output=a.wav", "tts=festival"), "choose one of: edge, espeak, piper"),
        (("text=hi", "output=a.wav", "tts.voice=nobody"), "tts.voice=nobody: espeak-ng failed"),
        (("text=hi", "output=a.wav", "tts=piper"), "tts.path=... is missing: the voice, NAME.onnx"),
        (("text=hi", "output=a.wav", "speaker=9"), "speaker=9: the voice has"),
    ):
        assert message in single_error(speak(*overrides))
    assert list_tree(folder) == before
