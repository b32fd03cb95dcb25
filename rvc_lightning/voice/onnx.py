"""A voice as an ONNX graph, for programs without torch.

The contract. Inputs, in this order; those in brackets only where the voice has them:

    name            type     shape        meaning
    content         float32  [B, T, C]    content features at 100 frames a second (each of the encoder's 50, twice)
    lengths         int64    [B]          frames of each item
    [coarse_pitch]  int64    [B, T]       pitch codes 1..255, from f0_hz by `pitch.scale.coarse_pitch`
    [f0_hz]         float32  [B, T]       pitch in Hz, 0 = unvoiced
    speaker         int64    [B]          speaker ids
    noise           float32  [B, L, T]    of the latent, standard normal; scaled inside as the voice is
    [source_noise]  float32  [B, T, hop·K]  of the harmonic source, standard normal, by sample and harmonic
    [source_phase]  float32  [B, K]       start of each harmonic in cycles, uniform in 0..1; only if K > 1

Output: audio, float32 [B, 1, T·hop] in -1..1.

Everything random is an input, so the graph itself is deterministic: zeros give the most probable audio. Voices without
pitch have neither coarse_pitch, f0_hz nor the two of the source. RefineGAN's noise between its layers is left out, that
is, held at its mean. The metadata of the graph tell sample_rate, hop_samples, content_encoder, content_dim,
latent_channels, speaker_count, harmonics, pitch_guided, name and the version of this contract.

Legend: B batch, T frames of 10 ms, C content channels, L latent channels, K harmonics that the source draws noise for.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.io.files import atomic_path
from rvc_lightning.models import Synthesizer
from rvc_lightning.models.source import HarmonicSource
from rvc_lightning.models.synthesizer import PRIOR_NOISE_SCALE
from rvc_lightning.pitch.scale import coarse_pitch
from rvc_lightning.voice.voice import Voice

CONTRACT = "1"
TOLERANCE = 1e-4
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_TRACED = (2, 40)
_CHECKED = ((1, 61), (3, 17))
"""Batch and frames of the inputs that the graph is made from, and of those that it is checked with."""


def export_onnx(path: Path, output: Path) -> float:
    """Writes the graph of a voice, checked against torch with other lengths than it was made from.

    Args:
        path: The voice.
        output: The `.onnx` file.

    Returns:
        The largest difference of an output sample to torch's.

    Raises:
        VoiceError: The voice cannot be read, or the graph does not compute what torch does; nothing is written.
        ConfigurationError: The packages for it are not installed.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ConfigurationError(f"ONNX export needs {', '.join(missing)}: python -m pip install 'rvc-lightning[onnx]'")
    voice = Voice.load(path)
    graph = VoiceGraph(voice.synthesizer, voice.noise_scale)
    with atomic_path(output) as temporary:
        _write(graph, _metadata(voice, graph, path.stem), temporary)
        difference = _largest_difference(graph, temporary)
        if not difference <= TOLERANCE:
            raise VoiceError(f"the graph of '{path}' differs from torch by {difference:.1e}, more than {TOLERANCE:g}")
    return difference


class GraphInput(NamedTuple):
    """What a graph is to be given."""

    name: str
    type: str
    """As numpy calls it: float32, int64."""
    shape: tuple[str | int, ...]
    """Sizes; those that are free by their names, batch and frames."""


def inputs_of(path: Path) -> list[GraphInput]:
    """The inputs of the graph in a file that `export_onnx` wrote, in its order."""
    import onnx

    given = onnx.load(str(path), load_external_data=False).graph.input
    return [
        GraphInput(
            value.name,
            onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
            tuple(size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim),
        )
        for value in given
    ]


