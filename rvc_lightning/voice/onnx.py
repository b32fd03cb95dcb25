"""Export of a voice as an ONNX graph, for programs without torch.

Inputs, in this order; the ones in brackets exist only if the voice uses them:

    name            type     shape          meaning
    content         float32  [B, T, C]      content features at 100 frames per second (each of the encoder's 50, twice)
    lengths         int64    [B]            frames of each item
    [coarse_pitch]  int64    [B, T]         pitch codes 1..255, computed from f0_hz by `pitch.scale.coarse_pitch`
    [f0_hz]         float32  [B, T]         pitch in Hz, 0 = unvoiced
    speaker         int64    [B]            speaker numbers
    [noise]         float32  [B, L, T]      noise of the latent, standard normal; the graph applies the voice's scale
    [source_noise]  float32  [B, T, hop·K]  noise of the harmonic source, standard normal, by sample and harmonic
    [source_phase]  float32  [B, K]         initial phase of each harmonic in cycles, uniform in 0..1; only if K > 1

Output: audio, float32 [B, 1, T·hop] in -1..1.

All random numbers are inputs, so the graph is deterministic; with zeros it returns the most probable audio. Voices
without pitch have neither coarse_pitch, f0_hz nor the inputs of the source; those without a random latent have no
noise. The noise between layers of RefineGAN is replaced by its mean.

The metadata of the graph contain sample_rate, hop_samples, content_encoder, content_dim, latent_channels,
speaker_count, harmonics, pitch_guided, noise_scale, name and the version of this contract. Since version 2,
training_info is the entry `rvc_lightning` of the voice as JSON (SPECIFICATION.md, section 1.1), with the names of the
speakers if the voice has any, content_layer is the layer of the content encoder, if the voice requires another than
that of its version, and generator is the name of the generator.

Legend: B batch, T frames of 10 ms, C content channels, L latent channels, K harmonics with noise.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rvc_lightning.errors import VoiceError
from rvc_lightning.io.files import atomic_path
from rvc_lightning.io.packages import require_extra
from rvc_lightning.models import Synthesizer
from rvc_lightning.models.source import HarmonicSource
from rvc_lightning.models.synthesizer import PRIOR_NOISE_SCALE
from rvc_lightning.pitch.scale import coarse_pitch
from rvc_lightning.voice.entries import as_json
from rvc_lightning.voice.voice import Voice

CONTRACT = "2"
"""Version of the inputs and metadata."""
TOLERANCE = 1e-4
"""Largest accepted difference from torch."""
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_TRACED_SIZES = (2, 40)
_CHECKED_SIZES = ((1, 61), (3, 17))
"""Batch and frames of the inputs for tracing and for the comparison with torch."""


def export_onnx(path: Path, output: Path) -> float:
    """Write the graph of a voice and compare it with torch, at sizes other than those traced.

    Args:
        path: The voice.
        output: The `.onnx` file.

    Returns:
        The largest absolute difference between an output sample and that of torch.

    Raises:
        VoiceError: The voice cannot be read, or the graph differs from torch; nothing is written.
        ConfigurationError: The required packages are not installed.
    """
    require_extra(_PACKAGES, "onnx", "ONNX export")
    voice = Voice.load(path)
    graph = VoiceGraph(voice.synthesizer, voice.noise_scale)
    with atomic_path(output) as temporary:
        _write(graph, _metadata(voice, graph, path.stem), temporary)
        difference = _largest_difference(graph, temporary)
        if not difference <= TOLERANCE:
            raise VoiceError(f"the graph of '{path}' differs from torch by {difference:.1e}, more than {TOLERANCE:g}")
    return difference


def graph_inputs(path: Path) -> list[tuple[str, str, str]]:
    """Return name, type and shape of each input of a graph, in order; free sizes have names."""
    return [(node.name, node.type, ", ".join(map(str, node.shape))) for node in _session(path).get_inputs()]


class VoiceGraph(nn.Module):
    """A synthesizer that takes its random numbers as inputs."""

    def __init__(self, synthesizer: Synthesizer, noise_scale: float = PRIOR_NOISE_SCALE) -> None:
        super().__init__()
        self.synthesizer, self.noise_scale = synthesizer, noise_scale

    @property
    def harmonics(self) -> int:
        """K, random numbers of the source per sample: one per harmonic, or one for its noise; 0 without a source."""
        sources = [module for module in self.modules() if isinstance(module, HarmonicSource)]
        return sources[0].n_harmonics if sources else int(self.synthesizer.pitch_guided)

    def forward(
        self,
        content: Tensor,
        lengths: Tensor,
        speaker: Tensor,
        noise: Tensor | None = None,
        coarse_pitch: Tensor | None = None,
        f0_hz: Tensor | None = None,
        source_noise: Tensor | None = None,
        source_phase: Tensor | None = None,
    ) -> Tensor:
        """Convert as `Synthesizer.infer`; see the top of the module for shapes."""
        normal = [values for values in (noise, source_noise) if values is not None]
        with _GivenNoise(normal, source_phase):
            return self.synthesizer.infer(content, lengths, coarse_pitch, f0_hz, speaker, self.noise_scale)

    def inputs(self, batch: int, frames: int) -> dict[str, Tensor]:
        """Return random inputs by name, in order."""
        config, random = self.synthesizer.config, torch.Generator().manual_seed(batch * frames)

        def normal(*shape: int) -> Tensor:
            return torch.empty(shape).normal_(generator=random)

        def uniform(*shape: int) -> Tensor:
            return torch.empty(shape).uniform_(generator=random)

        f0_hz = (uniform(batch, frames) * 500 - 100).clamp(min=0)
        source = normal(batch, frames, config.hop_samples * max(self.harmonics, 1))
        inputs = {
            # Quieter than speech: without a random latent, networks turn content of random numbers into clipped noise.
            "content": 0.3 * normal(batch, frames, config.content_dim),
            "lengths": torch.arange(frames, frames - batch, -1),
            "coarse_pitch": coarse_pitch(f0_hz) if self.harmonics else None,
            "f0_hz": f0_hz if self.harmonics else None,
            "speaker": torch.arange(batch) % config.speaker_count,
            "noise": normal(batch, config.latent_channels, frames) if config.variational else None,
            "source_noise": source if self.harmonics else None,
            "source_phase": uniform(batch, self.harmonics) if self.harmonics > 1 else None,
        }
        return {name: value for name, value in inputs.items() if value is not None}


class _GivenNoise(TorchFunctionMode):
    """While active, given values replace random numbers, and zeros replace all further ones."""

    def __init__(self, normal: Sequence[Tensor], uniform: Tensor | None) -> None:
        super().__init__()
        self._normal, self._uniform = iter(normal), uniform

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.randn_like:
            noise = next(self._normal, None)
            return torch.zeros_like(args[0]) if noise is None else noise.reshape(args[0].shape)
        if func is torch.rand:
            # A copy, since the source overwrites the phase of the fundamental in place.
            return torch.zeros(*args, **kwargs) if self._uniform is None else self._uniform.reshape(args).clone()
        return func(*args, **kwargs)


def _write(graph: VoiceGraph, metadata: Mapping[str, str], path: Path) -> None:
    """Trace the graph and write it."""
    inputs = graph.inputs(*_TRACED_SIZES)
    batch, frames = torch.export.Dim("batch"), torch.export.Dim("frames")
    axes = {name: {0: batch} if value.dim() == 1 else {0: batch, 1: frames} for name, value in inputs.items()}
    if "noise" in axes:
        axes["noise"] = {0: batch, 2: frames}
    if "source_phase" in axes:
        axes["source_phase"] = {0: batch}
    with _silence_exporter():
        # torch documents None only for its older exporter.
        program: Any = torch.onnx.export(
            graph.eval(),
            (),
            kwargs=inputs,
            input_names=list(inputs),
            output_names=["audio"],
            dynamic_shapes=axes,
            dynamo=True,
            verbose=False,
        )
    program.model.metadata_props.update(metadata)
    program.save(str(path))


def _metadata(voice: Voice, graph: VoiceGraph, name: str) -> dict[str, str]:
    config, names = voice.config, voice.speaker_names
    training_info = {**voice.training_info, **({"speakers": names} if names else {})}
    values = {
        "contract": CONTRACT,
        "name": voice.name or name,
        "sample_rate": config.sample_rate,
        "hop_samples": config.hop_samples,
        "content_encoder": voice.content_encoder,
        "content_dim": config.content_dim,
        "latent_channels": config.latent_channels,
        "speaker_count": config.speaker_count,
        "generator": config.generator,
        "harmonics": graph.harmonics,
        "pitch_guided": int(voice.pitch_guided),
        "noise_scale": graph.noise_scale,
        "training_info": json.dumps(as_json(training_info)),
    }
    if voice.content_layer is not None:
        values["content_layer"] = voice.content_layer
    return {f"rvc_lightning.{key}": str(value) for key, value in values.items()}


def _session(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def _largest_difference(graph: VoiceGraph, path: Path) -> float:
    """Return the largest difference between the graph at `path` and torch."""
    session, largest = _session(path), 0.0
    for batch, frames in _CHECKED_SIZES:
        inputs = graph.inputs(batch, frames)
        (audio,) = session.run(["audio"], {name: value.numpy() for name, value in inputs.items()})
        largest = max(largest, float(np.abs(audio - graph(**inputs).numpy()).max()))
    return largest


@contextmanager
def _silence_exporter() -> Iterator[None]:
    """Suppress warnings of torch's exporter."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
