"""Judges beside what they must tell apart. The demo's voices are synthetic, yet two speakers."""

import builtins
from pathlib import Path

import numpy as np
import pytest
import soundfile

import rvc_lightning
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.evaluation import metrics as judges
from rvc_lightning.evaluation.metrics import build_metrics, why_not_importable
from rvc_lightning.evaluation.speaker import Target, evenly, gain
from rvc_lightning.evaluation.words import error_rate

DEMO = Path(rvc_lightning.__file__).parent / "assets" / "demo"
SECOND_STEP = "pip install --no-deps resemblyzer, beside the extra rvc_lightning[evaluate]"


@pytest.fixture(scope="module")
def clips():
    """Two sentences of the source speaker and two of the target, 16 kHz."""
    names = ("source/01", "source/02", "target/09", "target/10")
    return [soundfile.read(DEMO / f"{name}.flac", dtype="float32")[0] for name in names]


def test_one_speaker_is_nearer_than_another(clips):
    pytest.importorskip("resemblyzer", reason=SECOND_STEP)
    judge = build_metrics(["speaker"]).speaker
    first, second, target, other = (judge.embed(clip) for clip in clips)
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    assert min(first @ second, target @ other) > max(first @ target, second @ other) + 0.05
    assert judge.embed(clips[0] / 10) @ first > 0.999


def test_noise_lowers_the_opinion(clips):
    pytest.importorskip("speechmos", reason="pip install rvc_lightning[evaluate]")
    judge = build_metrics(["quality"]).quality
    clean = judge.judge(clips[0] * 2)
    noisy = judge.judge(clips[0] + 0.1 * np.random.default_rng(0).standard_normal(len(clips[0])))
    assert 1 <= noisy.overall < clean.overall - 0.5 <= 5
    assert noisy.background < clean.background


def test_the_same_words_have_the_same_phones(clips):
    pytest.importorskip("pocketsphinx", reason="pip install rvc_lightning[evaluate]")
    judge = build_metrics(["words"]).words
    said = judge.phones(clips[0])
    assert len(said) > 10 and all(phone.isalpha() for phone in said)
    assert error_rate(judge.phones(clips[0] / 4), said) < 0.2
    assert error_rate(judge.phones(clips[1]), said) > 0.5


def test_a_judge_that_is_not_installed_is_left_out_with_the_remedy(monkeypatch):
    really = builtins.__import__
    monkeypatch.setattr(judges, "import_module", lambda name: really("no_such_module_" + name))
    panel = build_metrics(list(judges.JUDGES))
    assert panel.speaker is panel.quality is panel.words is None
    assert panel.left_out[0].startswith("speaker similarity: the package no_such_module_resemblyzer is not installed; ")
    assert "--no-deps resemblyzer" in panel.left_out[0]
    assert [text.split(":")[0] for text in panel.left_out] == ["speaker similarity", "estimated MOS", "phone error"]
    with pytest.raises(ConfigurationError, match=r"judges=\['quality'\] are demanded; estimated MOS: .*pip install"):
        build_metrics(["quality"], demand=True)


def test_a_package_that_breaks_on_import_is_told_from_one_that_is_missing(monkeypatch):
    def broken(name):
        raise ImportError("its library is gone")

    monkeypatch.setattr(judges, "import_module", broken)
    assert why_not_importable("x") == "the package x cannot be imported (its library is gone)"


@pytest.mark.parametrize(
    ("heard", "said", "rate"),
    [("abc", "abc", 0), ("", "abc", 1), ("axc", "abc", 1 / 3), ("abcd", "abc", 1 / 3), ("bc", "abc", 1 / 3),
     ("kitten", "sitting", 3 / 7), ("xyzxyz", "abc", 1)],
)  # fmt: skip
def test_error_rates_are_levenshteins_and_1_at_most(heard, said, rate):
    assert error_rate(list(heard), list(said)) == pytest.approx(rate)


def test_of_nothing_said_there_is_no_error_rate():
    assert error_rate(["AH"], []) is None


def test_gain_goes_from_the_source_to_the_targets_own_clips():
    assert gain(0.5, 0.5, 0.9) == 0
    assert gain(0.9, 0.5, 0.9) == pytest.approx(1)
    assert gain(0.3, 0.5, 0.9) == pytest.approx(-0.5)
    assert gain(0.9, 0.88, 0.9) is gain(0.9, 0.5, None) is None


def test_a_target_leaves_out_the_clip_that_is_judged():
    clips = np.eye(3)[:2]
    target = Target(("a", "b"), clips)
    assert target.similarity(clips[0]) == pytest.approx(2**-0.5)
    assert target.similarity(clips[0], exclude="a") == target.own_similarity == 0
    alone = Target(("a",), clips[:1])
    assert alone.own_similarity is alone.similarity(clips[0], exclude="a") is None


def test_items_are_taken_evenly():
    assert evenly(range(10), 4) == [0, 3, 6, 9]
    assert evenly("abc", None) == evenly("abc", 5) == ["a", "b", "c"]
    assert evenly(range(10), 1) == [0]
