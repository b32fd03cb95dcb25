"""ONNX graphs as voices: those of this project, and with the inputs of other exporters."""

import pickle

import golden_rule
import numpy as np
import pytest
import torch
from stubs import StubContent, StubPitch, cpu_trainer, make_voice, quick_config

from rvc_lightning import ConversionOptions, Voice, VoiceConverter
from rvc_lightning.conversion.streaming import StreamingConverter
from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.models import Synthesizer
from rvc_lightning.models.noise import drawing_from
from rvc_lightning.pitch.scale import coarse_pitch
from rvc_lightning.voice import onnx_voice
from rvc_lightning.voice.__main__ import main
from rvc_lightning.voice.importing import import_voices
from rvc_lightning.voice.info import read_voice_info
from rvc_lightning.voice.library import delete_voice, list_voices
from rvc_lightning.voice.onnx import export_onnx
from rvc_lightning.voice.onnx_voice import OnnxVoice, open_voice

pytestmark = pytest.mark.slow
pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

WEBUI = {"content": "phone", "lengths": "phone_lengths", "coarse_pitch": "pitch", "f0_hz": "pitchf", "speaker": "ds"}
FORK = {"content": "feats", "lengths": "p_len", "coarse_pitch": "pitch", "f0_hz": "pitchf", "speaker": "sid"}
SIZES = {"source_noise": 80, "noise": 8}
NEW = ("training_info", "content_layer", "generator")
"""Metadata that version 1 of the contract lacks."""


def write_other(source, path, names, takes_noise):
    """Change a graph of this project to one of another exporter.

    It takes one item, has no metadata and no noise in its source, and applies no scale to its noise.
    """
    model = onnx.load(source)
    graph, helper = model.graph, onnx.helper
    del model.metadata_props[:]
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    removed = ["source_noise"] if takes_noise else ["source_noise", "noise"]
    given = [value for value in graph.input if value.name not in removed]
    del graph.input[:]
    for value in given:
        value.name = {"noise": "rnd"}.get(value.name, names.get(value.name, value.name))
        value.type.tensor_type.shape.dim[0].dim_value = 1
    graph.input.extend(given)
    first = []
    for name in removed:
        zeros = onnx.numpy_helper.from_array(np.zeros((768, SIZES[name]), np.float32), f"{name}_zeros")
        graph.initializer.append(zeros)
        made = name if name == "source_noise" else "noise_by_frame"
        first.append(helper.make_node("MatMul", [names["content"], zeros.name], [made]))
    if takes_noise:
        graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1 / 0.66666), "scale"))
        first.append(helper.make_node("Mul", ["rnd", "scale"], ["noise"]))
    else:
        first.append(helper.make_node("Transpose", ["noise_by_frame"], ["noise"], perm=[0, 2, 1]))
    nodes = [*first, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    path.write_bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def voice():
    training_info = {
        "content": {"name": "spectral", "options": {}},
        "pitch": {"name": "swift_f0", "options": {}},
        "speakers": ["anna", "ben", "zoë"],
        "median_f0_hz": 180.5,
    }
    return make_voice(
        quick_config(speaker_count=3), model_name="anna", embedder_output_layer=7, rvc_lightning=training_info
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory, voice):
    """Graphs of this project and of others."""
    folder = tmp_path_factory.mktemp("graphs")
    export_onnx(voice.save(folder / "anna.pth"), folder / "ours.onnx")
    write_other(folder / "ours.onnx", folder / "webui.onnx", WEBUI, takes_noise=True)
    write_other(folder / "ours.onnx", folder / "fork.onnx", FORK, takes_noise=False)
    return folder


class Zeros:
    """Noise of zeros."""

    def randn(self, shape, like):
        return like.new_zeros(shape)

    def rand(self, shape, like):
        return like.new_zeros(shape)


class PriorOnly(Zeros):
    """Noise of the prior only: the first draw."""

    def __init__(self):
        self.drawn = False

    def randn(self, shape, like):
        self.drawn, first = True, not self.drawn
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)) if first else like.new_zeros(shape)


def inputs(batch=2, frames=50):
    random = torch.Generator().manual_seed(1)
    f0_hz = torch.full((batch, frames), 150.0)
    return {
        "content": torch.randn(batch, frames, 768, generator=random),
        "lengths": torch.arange(frames, frames - 7 * batch, -7),
        "coarse_pitch": coarse_pitch(f0_hz),
        "f0_hz": f0_hz,
        "speaker": torch.arange(batch),
    }


