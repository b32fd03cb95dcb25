"""Pitch networks in preparation (Lightning's Trainer) and in conversion (Fabric)."""

from pathlib import Path

import numpy as np
import pytest
from defaults import make_extraction
from omegaconf import OmegaConf
from stubs import StubContent, cpu_trainer, make_pitch_weights, make_voice, quick_config

from rvc_lightning import VoiceConverter
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.content import build_content_encoder
from rvc_lightning.data.features import FeatureTask, extract_features
from rvc_lightning.data.manifest import DatasetHeader
from rvc_lightning.pitch import build_pitch_extractor
from rvc_lightning.pitch.base import measure
from rvc_lightning.pitch.fcpe import Fcpe
from rvc_lightning.training.networks import voice_metadata

SECONDS = (0.5, 0.9, 1.0)


@pytest.fixture
def network(tmp_path):
    return build_pitch_extractor("fcpe", path=make_pitch_weights(tmp_path, "fcpe"), threshold=0.0)


def noise(seconds):
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * 16000)).astype(np.float32)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_preparation_extracts_the_pitch_of_each_slice(network, tmp_path, precision):
    tasks = []
    for number, seconds in enumerate(SECONDS):
        write_audio(tmp_path / f"{number}.wav", noise(seconds), 16000)
        f0, content = (str(tmp_path / f"{number}-{kind}.npy") for kind in ("f0", "content"))
        # Slice 1 needs no pitch.
        tasks.append(FeatureTask(str(tmp_path / f"{number}.wav"), seconds, None if number == 1 else f0, content))
    encoder = build_content_encoder("spectral")
    extract_features(tasks, network, encoder, cpu_trainer(precision=precision), make_extraction())
    assert not (tmp_path / "1-f0.npy").exists() and all(Path(task.content).exists() for task in tasks)
    for number in (0, 2):
        f0_hz = np.load(tmp_path / f"{number}-f0.npy")
        expected_hz = measure(network, noise(SECONDS[number]))
        assert f0_hz.dtype == np.float32 and f0_hz.shape == expected_hz.shape and (f0_hz > 0).all()
        if precision == "32-true":
            np.testing.assert_allclose(f0_hz, expected_hz, rtol=1e-4)


def test_conversion_uses_the_network(network, monkeypatch):
    converter = VoiceConverter(make_voice(quick_config()), content=StubContent(), pitch=network, trainer=cpu_trainer())
    contours, track = [], Fcpe.track
    monkeypatch.setattr(Fcpe, "track", lambda *inputs: contours.append(track(*inputs)) or contours[-1])
    audio, rate = converter.convert(noise(1.0), sample_rate=16000)
    assert len(audio) == rate == 8000
    [f0_hz] = contours
    assert (f0_hz > 0).any() and f0_hz.isfinite().all()


def test_voice_metadata_has_no_paths(dataset):
    component = {"name": "rmvpe", "options": {"path": "/home/anna/rmvpe.pt", "threshold": 0.05}}
    config = OmegaConf.create({"name": "anna", "author": None, "model": {"noise_scale": 0.3}})
    facts = voice_metadata(config, DatasetHeader(24000, pitch=component, content={**component, "dim": 768}), dataset)
    assert facts["pitch"] == {"name": "rmvpe", "options": {"threshold": 0.05}}
    assert facts["content"]["options"] == {"threshold": 0.05}
