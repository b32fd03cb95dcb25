"""An evaluation says what is known of conversions whose answers are known."""

import json

import numpy as np
import pytest
import soundfile
from evaluation_tools import RATE, KnownConverter, sung
from stubs import make_voice, quick_config

from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import AudioError, ConfigurationError
from rvc_lightning.evaluation import run
from rvc_lightning.evaluation.metrics import MetricSuite
from rvc_lightning.evaluation.quality import Quality
from rvc_lightning.evaluation.run import EvaluationSettings, Recordings

SAME = KnownConverter(lambda source, options: source)
BARE = {"judges": [], "page_clips": 0}


@pytest.fixture
def songs(tmp_path):
    """A folder with a few recordings."""
    folder = tmp_path / "songs"
    folder.mkdir()
    for name, hz in (("a", 150), ("b", 220)):
        soundfile.write(folder / f"{name}.wav", sung(hz), RATE)
    return folder


def evaluate(converter, folder, reference=None, counterpart=None, options=None, **settings):
    recordings = Recordings(folder, reference, counterpart)
    return run.evaluate(
        converter, recordings, EvaluationSettings(**BARE | settings), ConversionOptions(**options or {})
    )


def test_the_recording_itself_is_a_perfect_resynthesis(songs):
    report = evaluate(SAME, songs, task="resynthesis")
    assert [clip.name for clip in report.clips] == ["a.wav", "b.wav"]
    assert report.means["mel_distance_db"] == report.means["pitch_error_cents"] == report.means["level_db"] == 0
    assert report.means["pitch_correlation"] == pytest.approx(1)
    assert report.means["voicing_error"] == report.means["gross_pitch_error"] == 0
    assert report.means["speaker_similarity"] is None


def test_a_pitch_that_is_100_cents_off_is_100_cents_off(songs):
    report = evaluate(KnownConverter(lambda source, options: sung(150 * 2 ** (1 / 12))), songs / "a.wav")
    (clip,) = report.clips
    assert clip.converted["pitch_error_cents"] == pytest.approx(100, abs=3)
    assert clip.converted["gross_pitch_error"] > 0.95
    assert clip.converted["pitch_correlation"] > 0.99
    assert "mel_distance_db" not in clip.converted


def test_recordings_are_moved_to_the_pitch_of_the_voice_or_as_asked(songs):
    asked = []
    converter = KnownConverter(lambda source, options: asked.append(options) or source, median_f0_hz=300)
    report = evaluate(converter, songs, options={"protect": 0.25})
    assert [round(clip.transpose_semitones) for clip in report.clips] == [12, 5]
    assert [options.transpose_semitones for options in asked] == [12, 5]
    assert asked[0].protect == 0.25
    assert report.clips[0].converted["pitch_error_cents"] == pytest.approx(1200, abs=3)
    evaluate(converter, songs, transpose_semitones=3.0)
    assert asked[-1].transpose_semitones == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"proposed_pitch_hz": 151.0}, "by itself; options.transpose_semitones=N moves it otherwise"),
        ({"autotune": 0.5}, "how well a voice keeps the recording's own melody.*convert with it"),
        ({"f0_file": "curve.csv"}, "how well a voice keeps the recording's own melody.*convert with it"),
        ({"write_f0": True}, "convert with write_f0=true"),
        ({"output_format": "mp3"}, "clips are kept in the page alone"),
    ],
)
def test_options_that_cannot_be_judged_are_refused_with_why_and_what_serves(songs, options, message):
    ((name, value),) = options.items()
    with pytest.raises(
        ConfigurationError, match=rf"options\.{name}={value}: an evaluation takes no {name}: .*{message}"
    ):
        evaluate(SAME, songs, options=options)


def test_a_voice_that_does_not_tell_its_pitch_is_heard_from_the_reference(songs, tmp_path):
    soundfile.write(tmp_path / "target.wav", sung(300), RATE)
    report = evaluate(SAME, songs, reference=tmp_path / "target.wav")
    assert [clip.transpose_semitones for clip in report.clips] == [12, 5]


