"""Files and folders: everything is converted or named, and nothing of the source is replaced."""

import logging

import golden_rule
import numpy as np
import pytest
import soundfile

from rvc_lightning import ConversionOptions
from rvc_lightning.audio.decode import load_audio
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.conversion.folder import convert_files
from rvc_lightning.errors import AudioError, ConfigurationError, VoiceError

OPTIONS = ConversionOptions()


class Doubler:
    """In place of a converter: doubles the rate, and refuses speaker 9."""

    def convert(self, source, options):
        audio, sample_rate = load_audio(source)
        if options.speaker == 9:
            raise VoiceError("no speaker 9")
        return np.repeat(audio, 2) / 2, 2 * sample_rate


def recording(path, seconds=0.1):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, golden_rule.stub_audio("folder", seconds), 16000)
    return path


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "in"
    recording(folder / "b.wav")
    recording(folder / "a.flac")
    recording(folder / "deep" / "er" / "c.ogg")
    return folder


def convert(source, output, **more):
    return convert_files(Doubler(), source, output, OPTIONS, **more)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_is_mirrored_in_order(source, tmp_path):
    report = convert(str(source), str(tmp_path / "out"))
    assert names(tmp_path / "out") == ["a.wav", "b.wav", "deep/er/c.wav"]
    assert report.converted == [tmp_path / "out" / name for name in names(tmp_path / "out")]
    assert soundfile.info(tmp_path / "out/a.wav").samplerate == 32000
    assert soundfile.info(tmp_path / "out/a.wav").frames == 3200


def test_other_formats(source, tmp_path):
    convert(source, tmp_path / "out", extension=".flac")
    assert names(tmp_path / "out") == ["a.flac", "b.flac", "deep/er/c.flac"]
    with pytest.raises(ConfigurationError, match=r"audio format to write named '.m4a'"):
        convert(source, tmp_path / "out", extension=".m4a")


def test_names_that_differ_in_their_extension(source, tmp_path):
    recording(source / "b.flac")
    convert(source, tmp_path / "out")
    assert names(tmp_path / "out") == ["a.wav", "b.flac.wav", "b.wav.wav", "deep/er/c.wav"]


@pytest.mark.parametrize(("output", "expected"), [("x/y.flac", "x/y.flac"), ("folder", "folder/b.wav"), ("", "b.wav")])
def test_a_file(source, tmp_path, output, expected):
    (tmp_path / "out").mkdir()
    report = convert(source / "b.wav", tmp_path / "out" / output)
    assert report.converted == [tmp_path / "out" / expected]
    assert names(tmp_path / "out") == [expected]


def test_what_is_no_recording_is_named(source, tmp_path, caplog):
    (source / "notes.txt").write_text("hello")
    (source / ".hidden.wav").write_bytes(b"x")
    with caplog.at_level(logging.INFO):
        report = convert(source, tmp_path / "out")
    assert [other.path for other in report.skipped] == [".hidden.wav", "notes.txt"]
    assert "Skipped notes.txt: not audio by its extension '.txt'" in caplog.text
    assert len(report.converted) == 3


def test_a_failing_file_does_not_stop_the_others(source, tmp_path):
    (source / "aa.wav").write_bytes(b"this is no wave file at all")
    with pytest.raises(AudioError, match=r"(?s)1 of 4 recordings failed:\n  .*aa.wav: .*cannot be decoded"):
        convert(source, tmp_path / "out")
    assert names(tmp_path / "out") == ["a.wav", "b.wav", "deep/er/c.wav"]


def test_all_fail(source, tmp_path):
    with pytest.raises(AudioError, match="3 of 3 recordings failed"):
        convert_files(Doubler(), source, tmp_path / "out", ConversionOptions(speaker=9))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("output", [".", "../in", "link"])
def test_a_recording_of_the_source_is_not_replaced(source, output):
    (source.parent / "in" / "link").symlink_to(source)
    before = {name: (source / name).read_bytes() for name in ("a.flac", "b.wav")}
    with pytest.raises(ConfigurationError, match=r"b.wav' is one of the recordings to convert"):
        convert(source / "b.wav", source / output)
    with pytest.raises(ConfigurationError, match=r"output: '.*' is the folder to convert"):
        convert(source, source / output)
    assert before == {name: (source / name).read_bytes() for name in before}


def test_an_output_inside_the_source_is_not_converted_again(source):
    for _ in range(2):
        assert len(convert(source, source / "out").converted) == 3


def test_nothing_to_convert(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(AudioError, match=r"there is no recording in '.*in'$"):
        convert(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "notes.txt").write_text("hello")
    with pytest.raises(AudioError, match=r"\(notes.txt: not audio"):
        convert(tmp_path / "in", tmp_path / "out")
    with pytest.raises(AudioError, match="there is no file or folder"):
        convert(tmp_path / "none", tmp_path / "out")


def test_a_folder_into_a_file(source, tmp_path):
    recording(tmp_path / "out.wav")
    with pytest.raises(ConfigurationError, match="is a file, but"):
        convert(source, tmp_path / "out.wav")
