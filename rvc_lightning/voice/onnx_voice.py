"""Voices that are ONNX graphs: those of this project (`voice.onnx`), and of the exporters of the WebUI and its forks.

A graph is run by onnxruntime on the CPU. Inputs are recognized by name:

    here            WebUI           forks
    content         phone           feats           content features at 100 frames per second
    lengths         phone_lengths   p_len
    [coarse_pitch]  pitch                           without it and f0_hz, the voice takes no pitch
    [f0_hz]         pitchf          nsff0
    speaker         ds              sid
    [noise]         rnd                             without it, the graph draws the noise itself
    [source_noise]                                  without it, the graph draws the noise of the source itself
    [source_phase]

A graph of another tool has no metadata. Its rate follows from the strides of its upsampling, 100 frames per second; its
content encoder is assumed to be ContentVec.

Legend: B batch, T frames of 10 ms, C content channels, L latent channels, K harmonics with noise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rvc_lightning.audio.frames import FRAMES_PER_SECOND
from rvc_lightning.errors import VoiceError
from rvc_lightning.io.kinds import ONNX, describe_kind
from rvc_lightning.io.packages import require_extra
from rvc_lightning.models import Synthesizer, SynthesizerConfig
from rvc_lightning.models.noise import rand, randn_like
from rvc_lightning.models.synthesizer import PRIOR_NOISE_SCALE
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.entries import MALFORMED, explain
from rvc_lightning.voice.voice import Voice

_PACKAGES = ("onnx", "onnxruntime")
_METADATA = "rvc_lightning."
_NAMES = {
    "content": ("content", "phone", "feats"),
    "lengths": ("lengths", "phone_lengths", "p_len"),
    "coarse_pitch": ("coarse_pitch", "pitch"),
    "f0_hz": ("f0_hz", "pitchf", "nsff0"),
    "speaker": ("speaker", "ds", "sid"),
    "noise": ("noise", "rnd"),
    "source_noise": ("source_noise",),
    "source_phase": ("source_phase",),
}
_REQUIRED = ("content", "lengths", "speaker")
_TYPES = {1: np.float32, 6: np.int32, 7: np.int64, 10: np.float16}
"""numpy types by the numbers that ONNX gives to types of elements."""
_LATENT_CHANNELS = 192


@dataclass(frozen=True)
class _Input:
    name: str
    type: Any
    shape: tuple[int | None, ...]
    """Sizes; None for free ones."""


class OnnxGraph:
    """The graph in a file: its inputs and sizes, read without running it, and the session, created on first use."""

    def __init__(self, content: bytes) -> None:
        """Read a graph.

        Raises:
            VoiceError: The graph refers to other files, or is not that of a voice.
            One of `MALFORMED`: The content is damaged.
        """
        import onnx

        self._content = content
        model = onnx.load_model_from_string(content)
        graph = model.graph
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
            raise VoiceError("its weights are in another file; export it as a single file")
        self.facts = {
            entry.key.removeprefix(_METADATA): entry.value
            for entry in model.metadata_props
            if entry.key.startswith(_METADATA)
        }
        self.inputs = _recognized_inputs(graph)
        strides = [
            prod(attribute.ints)
            for node in graph.node
            if node.op_type == "ConvTranspose"
            for attribute in node.attribute
            if attribute.name == "strides"
        ]
        self.hop_samples = int(self.facts.get("hop_samples", prod(strides)))
        self.speaker_count = int(self.facts.get("speaker_count", _speaker_rows(graph, self.inputs["speaker"].name)))

    @property
    def pitch_guided(self) -> bool:
        """Whether the graph takes pitch."""
        return "f0_hz" in self.inputs

    @property
    def noise_scale(self) -> float:
        """Scale that the graph applies to its noise; those of other tools apply none."""
        return float(self.facts.get("noise_scale", PRIOR_NOISE_SCALE)) if self.facts else 1.0

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self._content).hexdigest()

    def size(self, name: str, axis: int, default: int) -> int:
        """Return a size of an input, the default if the input does not exist or the size is free."""
        size = self.inputs[name].shape[axis] if name in self.inputs else None
        return default if size is None else size

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(self._content, options, providers=["CPUExecutionProvider"])

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the session, which cannot be copied."""
        return {name: value for name, value in vars(self).items() if name != "_session"}

    def run(self, values: Mapping[str, Tensor]) -> np.ndarray:
        """Run the graph: inputs of B items by their names here to audio, [B, 1, T·hop].

        Raises:
            VoiceError: The graph cannot be run with these inputs.
        """
        feeds = {
            item.name: values[name].cpu().numpy().astype(item.type, copy=False) for name, item in self.inputs.items()
        }
        try:
            audio = self._session.run(None, feeds)[0]
        # onnxruntime's errors have no common base.
        except Exception as error:
            raise VoiceError(
                f"the ONNX graph of the voice cannot be run: {explain(RuntimeError(str(error)))}"
            ) from error
        return np.asarray(audio, dtype=np.float32).reshape(len(values["content"]), 1, -1)