def test_the_counterpart_is_met_after_warping(songs, tmp_path):
    (tmp_path / "true").mkdir()
    silence = np.zeros(RATE // 5, np.float32)
    soundfile.write(songs / "a.wav", np.concatenate([silence, sung(150)]), RATE)
    soundfile.write(tmp_path / "true" / "a.flac", np.concatenate([silence, silence, sung(150)]), RATE)
    report = evaluate(SAME, songs, counterpart=tmp_path / "true")
    first, second = report.clips
    assert first.converted["counterpart_mel_distance_db"] < 1
    assert first.source["counterpart_mel_distance_db"] == first.converted["counterpart_mel_distance_db"]
    assert "counterpart_mel_distance_db" not in second.converted


def test_counterparts_of_other_names_are_an_error(songs, tmp_path):
    (tmp_path / "true").mkdir()
    soundfile.write(tmp_path / "true" / "z.wav", sung(150), RATE)
    with pytest.raises(ConfigurationError, match=r"has no file of the name of a recording, such as 'a\.wav'"):
        evaluate(SAME, songs, counterpart=tmp_path / "true")
    with pytest.raises(ConfigurationError, match="resynthesis is compared with the recordings"):
        evaluate(SAME, songs, counterpart=tmp_path / "true", task="resynthesis")


def test_what_cannot_be_judged_is_named_and_the_rest_judged(songs):
    (songs / "empty.wav").touch()
    (songs / "broken.flac").write_bytes(b"fLaC and nothing else")
    (songs / "notes.txt").touch()
    soundfile.write(songs / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(songs / "short.wav", sung(150, 0.1), RATE)
    report = evaluate(SAME, songs)
    assert [clip.name for clip in report.clips] == ["a.wav", "b.wav"]
    reasons = {other.path: other.reason for other in report.skipped}
    assert set(reasons) == {"empty.wav", "broken.flac", "notes.txt", "silent.wav", "short.wav"}
    assert "silent" in reasons["silent.wav"] and "shorter than 0.5 s" in reasons["short.wav"]
    assert all(f"skipped: {path}: " in report.text() for path in reasons)


def test_nothing_to_judge_is_one_clear_error(tmp_path):
    with pytest.raises(AudioError, match="audio: there is no file or folder"):
        Recordings(tmp_path / "nowhere")
    (tmp_path / "none").mkdir()
    with pytest.raises(AudioError, match=r"there is no recording in .* that can be judged"):
        evaluate(SAME, tmp_path / "none")
    soundfile.write(tmp_path / "none" / "silent.wav", np.zeros(RATE), RATE)
    with pytest.raises(AudioError, match=r"silent\.wav: silent \(peak"):
        evaluate(SAME, tmp_path / "none")


def test_long_recordings_are_cut_and_the_report_says_so(songs):
    report = evaluate(SAME, songs, clip_seconds=0.6, counterpart=songs, n_clips=1)
    (clip,) = report.clips
    assert clip.seconds == pytest.approx(0.6)
    assert "counterpart_mel_distance_db" not in clip.converted
    assert "a.wav: only its first 0.6 s were judged" in report.text()
    assert "a.wav: it or its counterpart is too long" in report.text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "copy"}, "there is no task named 'copy'; choose one of: conversion, resynthesis"),
        ({"n_clips": 0}, "n_clips=0: choose 1 or more"),
        ({"clip_seconds": "long"}, "clip_seconds='long': expected float"),
        ({"judges": ["ears"]}, "there is no judge named 'ears'; choose one of: quality, speaker, words"),
    ],
)
def test_settings_that_make_no_sense_are_refused(songs, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        evaluate(SAME, songs, **settings)


class Loudness:
    """Stands in for all judges: what they say follows from the loudness alone."""

    def embed(self, wav16k):
        loud = float(np.sqrt(np.mean(np.square(wav16k))))
        return np.array([np.cos(5 * loud), np.sin(5 * loud)])

    def judge(self, wav16k):
        return Quality(*(1.0 + np.abs(wav16k).max() * number for number in (1, 2, 3)))

    def phones(self, wav16k):
        return list("abcd" if np.abs(wav16k).max() > 0.3 else "abxd")


def test_judges_hear_the_conversion_the_source_and_the_target(songs, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "build_panel", lambda *_: MetricSuite(Loudness(), Loudness(), Loudness()))
    (tmp_path / "target").mkdir()
    for name in "yz":
        soundfile.write(tmp_path / "target" / f"{name}.wav", sung(150) / 100, RATE)
    half = KnownConverter(lambda source, options: source / 2)
    report = evaluate(half, songs, reference=tmp_path / "target")
    clip = report.clips[0]
    assert report.own_similarity == pytest.approx(1)
    assert clip.source["speaker_similarity"] < clip.converted["speaker_similarity"] < 1
    nearer = clip.converted["speaker_similarity"] - clip.source["speaker_similarity"]
    assert clip.converted["speaker_gain"] == pytest.approx(nearer / (1 - clip.source["speaker_similarity"]), rel=1e-3)
    assert clip.converted["phone_error"] == 0.25
    assert clip.source["mos_signal"] - 1 == pytest.approx(2 * (clip.converted["mos_signal"] - 1))
    assert clip.converted["level_db"] == pytest.approx(-6.02, abs=0.01)


def test_of_a_resynthesis_each_recording_is_compared_with_the_others(songs, monkeypatch):
    monkeypatch.setattr(run, "build_panel", lambda *_: MetricSuite(speaker=Loudness()))
    report = evaluate(SAME, songs, task="resynthesis")
    first, second = (clip.converted["speaker_similarity"] for clip in report.clips)
    assert first == second == pytest.approx(report.own_similarity)
    assert "speaker_gain" not in report.clips[0].converted


def test_what_a_strangers_voice_says_of_itself_can_be_written(tmp_path):
    voice = make_voice(quick_config(), model_name="\ud800" + "x" * 999, epoch=[1], step=7)
    facts = run.facts_about(voice, voice.save(tmp_path / "v.pth"))
    assert facts["name"] == "?" + "x" * 199 and facts["epoch"] == "[1]" and facts["step"] == 7
    json.dumps(facts).encode("utf-8")
    assert run.facts_about(voice, tmp_path)["digest"] is None


def test_a_missing_reference_is_named(songs, monkeypatch):
    monkeypatch.setattr(run, "build_panel", lambda *_: MetricSuite(speaker=Loudness()))
    report = evaluate(SAME, songs)
    assert report.left_out == ["speaker similarity: no clips of the target are named; add reference=FOLDER"]
    assert "left out: speaker similarity" in report.text()
