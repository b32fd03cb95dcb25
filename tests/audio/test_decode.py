"""Decoding of single files to mono float32, and the errors."""

import os

import numpy as np
import pytest
import soundfile
from systems import NAMES_IN_BYTES

from rvc_lightning.audio.decode import decode_audio, load_audio, load_channels, resample
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.errors import AudioError


def tone(seconds=1.0, sample_rate=16000, frequency_hz=220.0):
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (0.3 * np.sin(2 * np.pi * frequency_hz * time)).astype(np.float32)


@pytest.mark.parametrize("extension", [".wav", ".flac", ".ogg", ".mp3", ".WAV"])
def test_round_trip(tmp_path, extension):
    path = tmp_path / f"a{extension}"
    write_audio(path, tone(), 16000)
    audio, sample_rate = load_audio(path)
    assert (audio.dtype, sample_rate) == (np.float32, 16000)
    overlap = min(len(audio), 16000)
    assert overlap > 15000
    if extension.lower() in (".wav", ".flac"):
        np.testing.assert_allclose(audio, tone(), atol=1e-4)


def test_mp3_in_blocks_equals_the_whole(tmp_path):
    # libsndfile writes a variable bit rate, which some decoders misread in blocks.
    write_audio(tmp_path / "a.mp3", tone(9), 16000)
    whole, _ = soundfile.read(tmp_path / "a.mp3", dtype="float32")
    np.testing.assert_allclose(load_audio(tmp_path / "a.mp3")[0], whole, atol=1e-5)
    np.testing.assert_allclose(whole[2000:-2000], tone(9)[2000:-2000], atol=0.05)


def test_channels_are_averaged(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([tone(), 0.5 * tone()], axis=1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav")[0], 0.75 * tone(), atol=1e-6)


@pytest.mark.parametrize("from_rate", [8000, 11025, 44100, 48000, 96000])
def test_resampling_while_loading(tmp_path, from_rate):
    soundfile.write(tmp_path / "a.wav", tone(1.0, from_rate), from_rate)
    audio, sample_rate = load_audio(tmp_path / "a.wav", 16000)
    assert sample_rate == 16000 and abs(len(audio) - 16000) <= 1
    np.testing.assert_allclose(audio[2000:14000], tone()[2000:14000], atol=2e-3)


def test_resampling_to_the_same_rate_returns_the_array():
    audio = tone()
    assert resample(audio, 16000, 16000) is audio


@pytest.mark.parametrize("extension", [".mp3", ".flac", ".ogg"])
def test_format_is_detected_despite_a_wrong_extension(tmp_path, extension):
    write_audio(tmp_path / "a.wav", tone(), 16000)
    (tmp_path / "a.wav").rename(tmp_path / f"a{extension}")
    assert len(load_audio(tmp_path / f"a{extension}")[0]) == 16000


@pytest.mark.parametrize("extension", [".wav", ".flac", ".mp3"])
def test_truncated_file_is_used_and_reported(tmp_path, extension, caplog):
    path = tmp_path / f"a{extension}"
    write_audio(path, np.random.default_rng(0).normal(0, 0.1, 160000).astype(np.float32), 16000)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    decoded = decode_audio(path)
    assert 0.4 * 160000 < len(decoded.audio) < 0.6 * 160000
    assert decoded.warning.startswith("truncated")
    load_audio(path)
    assert str(path) in caplog.text


@pytest.mark.slow
def test_truncated_caf_is_reported(tmp_path):
    path = tmp_path / "a.caf"
    soundfile.write(path, tone(), 16000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    decoded = decode_audio(path)
    assert 4000 < len(decoded.audio) < 16000 and "malformed" in decoded.warning


def test_whole_file_has_no_warning(tmp_path):
    for extension in (".wav", ".flac", ".ogg", ".mp3"):
        write_audio(tmp_path / f"a{extension}", tone(), 16000)
        assert decode_audio(tmp_path / f"a{extension}").warning is None


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty"), (b"plain text", "cannot be decoded"), (b"RIFF", "cannot be decoded")]
)
def test_file_without_audio_raises(tmp_path, content, reason):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(AudioError, match=f"a.wav.*{reason}"):
        load_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_raise(tmp_path, value):
    audio = tone()
    audio[8000] = value
    soundfile.write(tmp_path / "a.wav", audio, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"NaN or infinite.*0\.500 s"):
        load_audio(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="NaN or infinity"):
        write_audio(tmp_path / "b.wav", audio, 16000)
    assert not (tmp_path / "b.wav").exists()


def test_missing_file_folder_and_empty_recording_raise(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.float32), 16000)
    with pytest.raises(AudioError, match="no samples"):
        load_audio(tmp_path / "a.wav")
    with pytest.raises(AudioError, match=r"missing\.wav.*(No such file|cannot find the file)"):
        load_audio(tmp_path / "missing.wav")
    with pytest.raises(AudioError, match="is empty" if os.name == "nt" else "Is a directory"):
        load_audio(tmp_path)


@pytest.mark.parametrize(
    "name", ["häßlich ☃ 音声.wav", pytest.param(b"latin \xe9.wav", marks=NAMES_IN_BYTES)], ids=["unicode", "bytes"]
)
def test_names_in_any_script(tmp_path, name):
    path = tmp_path / (os.fsdecode(name) if isinstance(name, bytes) else name)
    write_audio(path, tone(), 16000)
    assert len(load_audio(path)[0]) == 16000


def test_channels_are_kept_on_request(tmp_path):
    stereo = np.stack([np.full(100, 0.25), np.full(100, -0.5)], axis=1).astype(np.float32)
    write_audio(tmp_path / "a.wav", stereo, 8000, "FLOAT")
    write_audio(tmp_path / "b.wav", stereo[:, 0], 8000, "FLOAT")
    np.testing.assert_array_equal(load_channels(tmp_path / "a.wav")[0], stereo)
    np.testing.assert_array_equal(load_channels(tmp_path / "b.wav")[0], stereo[:, :1])


def test_more_channels_than_two_cannot_be_kept(tmp_path):
    write_audio(tmp_path / "a.wav", np.zeros((100, 6), np.float32), 8000)
    with pytest.raises(AudioError, match=r"a.wav' has 6 channels: convert it to stereo first"):
        load_channels(tmp_path / "a.wav")


def test_nan_in_one_of_several_channels_is_rejected(tmp_path):
    stereo = np.zeros((100, 2), np.float32)
    stereo[50, 1] = np.nan
    soundfile.write(tmp_path / "a.wav", stereo, 8000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"1 NaN or infinite samples \(the first at 0.006 s\)"):
        load_channels(tmp_path / "a.wav")