class OnnxSynthesizer(Synthesizer):
    """Conversion pass by an ONNX graph, with the interface of the networks."""

    def __init__(self, config: SynthesizerConfig, graph: OnnxGraph) -> None:
        # The networks of the base class are in the graph.
        nn.Module.__init__(self)
        self.config, self.graph = config, graph
        self.add_module("generator", nn.Identity())
        # The device of a conversion is that of these values.
        self.speaker_embedding = nn.Embedding(1, 1)

    @property
    def pitch_guided(self) -> bool:
        """Whether the graph takes pitch as input."""
        return self.graph.pitch_guided

    @torch.no_grad()
    def infer(
        self,
        content: Tensor,
        lengths: Tensor,
        coarse_pitch: Tensor | None,
        f0_hz: Tensor | None,
        speaker: Tensor,
        noise_scale: float = PRIOR_NOISE_SCALE,
        first_frame: int = 0,
    ) -> Tensor:
        """Convert as `Synthesizer.infer`; frames before `first_frame` are generated as well, and dropped.

        Raises:
            VoiceError: The graph cannot be run with these inputs.
        """
        values = {"content": content, "lengths": lengths, "speaker": speaker}
        if coarse_pitch is not None and f0_hz is not None:
            # Without pitch before the first frame, the phase starts there, as in the networks.
            before = torch.arange(f0_hz.shape[1], device=f0_hz.device) < first_frame
            values |= {"coarse_pitch": coarse_pitch, "f0_hz": f0_hz.masked_fill(before, 0.0)}
        values |= self._noise(content, noise_scale, first_frame)
        hop, frames = self.config.hop_samples, content.shape[1]
        if self.graph.inputs["content"].shape[0] is None:
            audio = self.graph.run(values)
        else:
            # The graph takes one item at a time, and ignores lengths in some exports.
            audio = np.zeros((len(content), 1, frames * hop), np.float32)
            for number, count in enumerate(lengths.tolist()):
                single = {name: _of_item(name, value, number, count) for name, value in values.items()}
                audio[number, :, : count * hop] = _checked(self.graph.run(single), count * hop)
        return content.new_tensor(_checked(audio, frames * hop)[:, :, first_frame * hop :], dtype=torch.float32)

    def _noise(self, content: Tensor, noise_scale: float, first_frame: int) -> dict[str, Tensor]:
        """Draw the random numbers in the order of the networks."""
        batch, frames, hop = len(content), content.shape[1], self.config.hop_samples
        noise = {}
        if self.config.variational:
            scale = noise_scale / self.graph.noise_scale if self.graph.noise_scale else 1.0
            noise["noise"] = scale * randn_like(content.new_empty(batch, self.config.latent_channels, frames))
        if "source_noise" in self.graph.inputs:
            harmonics = self.graph.size("source_noise", 2, hop) // hop
            if self.config.generator != "source_filter":
                noise["source_phase"] = rand(batch, 1, harmonics, like=content)[:, 0]
            drawn = randn_like(content.new_empty(batch, (frames - first_frame) * hop, harmonics))
            drawn = drawn.reshape(batch, frames - first_frame, hop * harmonics)
            noise["source_noise"] = nn.functional.pad(drawn, (0, 0, first_frame, 0))
        return noise


@dataclass(repr=False)
class OnnxVoice(Voice):
    """A voice in an ONNX graph. It is converted like any other, but cannot be saved or trained."""

    graph: OnnxGraph = field(kw_only=True)

    @classmethod
    def load(cls, path: str | Path) -> OnnxVoice:
        """Read an ONNX graph without running it.

        Raises:
            VoiceError: The file is missing, damaged, or not the graph of a voice.
            ConfigurationError: The required packages are not installed.
        """
        path = Path(path)
        require_extra(_PACKAGES, "onnx", f"'{path}'")
        from google.protobuf.message import DecodeError

        try:
            graph = OnnxGraph(path.read_bytes())
            return cls(_config(graph), {}, _information(graph), graph=graph)
        except (DecodeError, OSError, *MALFORMED) as error:
            raise VoiceError(f"'{path}' cannot be used as a voice: {explain(error)}") from error

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return self.graph.digest

    @property
    def generator_name(self) -> str:
        """The graph contains the generator, of any kind."""
        return "ONNX graph"

    def save(self, path: str | Path) -> Path:
        """Raise VoiceError: an ONNX graph cannot be saved as a voice file."""
        raise VoiceError(f"'{path}' cannot be written: the voice is an ONNX graph; use the .pth that it was made from")

    def _build(self) -> Synthesizer:
        return OnnxSynthesizer(self.config, self.graph).eval()


