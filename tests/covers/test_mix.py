"""The mix of a cover: length, channels, alignment, levels, key, loudness and peaks."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from rvc_lightning import ConversionOptions
from rvc_lightning.audio.decode import load_channels
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.audio.mastering import loudness_lufs, true_peak
from rvc_lightning.audio.pitch_shift import shift_pitch
from rvc_lightning.covers.mix import check_cover, make_cover, write_cover
from rvc_lightning.covers.settings import MixSettings, SongSettings
from rvc_lightning.covers.song import Song, join_stems
from rvc_lightning.errors import AudioError, ConfigurationError

pytest.importorskip("pyloudnorm")
pytest.importorskip("python_stretch")

RATE = 44100
CLICKS = np.arange(1, 4) * RATE // 2 + 7
OPTIONS = ConversionOptions()
GAINS = {"lead": 0.0, "backing": 0.0, "instrumental": 0.0}


class Echo:
    """Stub of a converter: returns its input with another level, and keeps the options."""

    def __init__(self, *, pitch_guided=True):
        self.options, self.voice = [], SimpleNamespace(pitch_guided=pitch_guided)

    def check(self, options):
        self.checked = options

    def convert(self, audio, options, sample_rate):
        assert audio.ndim == 1 and options.output_sample_rate == sample_rate
        self.options.append(options)
        return 0.25 * audio, sample_rate


def settings(**changes):
    gains = GAINS | changes.pop("gains", {})
    values = {"convert_backing": False, "key_semitones": 0.0, "loudness_lufs": None, "peak_db": -1.0}
    return MixSettings.from_values(values | {"gains": gains} | changes)


def clicks(level=0.5, pan=(1.0, 1.0), samples=2 * RATE + 1):
    audio = np.random.default_rng(0).normal(0, 1e-3, (samples, 2))
    audio[CLICKS] += level
    return (audio * pan).astype(np.float32)


def tone(hertz, level=0.1, pan=(1.0, 0.5), samples=2 * RATE + 1):
    time = np.arange(samples) / RATE
    return (level * np.sin(2 * np.pi * hertz * time)[:, None] * pan).astype(np.float32)


def song(lead=None, backing=None, instrumental=None, sample_rate=RATE):
    lead = tone(300) if lead is None else lead
    backing = np.zeros_like(lead) if backing is None else backing
    instrumental = tone(440) if instrumental is None else instrumental
    return Song(lead + backing + instrumental, lead, backing, instrumental, sample_rate)


def level_of(audio, hertz, sample_rate=RATE):
    """Return the amplitude at a frequency, [C]."""
    wave = np.exp(-2j * np.pi * hertz * np.arange(len(audio)) / sample_rate)
    return 2 * np.abs(wave @ audio) / len(audio)


def places(audio):
    """Return the sample of the loudest value near each click, in the first channel."""
    return [click - 2000 + int(np.argmax(np.abs(audio[click - 2000 : click + 2000, 0]))) for click in CLICKS]


def test_length_rate_and_channels_are_those_of_the_song():
    for samples, channels in ((1, 2), (2 * RATE + 1, 1), (30_001, 2)):
        audio = np.full((samples, channels), 0.1, np.float32)
        cover = make_cover(Echo(), song(audio, None, audio), OPTIONS, settings())
        assert cover.audio.shape == (samples, channels) and cover.sample_rate == RATE


def test_voice_and_music_stay_aligned():
    cover = make_cover(Echo(), song(clicks(), None, clicks()), OPTIONS, settings(loudness_lufs=-20.0))
    assert places(cover.lead) == places(cover.instrumental) == places(cover.audio) == CLICKS.tolist()


@pytest.mark.parametrize("semitones", [-5.0, 3.0])
def test_clicks_stay_in_place_when_the_key_is_shifted(semitones):
    shifted = shift_pitch(clicks(), RATE, semitones)
    assert shifted.shape == clicks().shape
    assert np.abs(np.subtract(places(shifted), CLICKS)).max() < 0.002 * RATE


@pytest.mark.slow
def test_key_shift_does_not_drift_within_minutes():
    samples = 120 * RATE
    audio = np.zeros((samples, 1), np.float32)
    audio[[RATE, 118 * RATE]] = 0.9
    shifted = shift_pitch(audio, RATE, -3.0)
    late = int(np.argmax(np.abs(shifted[117 * RATE : 119 * RATE]))) + 117 * RATE
    assert abs(late - 118 * RATE) < 0.002 * RATE and len(shifted) == samples


def test_mp3_does_not_shift_the_voice(tmp_path):
    music, vocals = clicks(0.5), clicks(0.4)
    write_audio(tmp_path / "music.mp3", music, RATE)
    write_audio(tmp_path / "vocals.wav", vocals, RATE, "FLOAT")
    parts = join_stems(tmp_path / "vocals.wav", tmp_path / "music.mp3")
    assert len(parts.mixture) == len(music)
    cover = make_cover(Echo(), parts, OPTIONS, settings())
    write_cover(cover, parts, tmp_path / "cover.mp3", keep_stems=False)
    decoded, sample_rate = load_channels(tmp_path / "cover.mp3")
    assert (decoded.shape, sample_rate) == (music.shape, RATE)
    assert np.abs(np.subtract(places(decoded), CLICKS)).max() <= 2
    assert np.abs(np.subtract(places(cover.instrumental), CLICKS)).max() <= 2


def test_key_shifts_music_and_voice():
    echo = Echo()
    cover = make_cover(
        echo, song(), replace(OPTIONS, transpose_semitones=12.0), settings(key_semitones=-2.0, convert_backing=True)
    )
    assert [options.transpose_semitones for options in echo.options] == [10.0]
    assert level_of(cover.instrumental, 440 * 2 ** (-2 / 12))[0] > 0.05 > 10 * level_of(cover.instrumental, 440)[0]


def test_effects_apply_to_the_voices_only():
    echo = Echo()
    parts = song(backing=tone(700))
    cover = make_cover(echo, parts, replace(OPTIONS, effects=["reverb"]), settings())
    assert [[effect.name for effect in options.effects] for options in echo.options] == [["reverb"]]
    np.testing.assert_array_equal(cover.backing, parts.backing)
    np.testing.assert_array_equal(cover.instrumental, parts.instrumental)


def test_stereo_of_the_music_is_kept():
    cover = make_cover(Echo(), song(), OPTIONS, settings())
    left, right = level_of(cover.audio, 440)
    assert right / left == pytest.approx(0.5, abs=0.01)
    left, right = level_of(cover.audio, 300)
    assert right / left == pytest.approx(1.0, abs=0.01)


def test_converted_lead_has_the_loudness_of_the_original():
    parts = song()
    cover = make_cover(Echo(), parts, OPTIONS, settings())
    assert loudness_lufs(cover.lead, RATE) == pytest.approx(loudness_lufs(parts.lead, RATE), abs=0.05)


def test_gains_change_levels():
    parts = song(backing=tone(700, pan=(1.0, 1.0)))
    plain = make_cover(Echo(), parts, OPTIONS, settings()).audio
    changed = make_cover(
        Echo(), parts, OPTIONS, settings(gains={"lead": 6.0, "backing": -60.0, "instrumental": 0.0})
    ).audio
    ratios = {hertz: level_of(audio, hertz)[0] for audio in (changed,) for hertz in (300, 440, 700)}
    before = {hertz: level_of(plain, hertz)[0] for hertz in (300, 440, 700)}
    lead, music, backing = (ratios[hertz] / before[hertz] for hertz in (300, 440, 700))
    assert 20 * math.log10(lead / music) == pytest.approx(6.0, abs=0.1)
    assert backing < 0.01 * music


def test_backing_vocals_are_converted_on_request():
    parts = song(backing=tone(700, pan=(1.0, 0.0)))
    for convert, balance in ((False, 0.0), (True, 1.0)):
        echo = Echo()
        cover = make_cover(echo, parts, OPTIONS, settings(convert_backing=convert))
        assert len(echo.options) == 1 + convert
        left, right = level_of(cover.backing, 700)
        assert right / left == pytest.approx(balance, abs=0.01)


@pytest.mark.parametrize("target", [None, -14.0, -30.0])
def test_loudness_and_peaks(target):
    parts = song(clicks(0.9), None, tone(440, 0.3))
    cover = make_cover(Echo(), parts, OPTIONS, settings(loudness_lufs=target, peak_db=-3.0))
    expected = loudness_lufs(parts.mixture, RATE) if target is None else target
    assert loudness_lufs(cover.audio, RATE) == pytest.approx(expected, abs=0.1)
    assert 20 * math.log10(true_peak(cover.audio)) <= -3.0 + 0.01


def test_silent_parts_give_silence():
    silence = np.zeros((RATE, 2), np.float32)
    echo = Echo()
    cover = make_cover(echo, song(silence, None, silence), OPTIONS, settings(key_semitones=1.0))
    assert not cover.audio.any() and not echo.options


def test_stems_are_kept_beside_the_cover(tmp_path):
    parts = song()
    cover = make_cover(Echo(), parts, OPTIONS, settings())
    write_cover(cover, parts, tmp_path / "c.flac", keep_stems=True)
    names = ("c.flac", "c.instrumental.wav", "c.lead.wav", "c.song_instrumental.wav", "c.song_lead.wav")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert {soundfile.info(tmp_path / name).frames for name in names} == {2 * RATE + 1}
    assert soundfile.info(tmp_path / "c.flac").channels == 2


def check(tmp_path, options=OPTIONS, output="out.wav", sample_rate=RATE, **changes):
    source = tmp_path / "in.wav"
    write_audio(source, np.zeros(100, np.float32), sample_rate)
    check_cover(Echo(), options, settings(**changes), tmp_path / output, [source])


def test_settings_are_checked_before_the_song_is_separated(tmp_path):
    check(tmp_path)
    with pytest.raises(ConfigurationError, match=r"tail_seconds=2: a cover has the length .* of the song"):
        check(tmp_path, replace(OPTIONS, tail_seconds=2.0))
    with pytest.raises(ConfigurationError, match=r"unknown output format '.xyz'"):
        check(tmp_path, output="out.xyz")
    with pytest.raises(ConfigurationError, match=r"out.mp3' cannot be written at 96000 Hz"):
        check(tmp_path, output="out.mp3", sample_rate=96000)
    with pytest.raises(ConfigurationError, match=r"output: '.*in.wav' is the same file"):
        check(tmp_path, output="in.wav")
    with pytest.raises(ConfigurationError, match=r"output: '.*in.lead.wav' is the same file"):
        write_audio(tmp_path / "in.lead.wav", np.zeros(100, np.float32), RATE)
        check_cover(Echo(), OPTIONS, settings(), tmp_path / "in.flac", [tmp_path / "in.lead.wav"])
    with pytest.raises(AudioError, match=r"gone.wav' cannot be read"):
        check_cover(Echo(), OPTIONS, settings(), tmp_path / "out.wav", [tmp_path / "gone.wav"])


def test_key_of_a_song_needs_a_voice_with_pitch(tmp_path):
    source = tmp_path / "in.wav"
    write_audio(source, np.zeros(100, np.float32), RATE)
    voice, output = Echo(pitch_guided=False), tmp_path / "out.wav"
    check_cover(voice, OPTIONS, settings(), output, [source])
    with pytest.raises(ConfigurationError, match="key_semitones=2: the voice has no pitch"):
        check_cover(voice, OPTIONS, settings(key_semitones=2.0), output, [source])


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "python_stretch", None)
    check(tmp_path)
    with pytest.raises(ConfigurationError, match=r'python-stretch.*pip install "rvc-lightning\[covers\]"'):
        check(tmp_path, key_semitones=1.0)


def test_song_or_stems_are_named():
    nothing = dict.fromkeys(("song", "vocals", "instrumental", "backing"))
    valid = SimpleNamespace(song={"song": "a.mp3"}, stems={"vocals": "v.wav", "instrumental": "i.wav"})
    for values in vars(valid).values():
        assert SongSettings.from_values(nothing | {"separation": "vocals"} | values).files()
    for values, message in (
        ({}, "song=... is missing: name the recording of a song, song=FILE, or its stems"),
        ({"vocals": "v.wav"}, "vocals=v.wav: name"),
        ({"song": "a.mp3", "vocals": "v.wav"}, "song=a.mp3 and vocals=v.wav: name the song or its stems"),
        (valid.stems | {"separation": "dry"}, "separation=dry: stems are not separated; name the song"),
        ({"song": "a.mp3", "separation": "drums"}, "separation='drums': choose one of: vocals, lead, dry"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            SongSettings.from_values(nothing | {"separation": "vocals"} | values)


def test_gains_out_of_range_are_rejected():
    with pytest.raises(ConfigurationError, match=r"gains.lead=90: choose a number from -60 to 24 dB"):
        settings(gains={"lead": 90.0})
    with pytest.raises(ConfigurationError, match="drums"):
        settings(gains={"drums": 1.0})
