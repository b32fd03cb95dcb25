"""Writing of recordings, whole and in blocks."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from rvc_lightning.audio.decode import load_audio
from rvc_lightning.audio.encode import WRITE_SUBTYPES, audio_writer, fitting_rate, write_audio
from rvc_lightning.errors import AudioError, ConfigurationError

OPEN_FILES = Path("/proc/self/fd")


def tone(seconds=1.0, sample_rate=16000):
    return (0.3 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * sample_rate)) / sample_rate)).astype(np.float32)


@pytest.mark.parametrize("extension", [extension for extension in WRITE_SUBTYPES if extension != ".m4a"])
def test_blocks_equal_the_whole(tmp_path, extension):
    audio = tone(9)
    write_audio(tmp_path / f"whole{extension}", audio, 16000)
    with audio_writer(tmp_path / f"blocks{extension}", 16000) as writer:
        for start in range(0, len(audio), 7001):
            writer.write(audio[start : start + 7001])
        assert not (tmp_path / f"blocks{extension}").exists()
    whole, blocks = (load_audio(tmp_path / f"{name}{extension}")[0] for name in ("whole", "blocks"))
    # The Vorbis encoder depends on the blocks.
    np.testing.assert_allclose(blocks, whole, atol=0.05 if extension == ".ogg" else 1e-6)
    assert np.abs(blocks[2000:140000] - audio[2000:140000]).max() < 0.05


def test_m4a(tmp_path):
    with audio_writer(tmp_path / "a.m4a", 44100) as writer:
        for block in np.array_split(tone(2, 44100), 9):
            writer.write(block)
    audio, sample_rate = load_audio(tmp_path / "a.m4a")
    assert sample_rate == 44100 and abs(len(audio) - 88200) < 2048
    np.testing.assert_allclose(audio[4000:80000], tone(2, 44100)[4000:80000], atol=0.05)


@pytest.mark.parametrize("extension", [".wav", ".m4a"])
def test_failed_file_is_removed(tmp_path, extension):
    with pytest.raises(RuntimeError), audio_writer(tmp_path / f"a{extension}", 16000) as writer:
        writer.write(tone())
        raise RuntimeError
    with (
        pytest.raises(AudioError, match="contain NaN or infinity"),
        audio_writer(tmp_path / f"a{extension}", 16000) as writer,
    ):
        writer.write(np.full(5, np.nan, np.float32))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="counts open files in /proc")
def test_failed_m4a_leaves_no_file_open(tmp_path):
    before = len(list(OPEN_FILES.iterdir()))
    with (
        pytest.raises(ValueError, match="layout") as failed,
        audio_writer(tmp_path / "a.m4a", 16000, channels=99),
    ):
        pass
    assert len(list(OPEN_FILES.iterdir())) == before, failed


def test_unsupported_formats_and_rates_raise(tmp_path):
    with pytest.raises(ConfigurationError, match=r"\.aac.*\.flac, \.m4a, \.mp3, \.ogg, \.wav"):
        write_audio(tmp_path / "a.aac", tone(), 16000)
    with pytest.raises(ConfigurationError, match=r"choose \.wav or another sample rate, one of: 8000, .*48000$"):
        write_audio(tmp_path / "a.mp3", tone(), 40000)
    assert list(tmp_path.iterdir()) == []


def test_integer_formats_clip_and_float_does_not(tmp_path):
    write_audio(tmp_path / "a.wav", np.array([2.0, -2.0], np.float32), 16000)
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav")[0], [1, -1], atol=1e-4)
    write_audio(tmp_path / "b.wav", np.array([2.0, -2.0], np.float32), 16000, subtype="FLOAT")
    np.testing.assert_array_equal(load_audio(tmp_path / "b.wav")[0], [2, -2])


def test_channels(tmp_path):
    write_audio(tmp_path / "a.wav", np.stack([tone(), -tone()], axis=1), 16000)
    assert soundfile.info(tmp_path / "a.wav").channels == 2


@pytest.mark.parametrize(
    ("extension", "sample_rate", "expected"),
    [
        (".mp3", 40000, 44100),
        (".MP3", 48000, 48000),
        (".m4a", 192000, 96000),
        (".wav", 40000, 40000),
        (".mp3", 7, 8000),
    ],
)
def test_fitting_rate(extension, sample_rate, expected):
    assert fitting_rate(extension, sample_rate) == expected
