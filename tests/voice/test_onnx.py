"""The ONNX graph of a voice: its inputs, its metadata and the golden data."""

import sys

import numpy as np
import pytest
import torch
from stubs import make_voice, quick_config

from rvc_lightning import Voice
from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.voice import onnx as export
from rvc_lightning.voice.__main__ import main
from rvc_lightning.voice.onnx import VoiceGraph, export_onnx, graph_inputs

WITH_PITCH = ("content", "lengths", "coarse_pitch", "f0_hz", "speaker", "noise")


def session_of(path):
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.slow
@pytest.mark.parametrize("generator", ["hifigan_nsf", "source_filter"])
def test_exported_graph_matches_torch(generator, tmp_path):
    pytest.importorskip("onnxscript")
    path = tmp_path / "voice.onnx"
    voice = make_voice(quick_config(generator=generator), model_name="anna")
    assert export_onnx(voice.save(tmp_path / "voice.pth"), path) < 1e-4
    assert sorted(file.name for file in tmp_path.iterdir()) == ["voice.onnx", "voice.pth"]
    session, graph = session_of(path), VoiceGraph(voice.synthesizer)
    shapes = {value.name: value.shape for value in session.get_inputs()}
    assert shapes == {
        "content": ["batch", "frames", 768],
        "lengths": ["batch"],
        "coarse_pitch": ["batch", "frames"],
        "f0_hz": ["batch", "frames"],
        "speaker": ["batch"],
        "noise": ["batch", 8, "frames"],
        "source_noise": ["batch", "frames", 80],
    }
    types = {name: kind for name, kind, _ in graph_inputs(path)}
    assert list(types) == list(shapes) and set(types.values()) == {"tensor(float)", "tensor(int64)"}
    assert {name for name, kind in types.items() if kind == "tensor(int64)"} == {"lengths", "coarse_pitch", "speaker"}
    for batch, frames in ((1, 7), (4, 90)):
        inputs = graph.inputs(batch, frames)
        assert list(inputs) == list(shapes)
        (audio,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        assert audio.shape == (batch, 1, 80 * frames) and audio.std() > 1e-3
        np.testing.assert_allclose(audio, graph(**inputs).numpy(), atol=1e-4)
    facts = session.get_modelmeta().custom_metadata_map
    expected = {"contract": "2", "sample_rate": "8000", "content_encoder": "spectral", "content_dim": "768",
                "speaker_count": "2", "hop_samples": "80", "harmonics": "1", "latent_channels": "8",
                "generator": generator, "pitch_guided": "1", "noise_scale": "0.66666", "name": "anna",
                "training_info": "{}"}  # fmt: skip
    assert facts == {f"rvc_lightning.{key}": value for key, value in expected.items()}


@pytest.mark.parametrize("name", ["v2_f0_24k_hifigan", "v2_f0_40k_mrf", "v2_f0_32k_refinegan", "v2_nof0_40k_hifigan"])
def test_graph_without_noise_matches_golden_data(golden, name):
    data = golden.arrays(f"voice_{name}")
    graph = VoiceGraph(Voice.load(golden.path(f"voices/{name}.pth")).synthesizer)
    given = {
        "content": "phone",
        "lengths": "phone_lengths",
        "coarse_pitch": "pitch",
        "f0_hz": "pitchf",
        "speaker": "sid",
    }
    inputs = graph.inputs(1, data["phone"].shape[1])
    inputs = {key: data[given[key]][:1] if key in given else torch.zeros_like(value) for key, value in inputs.items()}
    torch.testing.assert_close(graph(**inputs), data["infer_out"], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("generator", "names"),
    [
        ("hifigan", ["content", "lengths", "speaker", "noise"]),
        ("refinegan", [*WITH_PITCH, "source_noise"]),
        ("mrf_hifigan", [*WITH_PITCH, "source_noise", "source_phase"]),
        ("source_filter", [*WITH_PITCH, "source_noise"]),
    ],
)  # fmt: skip
def test_all_random_numbers_are_inputs(generator, names):
    """Equal inputs give equal audio, and every input has an effect."""
    channels = 128 if generator == "refinegan" else 16
    voice = make_voice(quick_config(generator=generator, initial_channels=channels))
    graph = VoiceGraph(voice.synthesizer)
    inputs = graph.inputs(2, 9)
    assert list(inputs) == names
    first, again = graph(**inputs), graph(**inputs)
    assert torch.equal(first, again) and torch.isfinite(first).all()
    for name in names:
        if name not in ("lengths", "coarse_pitch"):
            changed = 1 - inputs[name]
            assert not torch.equal(graph(**inputs | {name: changed}), first), name


def test_inputs_replace_random_numbers_of_torch(monkeypatch):
    voice = make_voice(quick_config(generator="mrf_hifigan"))
    graph = VoiceGraph(voice.synthesizer)
    inputs = graph.inputs(1, 9)
    drawn = iter((inputs["noise"], inputs["source_noise"].reshape(1, 720, 9)))
    monkeypatch.setattr(torch, "randn_like", lambda x: next(drawn))
    monkeypatch.setattr(torch, "rand", lambda *size, **kw: inputs["source_phase"].reshape(size).clone())
    names = ("content", "lengths", "coarse_pitch", "f0_hz", "speaker")
    expected = voice.synthesizer.infer(*(inputs[name] for name in names))
    monkeypatch.undo()
    assert torch.equal(graph(**inputs), expected)


def test_graph_that_differs_from_torch_is_removed(tmp_path, monkeypatch):
    path = make_voice(quick_config()).save(tmp_path / "voice.pth")
    monkeypatch.setattr(export, "_write", lambda graph, metadata, file: None)
    monkeypatch.setattr(export, "_largest_difference", lambda graph, file: float("nan"))
    with pytest.raises(VoiceError, match=r"differs from torch by nan, more than 0\.0001"):
        export_onnx(path, tmp_path / "voice.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["voice.pth"]


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigurationError, match=r'requires the package onnxscript .*"rvc-lightning\[onnx\]"'):
        export_onnx(tmp_path / "voice.pth", tmp_path / "voice.onnx")


def test_command_lists_the_inputs(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "rvc_lightning.voice")
    given = [("content", "tensor(float)", "batch, frames, 768"), ("lengths", "tensor(int64)", "batch")]
    monkeypatch.setattr(export, "export_onnx", lambda voice, output: 1e-6)
    monkeypatch.setattr(export, "graph_inputs", lambda path: given)
    main(["onnx", "voice.pth", str(tmp_path / "voice.onnx")])
    lines = caplog.text.splitlines()
    assert [line.split() for line in lines if "batch" in line] == [
        ["content", "tensor(float)", "batch,", "frames,", "768"],
        ["lengths", "tensor(int64)", "batch"],
    ]
