"""Conversion behind the page: bounds, voices that stay loaded, errors in the words of the page."""

import shutil
from dataclasses import replace

import golden_rule
import numpy as np
import pytest
import soundfile
import torch
from stubs import StubPitch, steady_trainer

from rvc_lightning import ConversionOptions, Voice, VoiceConverter
from rvc_lightning.app.catalog import VoiceCatalog
from rvc_lightning.app.service import ConversionService, Limits, seconds_of
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.errors import AudioError, ConfigurationError, OutOfMemoryError, RVCError, VoiceError

LIMITS = Limits(most_seconds=3, most_megabytes=1, most_waiting=2, most_voices=2, keep_minutes=1)
OPTIONS = ConversionOptions()

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the program ffmpeg is not installed")


@pytest.fixture
def service(tmp_path, put_voice):
    for name in ("anna", "ben", "carl"):
        put_voice(tmp_path / "voices" / f"{name}.pth")
    made = []

    def make_converter(voice, index):
        made.append(voice.stem)
        return VoiceConverter(Voice.load(voice), index, pitch=StubPitch(), trainer=steady_trainer())

    service = ConversionService(VoiceCatalog(tmp_path / "voices"), make_converter, LIMITS)
    service.made = made
    return service


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "a song.wav"
    write_audio(path, golden_rule.stub_audio("app", 0.5), 16000)
    return path


def convert(service, recording, folder, options=OPTIONS, name="anna.pth", report=lambda share, what: None):
    return service.convert(name, recording, options, folder, report)


def test_the_result_is_a_file_named_after_both(service, recording, tmp_path):
    told = []
    written = convert(service, recording, tmp_path / "out", report=lambda *what: told.append(what))
    assert written == tmp_path / "out" / "a song_anna.wav"
    assert (soundfile.info(written).samplerate, soundfile.info(written).frames) == (8000, 4000)
    assert told[0] == (0.0, "Loading the voice")
    assert told[-1] == (1.0, "Converting")
    hooks = service.converter("anna.pth").voice.synthesizer.generator._forward_hooks
    assert not hooks


@pytest.mark.parametrize(("name", "rate"), [("flac", 11025), ("mp3", 8000), ("ogg", 16000)])
def test_format_and_rate(service, recording, tmp_path, name, rate):
    options = ConversionOptions(output_format=name, output_sample_rate=rate)
    written = convert(service, recording, tmp_path, options)
    assert written.suffix == f".{name}"
    assert soundfile.info(written).samplerate == rate


def test_options_reach_the_voice(service, recording, tmp_path):
    plain = soundfile.read(convert(service, recording, tmp_path / "1"))[0]
    moved = soundfile.read(convert(service, recording, tmp_path / "2", ConversionOptions(transpose_semitones=12)))[0]
    again = soundfile.read(convert(service, recording, tmp_path / "3"))[0]
    np.testing.assert_array_equal(plain, again)
    assert np.abs(plain - moved).max() > 1e-3


def test_voices_stay_loaded_but_not_all_of_them(service):
    for name in ("anna", "ben", "anna", "carl", "anna", "ben"):
        service.converter(f"{name}.pth")
    assert service.made == ["anna", "ben", "carl", "ben"]


def test_a_voice_that_has_changed_is_loaded_again(service, put_voice):
    before = service.converter("anna.pth")
    put_voice(service.catalog.folder / "anna.pth", author="somebody")
    after = service.converter("anna.pth")
    assert before is not after
    assert after.voice.information["author"] == "somebody"
    assert len(service._loaded) == 1


def test_too_long_a_recording_is_refused_before_it_is_read(service, tmp_path, monkeypatch):
    path = tmp_path / "long.flac"
    write_audio(path, np.zeros(3 * 8000 + 1, dtype=np.float32), 8000)
    monkeypatch.setattr(service, "converter", lambda name: pytest.fail("the voice was loaded"))
    with pytest.raises(AudioError, match=r"^'long.flac' is longer than the 3 seconds that this page takes; cut it"):
        convert(service, path, tmp_path)


@needs_ffmpeg
def test_length_of_what_ffmpeg_reads_is_found_by_decoding_no_more_than_needed(tmp_path):
    path = tmp_path / "tone.m4a"
    write_audio(path, golden_rule.stub_audio("app", 4.0), 16000)
    assert seconds_of(path, 10) == pytest.approx(4, abs=0.1)
    assert 2 < seconds_of(path, 2) <= 3.1
    (tmp_path / "text.wav").write_text("hello")
    assert seconds_of(tmp_path / "text.wav", 2) == 0


def test_what_is_no_recording_is_named_without_its_folder(service, tmp_path):
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(AudioError, match=r"^'text.wav' cannot be decoded") as raised:
        convert(service, tmp_path / "text.wav", tmp_path)
    assert str(tmp_path) not in str(raised.value)


def test_a_voice_that_has_gone(service, recording, tmp_path):
    (service.catalog.folder / "anna.pth").unlink()
    with pytest.raises(VoiceError, match=r"the voice 'anna.pth' is not in its place any more"):
        convert(service, recording, tmp_path)


def test_a_voice_that_broke_since(service, recording, tmp_path):
    (service.catalog.folder / "anna.pth").write_bytes(b"PK")
    with pytest.raises(VoiceError, match=r"^'anna.pth' (is rejected|cannot be read) as a voice") as raised:
        convert(service, recording, tmp_path)
    assert str(tmp_path) not in str(raised.value)


def test_a_disk_that_is_full_is_one_message(service, recording, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device", str(recording))

    monkeypatch.setattr("rvc_lightning.app.service.write_audio", full)
    with pytest.raises(RVCError, match=r"No space left on device: 'a song.wav'"):
        convert(service, recording, tmp_path)


def test_memory_that_runs_out_is_one_message(service, recording, tmp_path, monkeypatch):
    def exhausted(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(VoiceConverter, "convert", exhausted)
    with pytest.raises(OutOfMemoryError, match="memory ran out: try a shorter recording"):
        convert(service, recording, tmp_path)


def test_a_page_that_closes_ends_what_is_under_way(service, recording, tmp_path):
    def stop(share, what):
        service.stop()

    with pytest.raises(RVCError, match="being closed"):
        convert(service, recording, tmp_path / "out", report=stop)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [0, -1, "many", True, None, float("nan")])
def test_limits_are_above_0(value):
    with pytest.raises(ConfigurationError, match=r"most_seconds=.*: choose a number above 0"):
        replace(LIMITS, most_seconds=value)
