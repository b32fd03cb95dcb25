"""Evaluation of conversions whose scores are known."""

import json

import numpy as np
import pytest
import soundfile
from evaluation_tools import RATE, KnownConverter, gliding_tone
from stubs import make_voice, quick_config

from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import AudioError, ConfigurationError
from rvc_lightning.evaluation import run
from rvc_lightning.evaluation.metrics import MetricSuite
from rvc_lightning.evaluation.mos import OpinionScores
from rvc_lightning.evaluation.settings import EvaluationSettings, Recordings

SAME = KnownConverter(lambda source, options: source)
SETTINGS = {
    "task": "conversion", "transpose_semitones": None, "metrics": [], "require_metrics": False, "n_clips": None,
    "clip_seconds": 30.0, "reference_clips": 30, "page_clips": 0,
}  # fmt: skip


@pytest.fixture
def songs(tmp_path):
    """A folder with two recordings."""
    folder = tmp_path / "songs"
    folder.mkdir()
    for name, hz in (("a", 150), ("b", 220)):
        soundfile.write(folder / f"{name}.wav", gliding_tone(hz), RATE)
    return folder


def evaluate(converter, folder, reference=None, counterpart=None, options=None, **settings):
    recordings = Recordings(folder, reference, counterpart)
    return run.evaluate(
        converter, recordings, EvaluationSettings(**SETTINGS | settings), ConversionOptions(**options or {})
    )


@pytest.mark.slow
def test_identity_is_a_perfect_resynthesis(songs):
    report = evaluate(SAME, songs, task="resynthesis")
    assert [clip.name for clip in report.clips] == ["a.wav", "b.wav"]
    assert report.means["mel_distance_db"] == report.means["pitch_error_cents"] == report.means["level_db"] == 0
    assert report.means["pitch_correlation"] == pytest.approx(1)
    assert report.means["voicing_error"] == report.means["gross_pitch_error"] == 0
    assert report.means["speaker_similarity"] is None


def test_pitch_error_is_in_cents(songs):
    report = evaluate(KnownConverter(lambda source, options: gliding_tone(150 * 2 ** (1 / 12))), songs / "a.wav")
    (clip,) = report.clips
    assert clip.converted["pitch_error_cents"] == pytest.approx(100, abs=3)
    assert clip.converted["gross_pitch_error"] > 0.95
    assert clip.converted["pitch_correlation"] > 0.99
    assert "mel_distance_db" not in clip.converted


@pytest.mark.slow
def test_recordings_are_transposed_to_the_voice_or_as_requested(songs):
    requested = []
    converter = KnownConverter(lambda source, options: requested.append(options) or source, median_f0_hz=300)
    report = evaluate(converter, songs, options={"protect": 0.25})
    assert [round(clip.transpose_semitones) for clip in report.clips] == [12, 5]
    assert [options.transpose_semitones for options in requested] == [12, 5]
    assert requested[0].protect == 0.25
    assert report.clips[0].converted["pitch_error_cents"] == pytest.approx(1200, abs=3)
    evaluate(converter, songs, transpose_semitones=3.0)
    assert requested[-1].transpose_semitones == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"proposed_pitch_hz": 151}, "pitch of the voice; options.transpose_semitones=N sets another shift"),
        ({"autotune": 0.5}, "recording's own melody.*use it in a conversion"),
        ({"f0_file": "curve.csv"}, "recording's own melody.*use it in a conversion"),
        ({"write_f0": True}, "convert with write_f0=true"),
        ({"output_format": "mp3"}, "clips are stored in the page only"),
    ],
)
def test_unsupported_options_are_rejected_with_an_alternative(songs, options, message):
    ((name, value),) = options.items()
    with pytest.raises(ConfigurationError, match=rf"{name}={value}: not supported by an evaluation: .*{message}"):
        evaluate(SAME, songs, options=options)


def test_unknown_pitch_of_a_voice_is_measured_on_the_reference(songs, tmp_path):
    soundfile.write(tmp_path / "target.wav", gliding_tone(300), RATE)
    report = evaluate(SAME, songs, reference=tmp_path / "target.wav")
    assert [clip.transpose_semitones for clip in report.clips] == [12, 5]