def open_voice(path: str | Path) -> Voice:
    """Read a voice of any kind: `.pth`, `.safetensors` or `.onnx`, recognized by content.

    Raises:
        VoiceError: The file is missing, damaged, or not a voice.
        ConfigurationError: An ONNX graph needs packages that are not installed.
    """
    path = Path(path)
    return OnnxVoice.load(path) if path.is_file() and describe_kind(path) == ONNX else Voice.load(path)


def _recognized_inputs(graph: Any) -> dict[str, _Input]:
    """Return the inputs by their names here. Raises VoiceError if one is missing, unknown or of a fixed length."""
    weights = {tensor.name for tensor in graph.initializer}
    given = {}
    for value in graph.input:
        tensor = value.type.tensor_type
        shape = tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in tensor.shape.dim)
        if value.name not in weights:
            given[value.name] = _Input(value.name, _TYPES.get(tensor.elem_type), shape)
    found = {here: given.pop(name) for here, names in _NAMES.items() for name in names if name in given}
    if given or any(name not in found for name in _REQUIRED) or any(item.type is None for item in found.values()):
        known = ", ".join(_NAMES[name][1] for name in _REQUIRED)
        raise VoiceError(
            f"it is not the graph of an RVC voice: it takes {', '.join([*found, *given])}, but such graphs take {known}"
        )
    if len(found["content"].shape) != 3 or found["content"].shape[1] is not None:
        raise VoiceError("it takes recordings of one fixed length only; export it with a free number of frames")
    return found


def _speaker_rows(graph: Any, speaker: str) -> int:
    """Return the rows of the table that the speaker is looked up in; 1 if it is not found."""
    tables = {node.input[0] for node in graph.node if node.op_type == "Gather" and speaker in node.input}
    rows = [
        tensor.dims[0]
        for tensor in graph.initializer
        if len(tensor.dims) == 2 and (tensor.name in tables or rvc_format.STORED_SPEAKER_TABLE in tensor.name)
    ]
    return rows[0] if rows else 1


def _config(graph: OnnxGraph) -> SynthesizerConfig:
    """Return the sizes that conversion needs; those inside the graph are not known."""
    variational, assumed = "noise" in graph.inputs, "hifigan_nsf" if graph.pitch_guided else "hifigan"
    return SynthesizerConfig(
        sample_rate=FRAMES_PER_SECOND * graph.hop_samples,
        n_fft=2,
        upsample_rates=[graph.hop_samples],
        upsample_kernel_sizes=[graph.hop_samples],
        content_dim=graph.size("content", 2, rvc_format.CONTENT_DIMS["v2"]),
        generator=graph.facts.get("generator", assumed if variational else "source_filter"),
        variational=variational,
        latent_channels=graph.size("noise", 1, _LATENT_CHANNELS),
        speaker_count=graph.speaker_count,
    )


def _information(graph: OnnxGraph) -> dict[str, Any]:
    facts, names = graph.facts, {"name": "model_name", "content_encoder": "embedder_model"}
    if not facts:
        return {}
    entries: dict[str, Any] = {entry: facts[fact] for fact, entry in names.items() if fact in facts}
    if "content_layer" in facts:
        entries[rvc_format.LAYER_ENTRY] = int(facts["content_layer"])
    training_info = json.loads(facts.get("training_info", "{}"))
    return entries | {rvc_format.PROJECT_ENTRY: {**training_info, "noise_scale": graph.noise_scale}}


def _of_item(name: str, value: Tensor, number: int, count: int) -> Tensor:
    """Return an input for one item, cut to its own length."""
    item = value[number : number + 1]
    if item.dim() == 1 or name == "source_phase":
        return item
    return item.narrow(2 if name == "noise" else 1, 0, count)


def _checked(audio: np.ndarray, samples: int) -> np.ndarray:
    """Return audio of the expected length. Raises VoiceError for any other."""
    if audio.shape[-1] != samples:
        raise VoiceError(f"the ONNX graph returned {audio.shape[-1]} samples instead of {samples}")
    return audio
