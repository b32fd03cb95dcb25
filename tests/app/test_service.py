"""Conversion for the page: limits, cached voices and error messages."""

import struct
from dataclasses import replace

import golden_rule
import numpy as np
import pytest
import soundfile
import torch
from stubs import StubPitch, cpu_trainer

from rvc_lightning import ConversionOptions, Voice, VoiceConverter
from rvc_lightning.app.catalog import VoiceCatalog
from rvc_lightning.app.service import ConversionService, Limits
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.errors import AudioError, ConfigurationError, OutOfMemoryError, RVCError, VoiceError

LIMITS = Limits(
    max_seconds=3, max_megabytes=1, max_stored_megabytes=10, max_waiting=2, max_requests=2, max_voices=2, keep_minutes=1
)  # fmt: skip
OPTIONS = ConversionOptions()


@pytest.fixture
def service(tmp_path, write_voice):
    for name in ("anna", "ben", "carl"):
        write_voice(tmp_path / "voices" / f"{name}.pth")
    loaded = []

    def make_converter(voice, index):
        loaded.append(voice.stem)
        return VoiceConverter(Voice.load(voice), index, pitch=StubPitch(), trainer=cpu_trainer())

    service = ConversionService(VoiceCatalog(tmp_path / "voices"), make_converter, LIMITS)
    service.loaded = loaded
    return service


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "a song.wav"
    write_audio(path, golden_rule.stub_audio("app", 0.5), 16000)
    return path


def convert(service, recording, folder, options=OPTIONS, name="anna.pth", report=lambda share, stage: None):
    return service.convert(name, recording, options, folder, report)


def test_result_is_named_after_recording_and_voice(service, recording, tmp_path):
    reports = []
    written = convert(service, recording, tmp_path / "out", report=lambda *progress: reports.append(progress))
    assert written == tmp_path / "out" / "a song_anna.wav"
    assert (soundfile.info(written).samplerate, soundfile.info(written).frames) == (8000, 4000)
    assert reports[0] == (0.0, "Loading the voice")
    assert reports[-1] == (1.0, "Converting")
    hooks = service.converter("anna.pth").voice.synthesizer.generator._forward_hooks
    assert not hooks


@pytest.mark.parametrize(("name", "rate"), [("flac", 11025), ("mp3", 8000), ("ogg", 16000)])
def test_format_and_sampling_rate_of_the_result(service, recording, tmp_path, name, rate):
    options = ConversionOptions(output_format=name, output_sample_rate=rate)
    written = convert(service, recording, tmp_path, options)
    assert written.suffix == f".{name}"
    assert soundfile.info(written).samplerate == rate


def test_options_are_applied(service, recording, tmp_path):
    plain = soundfile.read(convert(service, recording, tmp_path / "1"))[0]
    moved = soundfile.read(convert(service, recording, tmp_path / "2", ConversionOptions(transpose_semitones=12)))[0]
    again = soundfile.read(convert(service, recording, tmp_path / "3"))[0]
    np.testing.assert_array_equal(plain, again)
    assert np.abs(plain - moved).max() > 1e-3


def test_least_recently_used_voices_are_unloaded(service):
    for name in ("anna", "ben", "anna", "carl", "anna", "ben"):
        service.converter(f"{name}.pth")
    assert service.loaded == ["anna", "ben", "carl", "ben"]


def test_changed_voice_is_loaded_again(service, write_voice):
    before = service.converter("anna.pth")
    write_voice(service.catalog.folder / "anna.pth", author="somebody")
    after = service.converter("anna.pth")
    assert before is not after
    assert after.voice.information["author"] == "somebody"
    assert len(service._loaded) == 1


def test_too_long_recording_is_rejected_before_the_voice_is_loaded(service, tmp_path, monkeypatch):
    path = tmp_path / "long.flac"
    write_audio(path, np.zeros(3 * 8000 + 1, dtype=np.float32), 8000)
    monkeypatch.setattr(service, "converter", lambda name: pytest.fail("the voice was loaded"))
    with pytest.raises(AudioError, match=r"^'long.flac' is longer than the limit of 3 seconds; cut it"):
        convert(service, path, tmp_path)


def test_length_is_measured_by_decoding(service, tmp_path, monkeypatch):
    path = tmp_path / "size 0.wav"
    write_audio(path, np.full(4 * 8000, 0.1, dtype=np.float32), 8000, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = struct.pack("<I", 0)
    path.write_bytes(content)
    monkeypatch.setattr(service, "converter", lambda name: pytest.fail("the voice was loaded"))
    with pytest.raises(AudioError, match=r"^'size 0.wav' is longer than the limit of 3 seconds"):
        convert(service, path, tmp_path)


def test_errors_contain_file_names_without_folders(service, tmp_path):
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(AudioError, match=r"^'text.wav' cannot be decoded") as raised:
        convert(service, tmp_path / "text.wav", tmp_path)
    assert str(tmp_path) not in str(raised.value)


def test_removed_voice_is_an_error(service, recording, tmp_path):
    (service.catalog.folder / "anna.pth").unlink()
    with pytest.raises(VoiceError, match=r"unknown voice 'anna.pth'"):
        convert(service, recording, tmp_path)


def test_voice_that_was_damaged_is_an_error(service, recording, tmp_path):
    (service.catalog.folder / "anna.pth").write_bytes(b"PK")
    with pytest.raises(VoiceError, match=r"^'anna.pth' cannot be read as a voice") as raised:
        convert(service, recording, tmp_path)
    assert str(tmp_path) not in str(raised.value)


def test_full_disk_is_an_error(service, recording, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device", str(recording))

    monkeypatch.setattr("rvc_lightning.app.service.write_audio", full)
    with pytest.raises(RVCError, match=r"No space left on device: 'a song.wav'"):
        convert(service, recording, tmp_path)


def test_out_of_memory_is_an_error(service, recording, tmp_path, monkeypatch):
    def exhausted(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(VoiceConverter, "convert", exhausted)
    with pytest.raises(OutOfMemoryError, match="out of memory: try a shorter recording"):
        convert(service, recording, tmp_path)


def test_shutdown_aborts_the_running_conversion(service, recording, tmp_path):
    def stop(share, stage):
        service.stop()

    with pytest.raises(RVCError, match="shutting down"):
        convert(service, recording, tmp_path / "out", report=stop)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [0, -1, "many", True, None, float("nan")])
def test_limits_must_be_positive_numbers(value):
    with pytest.raises(ConfigurationError, match=r"limits\.max_seconds=.*: choose a number from 1 up"):
        replace(LIMITS, max_seconds=value)
