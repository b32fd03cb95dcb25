"""Headers that contradict the size of the file, joined files, and channels that cancel each other."""

import struct

import numpy as np
import pytest
import soundfile
from media import buzz

from rvc_lightning.audio.decode import decode_audio, recorded_seconds

RATE = 16000
SIZES = {"WAV": (b"data", "<I"), "WAVEX": (b"data", "<I"), "AIFF": (b"SSND", ">I")}


def write_with_count(path, container, counted, seconds=6.0, **options):
    """Write a recording whose header counts `counted` seconds."""
    audio = buzz(seconds, RATE)
    soundfile.write(path, audio, RATE, format=container, **options)
    content = bytearray(path.read_bytes())
    bytes_per_second = (soundfile.info(path).subtype.removeprefix("PCM_") == "24" and 3 * RATE) or 2 * RATE
    if container == "AU":
        content[8:12] = struct.pack("<I" if content[:4] == b"dns." else ">I", int(counted * bytes_per_second))
    else:
        name, size = SIZES[container]
        position = content.index(name) + 4
        extra = 8 if container == "AIFF" else 0
        content[position : position + 4] = struct.pack(size, int(counted * bytes_per_second) + extra)
        content[4:8] = struct.pack(size, position + int(counted * bytes_per_second) + extra - 4)
    path.write_bytes(content)
    return audio


@pytest.mark.parametrize(("container", "options"), [
    ("WAV", {}), ("WAV", {"subtype": "PCM_24"}), ("WAVEX", {}), ("AIFF", {}), ("AIFF", {"endian": "LITTLE"}),
    ("AU", {}), ("AU", {"endian": "LITTLE"}),
])  # fmt: skip
@pytest.mark.parametrize("counted", [0.0, 2.0])
def test_header_that_counts_too_little(tmp_path, container, options, counted):
    path = tmp_path / "a.wav"
    audio = write_with_count(path, container, counted, **options)
    decoded = decode_audio(path)
    np.testing.assert_allclose(decoded.audio, audio, atol=1e-4)
    assert decoded.warning.endswith("of 6.00 s; all of it is used")
    assert recorded_seconds(path) == pytest.approx(6.0)


@pytest.mark.parametrize("container", ["WAV", "RF64", "AIFF", "AU", "CAF"])
def test_joined_files(tmp_path, container):
    path = tmp_path / "a.wav"
    soundfile.write(path, buzz(2, RATE), RATE, format=container)
    path.write_bytes(path.read_bytes() * 3)
    decoded = decode_audio(path)
    np.testing.assert_allclose(decoded.audio, np.tile(buzz(2, RATE), 3), atol=1e-4)
    assert "counts 2.00 s of 6.00 s" in decoded.warning


def test_joined_file_of_another_format_is_reported(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, buzz(2, 48000), 48000)
    other = path.read_bytes()
    soundfile.write(path, buzz(2, RATE), RATE)
    path.write_bytes(path.read_bytes() + other)
    decoded = decode_audio(path)
    assert len(decoded.audio) == 2 * RATE and "in another format follows" in decoded.warning


@pytest.mark.parametrize("options", [{}, {"endian": "LITTLE"}])
@pytest.mark.parametrize("counted_bytes", [4 + 2 * RATE, 2**64 - 1])
def test_caf_that_counts_too_little_or_leaves_its_size_open(tmp_path, options, counted_bytes):
    path = tmp_path / "a.caf"
    soundfile.write(path, buzz(2, RATE), RATE, format="CAF", subtype="PCM_16", **options)
    content = bytearray(path.read_bytes())
    size = content.index(b"data") + 4
    content[size : size + 8] = counted_bytes.to_bytes(8, "big")
    path.write_bytes(content)
    np.testing.assert_allclose(decode_audio(path).audio, buzz(2, RATE), atol=1e-4)


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "GSM610"])
def test_compressed_samples_beyond_the_count_are_reported(tmp_path, subtype):
    path = tmp_path / "a.wav"
    soundfile.write(path, buzz(6, RATE), RATE, subtype=subtype)
    path.write_bytes(path.read_bytes() * 2)
    assert decode_audio(path).warning.startswith("its header counts 6.0")


@pytest.mark.parametrize("extension", [".flac", ".ogg"])
def test_compressed_recording_after_a_wav_is_not_sample_data(tmp_path, extension):
    path, other = tmp_path / "a.wav", tmp_path / f"b{extension}"
    soundfile.write(path, buzz(2, RATE), RATE)
    soundfile.write(other, buzz(6, RATE), RATE)
    path.write_bytes(path.read_bytes() + other.read_bytes())
    decoded = decode_audio(path)
    assert len(decoded.audio) == 2 * RATE and "in another format follows" in decoded.warning


@pytest.mark.parametrize("tail", [b"LIST" + struct.pack("<I", 9000) + bytes(9000), b"TAG" + bytes(9000), bytes(200)])
def test_tags_and_padding_are_not_sound(tmp_path, tail):
    path = tmp_path / "a.wav"
    soundfile.write(path, buzz(2, RATE), RATE)
    path.write_bytes(path.read_bytes() + tail)
    decoded = decode_audio(path)
    assert len(decoded.audio) == 2 * RATE and decoded.warning is None


@pytest.mark.parametrize("extension", [".wav", ".flac"])
def test_inverted_channels_do_not_cancel(tmp_path, extension):
    path = tmp_path / f"a{extension}"
    noise = np.random.default_rng(0).normal(0, 2e-3, (RATE * 5, 2))
    audio = np.concatenate([noise, np.stack([buzz(6, RATE), -0.95 * buzz(6, RATE)], axis=1)])
    soundfile.write(path, audio, RATE)
    decoded = decode_audio(path)
    np.testing.assert_allclose(decoded.audio[RATE * 5 :], buzz(6, RATE), atol=1e-4)
    assert decoded.warning == "its channels cancel each other (one is inverted): only channel 1 is used"


@pytest.mark.parametrize("gain", [1.0, 0.75])
def test_channels_inverted_late_in_a_recording_do_not_cancel(tmp_path, gain):
    audio = buzz(20, RATE)
    other = np.concatenate([audio[: 10 * RATE], -gain * audio[10 * RATE :]])
    soundfile.write(tmp_path / "a.wav", np.stack([audio, other], axis=1), RATE)
    decoded = decode_audio(tmp_path / "a.wav")
    # Blocks have four seconds.
    np.testing.assert_allclose(decoded.audio[14 * RATE :], audio[14 * RATE :], atol=1e-4)
    assert "only channel 1 is used" in decoded.warning


@pytest.mark.parametrize("channels", [2, 6])
def test_single_sounding_channel_is_not_cancellation(tmp_path, channels):
    audio = np.zeros((RATE * 2, channels), np.float32)
    audio[:, -1] = buzz(2, RATE)
    soundfile.write(tmp_path / "a.wav", audio, RATE, subtype="FLOAT")
    decoded = decode_audio(tmp_path / "a.wav")
    np.testing.assert_allclose(decoded.audio, buzz(2, RATE) / channels, atol=1e-6)
    assert decoded.warning is None
