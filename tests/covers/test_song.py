"""A song and its parts have the same length, and the parts add up to the song."""

import numpy as np
import pytest

from rvc_lightning.audio.encode import write_audio
from rvc_lightning.covers.song import join_stems, separate_song
from rvc_lightning.errors import AudioError
from rvc_lightning.separation.base import PARTS, Separator
from rvc_lightning.separation.store import PartStore


class Share(Separator):
    """A stub: each part is a share of the one before it."""

    name = "share"

    @staticmethod
    def check_installed():
        pass

    def identity(self, part):
        return part

    def extract(self, part, blocks, sample_rate):
        return (block * {"vocals": 0.5, "lead": 0.75, "dry": 0.5}[part] for block in blocks)


@pytest.fixture
def song(tmp_path):
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (5001, 2)).astype(np.float32)
    write_audio(tmp_path / "song.wav", audio, 44100, "FLOAT")
    return tmp_path / "song.wav", audio


@pytest.mark.parametrize("part", PARTS)
def test_parts_add_up_to_the_song(song, part, tmp_path):
    path, audio = song
    parts = separate_song(path, part, PartStore(Share(), tmp_path / "stems"))
    np.testing.assert_array_equal(parts.mixture, audio)
    shares = {"vocals": (0.5, 0.0), "lead": (0.375, 0.125), "dry": (0.1875, 0.125)}[part]
    np.testing.assert_allclose(parts.lead, shares[0] * audio, atol=1e-6)
    np.testing.assert_allclose(parts.backing, shares[1] * audio, atol=1e-6)
    np.testing.assert_allclose(parts.instrumental, 0.5 * audio, atol=1e-6)


def test_stems_are_joined_at_the_rate_and_channels_of_the_music(tmp_path):
    time = np.arange(8000) / 8000
    tone = (0.1 * np.sin(2 * np.pi * 200 * time)).astype(np.float32)
    write_audio(tmp_path / "vocals.wav", tone, 8000, "FLOAT")
    write_audio(tmp_path / "music.wav", np.zeros((17_000, 2), np.float32), 16000, "FLOAT")
    song = join_stems(tmp_path / "vocals.wav", tmp_path / "music.wav")
    assert song.sample_rate == 16000
    assert {audio.shape for audio in (song.mixture, song.lead, song.backing, song.instrumental)} == {(17_000, 2)}
    expected = 0.1 * np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(song.lead[500:15_500, 1], expected[500:15_500], atol=1e-3)
    assert not song.lead[16_000:].any() and not song.backing.any()


@pytest.mark.parametrize(("seconds", "warned"), [(2.0, False), (2.1, True)])
def test_stems_of_different_lengths_are_reported(tmp_path, caplog, seconds, warned):
    write_audio(tmp_path / "vocals.wav", np.zeros(8000, np.float32), 8000)
    write_audio(tmp_path / "music.wav", np.zeros(round(seconds * 16000), np.float32), 16000)
    join_stems(tmp_path / "vocals.wav", tmp_path / "music.wav")
    assert ("The stems differ in length" in caplog.text) is warned
    assert ("music.wav' 2.1 s, '" in caplog.text and "vocals.wav' 1.0 s" in caplog.text) is warned


def test_backing_vocals_are_a_stem_of_their_own(tmp_path):
    for name, level in (("vocals", 0.1), ("music", 0.2), ("backing", 0.3)):
        write_audio(tmp_path / f"{name}.wav", np.full((100, 1), level, np.float32), 8000, "FLOAT")
    song = join_stems(*(tmp_path / f"{name}.wav" for name in ("vocals", "music", "backing")))
    assert song.lead[0, 0] == pytest.approx(0.1) and song.backing[0, 0] == pytest.approx(0.3)
    np.testing.assert_allclose(song.mixture, 0.6, atol=1e-6)


def test_song_with_many_channels_is_rejected(tmp_path):
    write_audio(tmp_path / "a.wav", np.zeros((100, 6), np.float32), 8000)
    with pytest.raises(AudioError, match="6 channels: convert it to stereo"):
        separate_song(tmp_path / "a.wav", "vocals", PartStore(Share(), tmp_path / "stems"))