class VoiceGraph(nn.Module):
    """A synthesizer whose random draws are inputs."""

    def __init__(self, synthesizer: Synthesizer, noise_scale: float = PRIOR_NOISE_SCALE) -> None:
        super().__init__()
        self.synthesizer, self.noise_scale = synthesizer, noise_scale

    @property
    def harmonics(self) -> int:
        """K, what the source draws for a sample: one for each sine, or one for its noise; 0 without a source."""
        sources = [module for module in self.modules() if isinstance(module, HarmonicSource)]
        return sources[0].n_harmonics if sources else int(self.synthesizer.pitch_guided)

    def forward(
        self,
        content: Tensor,
        lengths: Tensor,
        speaker: Tensor,
        noise: Tensor,
        coarse_pitch: Tensor | None = None,
        f0_hz: Tensor | None = None,
        source_noise: Tensor | None = None,
        source_phase: Tensor | None = None,
    ) -> Tensor:
        """Conversion as in `Synthesizer.infer`; inputs and output are those of the contract."""
        normal = [noise] if source_noise is None else [noise, source_noise]
        with _Drawn(normal, source_phase):
            return self.synthesizer.infer(content, lengths, coarse_pitch, f0_hz, speaker, self.noise_scale)

    def inputs(self, batch: int, frames: int) -> dict[str, Tensor]:
        """Random inputs of the contract, by name and in its order."""
        config, draws = self.synthesizer.config, torch.Generator().manual_seed(batch * frames)

        def normal(*shape: int) -> Tensor:
            return torch.empty(shape).normal_(generator=draws)

        def uniform(*shape: int) -> Tensor:
            return torch.empty(shape).uniform_(generator=draws)

        f0_hz = (uniform(batch, frames) * 500 - 100).clamp(min=0)
        source = normal(batch, frames, config.hop_samples * max(self.harmonics, 1))
        given = {
            "content": normal(batch, frames, config.content_dim),
            "lengths": torch.arange(frames, frames - batch, -1),
            "coarse_pitch": coarse_pitch(f0_hz) if self.harmonics else None,
            "f0_hz": f0_hz if self.harmonics else None,
            "speaker": torch.arange(batch) % config.speaker_count,
            "noise": normal(batch, config.latent_channels, frames),
            "source_noise": source if self.harmonics else None,
            "source_phase": uniform(batch, self.harmonics) if self.harmonics > 1 else None,
        }
        return {name: value for name, value in given.items() if value is not None}


class _Drawn(TorchFunctionMode):
    """While it is entered, given values take the place of random draws, and zeros that of all further ones."""

    def __init__(self, normal: Sequence[Tensor], uniform: Tensor | None) -> None:
        super().__init__()
        self._normal, self._uniform = iter(normal), uniform

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.randn_like:
            given = next(self._normal, None)
            return torch.zeros_like(args[0]) if given is None else given.reshape(args[0].shape)
        if func is torch.rand:
            # A copy, for the source sets the fundamental's in place.
            return torch.zeros(*args, **kwargs) if self._uniform is None else self._uniform.reshape(args).clone()
        return func(*args, **kwargs)


def _write(graph: VoiceGraph, metadata: Mapping[str, str], path: Path) -> None:
    """Traces the graph and writes it."""
    inputs = graph.inputs(*_TRACED)
    batch, frames = torch.export.Dim("batch"), torch.export.Dim("frames")
    axes = {name: {0: batch} if value.dim() == 1 else {0: batch, 1: frames} for name, value in inputs.items()}
    axes["noise"] = {0: batch, 2: frames}
    if "source_phase" in axes:
        axes["source_phase"] = {0: batch}
    with _quiet():
        program = torch.onnx.export(
            graph.eval(),
            (),
            kwargs=inputs,
            input_names=list(inputs),
            output_names=["audio"],
            dynamic_shapes=axes,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise VoiceError("torch gave no graph of this voice")
    program.model.metadata_props.update(metadata)
    program.save(str(path))


def _metadata(voice: Voice, graph: VoiceGraph, name: str) -> dict[str, str]:
    config = voice.config
    facts = {
        "contract": CONTRACT,
        "name": voice.information.get("model_name") or name,
        "sample_rate": config.sample_rate,
        "hop_samples": config.hop_samples,
        "content_encoder": voice.content_encoder,
        "content_dim": config.content_dim,
        "latent_channels": config.latent_channels,
        "speaker_count": config.speaker_count,
        "harmonics": graph.harmonics,
        "pitch_guided": int(voice.pitch_guided),
    }
    return {f"rvc_lightning.{key}": str(value) for key, value in facts.items()}


def _largest_difference(graph: VoiceGraph, path: Path) -> float:
    """Between the graph at `path` and torch, over lengths and batches of other sizes than it was made from."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    largest = 0.0
    for batch, frames in _CHECKED:
        inputs = graph.inputs(batch, frames)
        (audio,) = session.run(["audio"], {name: value.numpy() for name, value in inputs.items()})
        largest = max(largest, float(np.abs(audio - graph(**inputs).numpy()).max()))
    return largest


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says of packages and of itself."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