def inside(audio, lengths, hop=80):
    return [item[0, : count * hop].numpy() for item, count in zip(audio, lengths.tolist(), strict=True)]


@pytest.mark.parametrize("name", ["ours", "webui"])
def test_graph_gives_the_audio_of_the_networks(name, folder, voice):
    given = inputs()
    with drawing_from(PriorOnly()):
        expected = voice.synthesizer.infer(**given, noise_scale=0.4)
    with drawing_from(PriorOnly()):
        audio = open_voice(folder / f"{name}.onnx").synthesizer.infer(**given, noise_scale=0.4)
    for item, other in zip(inside(audio, given["lengths"]), inside(expected, given["lengths"]), strict=True):
        # A single item has no padding, which the generator would see in its last frame.
        np.testing.assert_allclose(item[:-80], other[:-80], atol=1e-4)


def test_graph_without_noise_input_is_run(folder, voice):
    given = inputs(batch=1)
    with drawing_from(Zeros()):
        expected = voice.synthesizer.infer(**given)
    audio = open_voice(folder / "fork.onnx").synthesizer.infer(**given)
    np.testing.assert_allclose(audio.numpy(), expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("variational", [False, True])
def test_graph_of_the_source_filter(variational, tmp_path):
    path, config = tmp_path / "voice.onnx", quick_config(generator="source_filter", variational=variational)
    state = Synthesizer(config).state_dict()
    state["generator.conv_post.weight"].normal_(std=0.1)
    voice = Voice.from_synthesizer(config, state, {"embedder_model": "spectral"})
    export_onnx(voice.save(tmp_path / "voice.pth"), path)
    graph, given = open_voice(path), inputs()
    assert graph.config.variational == variational == ("noise" in graph.graph.inputs)
    with drawing_from(Zeros()):
        expected, audio = (each.synthesizer.infer(**given) for each in (voice, graph))
    assert expected.std() > 1e-3
    np.testing.assert_allclose(audio.numpy(), expected.numpy(), atol=1e-4)
    # With the same random numbers.
    source, converters = (
        np.sin(np.arange(16000) * 0.06),
        [VoiceConverter(each, content=StubContent()) for each in (voice, graph)],
    )
    expected, audio = (converter.convert(source, sample_rate=16000)[0] for converter in converters)
    np.testing.assert_allclose(audio, expected, atol=1e-3)


def test_first_frames_are_context(folder, voice):
    given = inputs(batch=1, frames=120)
    with drawing_from(Zeros()):
        expected = voice.synthesizer.infer(**given, first_frame=20)
        audio = open_voice(folder / "ours.onnx").synthesizer.infer(**given, first_frame=20)
    assert audio.shape == expected.shape
    # The generator of the networks has no context at its first frame.
    np.testing.assert_allclose(audio[..., 30 * 80 :].numpy(), expected[..., 30 * 80 :].numpy(), atol=1e-4)


def convert(path, speaker=None, samples=16000):
    converter = VoiceConverter(open_voice(path), content_path=None, pitch=StubPitch(), trainer=cpu_trainer())
    return converter.convert(
        golden_rule.stub_audio("graph", samples / 16000), ConversionOptions(speaker=speaker), 16000
    )


def test_conversion_by_our_graph_is_that_of_the_voice(folder):
    audio, rate = convert(folder / "ours.onnx", speaker=1)
    expected, _ = convert(folder / "anna.pth", speaker=1)
    assert rate == 8000
    np.testing.assert_allclose(audio, expected, atol=1e-3)


def test_conversion_by_a_graph_of_the_webui(folder, monkeypatch):
    monkeypatch.setattr(onnx_voice, "_information", lambda graph: {"embedder_model": "spectral"})
    audio, rate = convert(folder / "webui.onnx", speaker=2)
    expected, _ = convert(folder / "anna.pth", speaker=2)
    assert rate == 8000 and audio.shape == expected.shape
    assert np.corrcoef(audio, expected)[0, 1] > 0.9
    with pytest.raises(VoiceError, match="speaker=3: the voice has 3 speakers"):
        convert(folder / "webui.onnx", speaker=3)


def test_stream_by_our_graph(folder):
    audio = golden_rule.stub_audio("graph", 1.5)
    outputs = []
    for name in ("ours.onnx", "anna.pth"):
        converter = VoiceConverter(open_voice(folder / name), pitch=StubPitch(), trainer=cpu_trainer())
        stream = StreamingConverter(converter, ConversionOptions(), sample_rate=16000)
        outputs.append(np.concatenate([stream.push(audio), stream.finish()]))
    assert len(outputs[0]) == len(outputs[1])
    assert np.corrcoef(*outputs)[0, 1] > 0.99


def test_facts_of_graphs(folder, capsys):
    ours, other = read_voice_info(folder / "ours.onnx"), read_voice_info(folder / "webui.onnx")
    assert (ours.name, ours.content_encoder, ours.speakers) == ("anna", "spectral", 3)
    assert (other.name, other.content_encoder, other.speakers) == ("webui", "contentvec", 3)
    for info in (ours, other):
        assert (info.generator, info.sample_rate, info.content_dim) == ("ONNX graph", 8000, 768)
        assert info.pitch_guided and info.unusual == []
    assert ours.content_hash != other.content_hash
    main(["info", str(folder / "ours.onnx")])
    assert "generator       ONNX graph, with pitch" in capsys.readouterr().out


def test_graph_keeps_what_conversion_needs(folder, tmp_path, voice):
    graph = open_voice(folder / "ours.onnx")
    assert graph.training_info == {**voice.training_info, "noise_scale": voice.noise_scale}
    assert (graph.content_layer, graph.speaker_names) == (7, ["anna", "ben", "zoë"])

    def drop(model):
        kept = [entry for entry in model.metadata_props if entry.key.rpartition(".")[2] not in NEW]
        del model.metadata_props[:]
        model.metadata_props.extend(kept)

    older = open_voice(changed(folder / "ours.onnx", tmp_path / "older.onnx", drop))
    assert (older.name, older.content_layer, older.speaker_names) == ("anna", None, [])

    def damage(model):
        for entry in model.metadata_props:
            entry.value = "{" if entry.key.endswith("training_info") else entry.value

    with pytest.raises(VoiceError, match=r"broken\.onnx' cannot be used as a voice"):
        open_voice(changed(folder / "ours.onnx", tmp_path / "broken.onnx", damage))


def test_graph_is_imported_listed_and_deleted(folder, tmp_path):
    (found,) = import_voices([folder / "ours.onnx"], tmp_path, "anna").voices
    assert found.voice == tmp_path / "anna" / "anna.onnx"
    assert [path for path, _ in list_voices(tmp_path)] == [found.voice]
    delete_voice(found.voice, tmp_path)
    assert list(list_voices(tmp_path)) == []


def test_graph_can_be_copied_to_another_process(folder):
    graph = open_voice(folder / "ours.onnx").synthesizer.graph
    given = inputs(batch=1)
    voice = pickle.loads(pickle.dumps(open_voice(folder / "ours.onnx")))
    with drawing_from(Zeros()):
        assert voice.synthesizer.infer(**given).shape == (1, 1, 4000)
    assert graph.digest == voice.digest


def changed(path, target, change):
    model = onnx.load(path)
    change(model)
    target.write_bytes(model.SerializeToString())
    return target


def test_other_graphs_are_errors(folder, tmp_path):
    def fix_length(model):
        for value in model.graph.input:
            if value.name == "phone":
                value.type.tensor_type.shape.dim[1].dim_value = 200

    def rename(model):
        model.graph.input[0].name = "image"

    def use_other_file(model):
        model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL

    for change, message in (
        (fix_length, "takes recordings of one fixed length"),
        (rename, "not the graph of an RVC voice: it takes .*image, but such graphs take phone, phone_lengths, ds"),
        (use_other_file, "its weights are in another file"),
    ):
        with pytest.raises(VoiceError, match=message):
            open_voice(changed(folder / "webui.onnx", tmp_path / "a.onnx", change))
    content = (folder / "webui.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(VoiceError, match=r"cut\.onnx' cannot be used as a voice"):
        open_voice(tmp_path / "cut.onnx")


def test_graph_cannot_be_saved_or_blended(folder, tmp_path):
    with pytest.raises(VoiceError, match="the voice is an ONNX graph"):
        open_voice(folder / "ours.onnx").save(tmp_path / "a.pth")
    with pytest.raises(VoiceError, match="it is an ONNX model"):
        Voice.load(folder / "ours.onnx")


def test_missing_package_is_one_error(folder, monkeypatch):
    monkeypatch.setattr(onnx_voice, "_PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(ConfigurationError, match=r"requires the package no_such_package .*rvc-lightning\[onnx\]"):
        OnnxVoice.load(folder / "ours.onnx")
