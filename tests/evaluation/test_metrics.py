"""Optional metrics on recordings that they must distinguish; the demo's two speakers are synthetic."""

import builtins
from pathlib import Path

import numpy as np
import pytest
import soundfile

import rvc_lightning
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.evaluation import metrics
from rvc_lightning.evaluation.metrics import OPTIONAL_METRICS, build_metrics, import_problem
from rvc_lightning.evaluation.phones import phone_error_rate
from rvc_lightning.evaluation.speaker import TargetSpeaker, speaker_gain, spread

DEMO = Path(rvc_lightning.__file__).parent / "assets" / "demo"
INSTALL_RESEMBLYZER = "pip install --no-deps resemblyzer, after the extra rvc_lightning[evaluate]"


@pytest.fixture(scope="module")
def clips():
    """Two sentences by the source speaker and two by the target speaker, at 16 kHz."""
    names = ("source/01", "source/02", "target/09", "target/10")
    return [soundfile.read(DEMO / f"{name}.flac", dtype="float32")[0] for name in names]


@pytest.mark.slow
def test_clips_of_one_speaker_are_more_similar_than_of_two(clips):
    pytest.importorskip("resemblyzer", reason=INSTALL_RESEMBLYZER)
    encoder = build_metrics(["speaker"]).speaker
    first, second, target, other = (encoder.embed(clip) for clip in clips)
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    assert min(first @ second, target @ other) > max(first @ target, second @ other) + 0.05
    assert encoder.embed(clips[0] / 10) @ first > 0.999


@pytest.mark.slow
def test_noise_lowers_the_mean_opinion_score(clips):
    pytest.importorskip("speechmos", reason="pip install rvc_lightning[evaluate]")
    estimator = build_metrics(["quality"]).quality
    clean = estimator.estimate(clips[0] * 2)
    noisy = estimator.estimate(clips[0] + 0.1 * np.random.default_rng(0).standard_normal(len(clips[0])))
    assert 1 <= noisy.overall < clean.overall - 0.5 <= 5
    assert noisy.background < clean.background


@pytest.mark.slow
def test_phone_error_distinguishes_words_and_ignores_level(clips):
    pytest.importorskip("pocketsphinx", reason="pip install rvc_lightning[evaluate]")
    recognizer = build_metrics(["words"]).words
    reference = recognizer.transcribe(clips[0])
    assert len(reference) > 10 and all(phone.isalpha() for phone in reference)
    assert phone_error_rate(recognizer.transcribe(clips[0] / 4), reference) < 0.2
    assert phone_error_rate(recognizer.transcribe(clips[1]), reference) > 0.5


def test_missing_packages_are_reported_with_their_remedy(monkeypatch):
    real_import = builtins.__import__
    monkeypatch.setattr(metrics, "import_module", lambda name: real_import("no_such_module_" + name))
    suite = build_metrics(list(OPTIONAL_METRICS))
    assert suite.speaker is suite.quality is suite.words is None
    assert suite.missing[0].startswith("speaker similarity: the package no_such_module_resemblyzer is not installed; ")
    assert "--no-deps resemblyzer" in suite.missing[0]
    assert [text.split(":")[0] for text in suite.missing] == ["speaker similarity", "estimated MOS", "phone error"]
    with pytest.raises(ConfigurationError, match=r"metrics=\['quality'\] are required; estimated MOS: .*pip install"):
        build_metrics(["quality"], required=True)


def test_packages_that_fail_to_import_are_not_reported_as_missing(monkeypatch):
    def broken(name):
        raise ImportError("its library is gone")

    monkeypatch.setattr(metrics, "import_module", broken)
    assert import_problem("x") == "the package x cannot be imported (its library is gone)"


@pytest.mark.parametrize(
    ("hypothesis", "reference", "rate"),
    [("abc", "abc", 0), ("", "abc", 1), ("axc", "abc", 1 / 3), ("abcd", "abc", 1 / 3), ("bc", "abc", 1 / 3),
     ("kitten", "sitting", 3 / 7), ("xyzxyz", "abc", 1)],
)  # fmt: skip
def test_phone_error_rate_is_levenshtein_distance_clipped_to_1(hypothesis, reference, rate):
    assert phone_error_rate(list(hypothesis), list(reference)) == pytest.approx(rate)


def test_empty_reference_has_no_phone_error_rate():
    assert phone_error_rate(["AH"], []) is None


def test_speaker_gain_is_relative_to_the_target():
    assert speaker_gain(0.5, 0.5, 0.9) == 0
    assert speaker_gain(0.9, 0.5, 0.9) == pytest.approx(1)
    assert speaker_gain(0.3, 0.5, 0.9) == pytest.approx(-0.5)
    assert speaker_gain(0.9, 0.88, 0.9) is speaker_gain(0.9, 0.5, None) is None


def test_similarity_excludes_the_clip_itself():
    clips = np.eye(3)[:2]
    target = TargetSpeaker(("a", "b"), clips)
    assert target.similarity(clips[0]) == pytest.approx(2**-0.5)
    assert target.similarity(clips[0], exclude="a") == target.reference_similarity == 0
    alone = TargetSpeaker(("a",), clips[:1])
    assert alone.reference_similarity is alone.similarity(clips[0], exclude="a") is None


def test_items_are_evenly_spread():
    assert spread(range(10), 4) == [0, 3, 6, 9]
    assert spread("abc", None) == spread("abc", 5) == ["a", "b", "c"]
    assert spread(range(10), 1) == [0]