def test_counterparts_are_aligned_by_warping(songs, tmp_path):
    (tmp_path / "true").mkdir()
    silence = np.zeros(RATE // 5, np.float32)
    soundfile.write(songs / "a.wav", np.concatenate([silence, gliding_tone(150)]), RATE)
    soundfile.write(tmp_path / "true" / "a.flac", np.concatenate([silence, silence, gliding_tone(150)]), RATE)
    report = evaluate(SAME, songs, counterpart=tmp_path / "true")
    first, second = report.clips
    assert first.converted["counterpart_mel_distance_db"] < 1
    assert first.source["counterpart_mel_distance_db"] == first.converted["counterpart_mel_distance_db"]
    assert "counterpart_mel_distance_db" not in second.converted


def test_counterparts_without_matching_names_are_an_error(songs, tmp_path):
    (tmp_path / "true").mkdir()
    soundfile.write(tmp_path / "true" / "z.wav", gliding_tone(150), RATE)
    with pytest.raises(ConfigurationError, match=r"has no file with the name of a recording, such as 'a\.wav'"):
        evaluate(SAME, songs, counterpart=tmp_path / "true")
    with pytest.raises(ConfigurationError, match="resynthesis is compared with the recordings"):
        evaluate(SAME, songs, counterpart=tmp_path / "true", task="resynthesis")


@pytest.mark.slow
def test_unusable_recordings_are_skipped_and_reported(songs):
    (songs / "empty.wav").touch()
    (songs / "broken.flac").write_bytes(b"fLaC and nothing else")
    (songs / "notes.txt").touch()
    soundfile.write(songs / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(songs / "short.wav", gliding_tone(150, 0.1), RATE)
    report = evaluate(SAME, songs)
    assert [clip.name for clip in report.clips] == ["a.wav", "b.wav"]
    reasons = {other.path: other.reason for other in report.skipped}
    assert set(reasons) == {"empty.wav", "broken.flac", "notes.txt", "silent.wav", "short.wav"}
    assert "silent" in reasons["silent.wav"] and "shorter than 0.5 s" in reasons["short.wav"]
    assert all(f"skipped: {path}: " in report.text() for path in reasons)


def test_no_usable_recording_is_an_error(tmp_path):
    with pytest.raises(AudioError, match="audio: no such file or folder"):
        Recordings(tmp_path / "nowhere")
    (tmp_path / "none").mkdir()
    with pytest.raises(AudioError, match=r"no usable recording in"):
        evaluate(SAME, tmp_path / "none")
    soundfile.write(tmp_path / "none" / "silent.wav", np.zeros(RATE), RATE)
    with pytest.raises(AudioError, match=r"silent\.wav: silent \(peak"):
        evaluate(SAME, tmp_path / "none")


def test_long_recordings_are_truncated_and_reported(songs):
    report = evaluate(SAME, songs, clip_seconds=0.6, counterpart=songs, n_clips=1)
    (clip,) = report.clips
    assert clip.seconds == pytest.approx(0.6)
    assert "counterpart_mel_distance_db" not in clip.converted
    assert "a.wav: only its first 0.6 s were evaluated" in report.text()
    assert "a.wav: not compared with its counterpart: one of them is too long" in report.text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "copy"}, "task='copy': choose one of: conversion, resynthesis"),
        ({"n_clips": 0}, "n_clips=0: choose a whole number from 1 up or null"),
        ({"clip_seconds": "long"}, "clip_seconds='long': choose a number from 0.5 up"),
        ({"metrics": ["ears"]}, "unknown metric 'ears'; choose one of: quality, speaker, words"),
    ],
)
def test_invalid_settings_are_rejected(songs, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        evaluate(SAME, songs, **settings)


class Loudness:
    """Stand-in for all optional metrics that depends on the level only."""

    def embed(self, wav16k):
        loud = float(np.sqrt(np.mean(np.square(wav16k))))
        return np.array([np.cos(5 * loud), np.sin(5 * loud)])

    def estimate(self, wav16k):
        return OpinionScores(*(1.0 + np.abs(wav16k).max() * number for number in (1, 2, 3)))

    def transcribe(self, wav16k):
        return list("abcd" if np.abs(wav16k).max() > 0.3 else "abxd")


def test_metrics_score_the_conversion_and_the_source(songs, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "build_metrics", lambda *_: MetricSuite(Loudness(), Loudness(), Loudness()))
    (tmp_path / "target").mkdir()
    for name in "yz":
        soundfile.write(tmp_path / "target" / f"{name}.wav", gliding_tone(150) / 100, RATE)
    half = KnownConverter(lambda source, options: source / 2)
    report = evaluate(half, songs, reference=tmp_path / "target")
    clip = report.clips[0]
    assert report.reference_similarity == pytest.approx(1)
    assert clip.source["speaker_similarity"] < clip.converted["speaker_similarity"] < 1
    nearer = clip.converted["speaker_similarity"] - clip.source["speaker_similarity"]
    assert clip.converted["speaker_gain"] == pytest.approx(nearer / (1 - clip.source["speaker_similarity"]), rel=1e-3)
    assert clip.converted["phone_error"] == 0.25
    assert clip.source["mos_signal"] - 1 == pytest.approx(2 * (clip.converted["mos_signal"] - 1))
    assert clip.converted["level_db"] == pytest.approx(-6.02, abs=0.01)


def test_resynthesis_compares_each_recording_with_the_others(songs, monkeypatch):
    monkeypatch.setattr(run, "build_metrics", lambda *_: MetricSuite(speaker=Loudness()))
    report = evaluate(SAME, songs, task="resynthesis")
    first, second = (clip.converted["speaker_similarity"] for clip in report.clips)
    assert first == second == pytest.approx(report.reference_similarity)
    assert "speaker_gain" not in report.clips[0].converted


def test_untrusted_entries_of_a_voice_are_valid_json(tmp_path):
    voice = make_voice(quick_config(), model_name="\ud800" + "x" * 999, epoch=[1], step=7)
    facts = run.describe_voice(voice, voice.save(tmp_path / "v.pth"))
    assert facts["name"] == r"\ud800" + "x" * 194 and facts["epoch"] is None and facts["step"] == 7
    json.dumps(facts).encode("utf-8")
    assert run.describe_voice(voice, tmp_path)["digest"] is None


def test_reference_without_recordings_is_an_error(songs, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioError, match=r"reference: no usable recording in '.*empty'; choose clips of the target"):
        evaluate(SAME, songs, reference=tmp_path / "empty")


def test_report_names_the_voices_of_every_tool(tmp_path):
    """A fork of the WebUI writes the name as another entry."""
    assert run.describe_voice(make_voice(quick_config(), name="Anna"), tmp_path / "v.pth")["name"] == "Anna"


def test_missing_reference_is_reported(songs, monkeypatch):
    monkeypatch.setattr(run, "build_metrics", lambda *_: MetricSuite(speaker=Loudness()))
    report = evaluate(SAME, songs)
    assert report.missing == ["speaker similarity: no clips of the target; add reference=FOLDER"]
    assert "missing: speaker similarity" in report.text()
