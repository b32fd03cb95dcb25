"""A voice: the networks that speak it, and what must be known to use them (specification section 1)."""

from __future__ import annotations

import hashlib
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.files import atomic_path
from rvc_lightning.models import Synthesizer, SynthesizerConfig
from rvc_lightning.models.layers import fold_weight_norm
from rvc_lightning.voice import rvc_format

INDEX_SUFFIX = ".index"

DEFAULT_CONTENT = "contentvec"
"""Content encoder of voices that do not name theirs (specification 12.2)."""

_DAMAGE = (
    *(RuntimeError, OSError, EOFError, ValueError, LookupError, AttributeError, TypeError, AssertionError),
    *(ArithmeticError, MemoryError, struct.error, zipfile.BadZipFile),
)
"""What `torch.load` was seen to raise for files with bytes missing or changed."""


@dataclass
class Voice:
    """What `NAME.pth` holds, ready to speak."""

    config: SynthesizerConfig
    """Sizes of the networks."""
    weights: dict[str, Tensor]
    """Tensors as stored: the format's names, float16."""
    information: dict[str, Any] = field(default_factory=dict)
    """Every other entry of the file, known to us or not, kept when the voice is saved again. A voice that was read
    keeps the file's `config` here too: its spelling differs between tools."""

    def __post_init__(self) -> None:
        self.synthesizer = self._build()

    @property
    def sample_rate(self) -> int:
        """Rate in Hz of the audio it makes."""
        return self.config.sample_rate

    @property
    def pitch_guided(self) -> bool:
        """Whether it follows a pitch contour."""
        return self.synthesizer.pitch_guided

    @property
    def content_encoder(self) -> str:
        """Name of the content encoder it was trained with, and must be used with."""
        return str(self.information.get("embedder_model") or DEFAULT_CONTENT)

    @classmethod
    def load(cls, path: str | Path) -> Voice:
        """Reads a voice of this project or of any other RVC tool.

        Args:
            path: The `.pth` file.

        Raises:
            VoiceError: There is no such file, it is no voice, it would run code, or its tensors do not fit.
        """
        path = Path(path)
        content = read_pickle(path, "voice")
        if "weight" not in content:
            kind = (
                "a training checkpoint; export it first"
                if "model" in content or "state_dict" in content
                else "no voice"
            )
            raise VoiceError(f"'{path}' is {kind}: it has no entry 'weight', only {sorted(map(str, content))[:8]}")
        try:
            return cls.from_file_content(content)
        except VoiceError as error:
            raise VoiceError(f"'{path}': {error}") from error

    @classmethod
    def from_file_content(cls, content: Mapping[str, Any]) -> Voice:
        """The voice of a file's entries (specification 1.1). Raises VoiceError where they do not make one."""
        weights, values = _stored_weights(content["weight"]), content.get("config")
        if not isinstance(values, list | tuple):
            raise VoiceError("it has no configuration: the entry 'config' must be a list")
        table = weights.get("emb_g.weight")
        if table is None:
            raise VoiceError("it has no speaker table 'emb_g.weight'")
        version = str(content.get("version", "v1"))
        if version not in rvc_format.CONTENT_DIMS:
            raise VoiceError(f"its version is '{version}'; known are {', '.join(rvc_format.CONTENT_DIMS)}")
        try:
            config = rvc_format.config_from_list(
                values,
                content_dim=rvc_format.CONTENT_DIMS[version],
                vocoder=str(content.get("vocoder", "HiFi-GAN")),
                pitch_guided=bool(content.get("f0", 1)),
                speaker_count=table.shape[0],
            )
        except (ConfigurationError, TypeError, ValueError) as error:
            raise VoiceError(f"its configuration {list(values)} makes no sense: {error}") from error
        return cls(config, weights, {key: value for key, value in content.items() if key != "weight"})

    @classmethod
    def from_synthesizer(
        cls, config: SynthesizerConfig, state: Mapping[str, Tensor], information: Mapping[str, Any]
    ) -> Voice:
        """The voice that a trained synthesizer makes.

        Args:
            config: Its sizes.
            state: Its state dict, under our names; the posterior encoder's part is left out.
            information: Entries of the file beside weights and configuration.

        Raises:
            VoiceError: A weight is not finite, or too large for the format's half precision (defect T18).
        """
        stored = rvc_format.weights_for_file(state, config)
        weights = {
            name: tensor.detach().half()
            for name, tensor in stored.items()
            if not name.startswith(rvc_format.POSTERIOR_PREFIX)
        }
        if broken := _not_finite(weights):
            raise VoiceError(
                f"the weights {broken} are not finite in half precision: this training has diverged; "
                "export an earlier checkpoint"
            )
        vocoder, pitch_guided = rvc_format.vocoder_of(config)
        entries = {
            "sr": config.sample_rate,
            "f0": int(pitch_guided),
            "version": rvc_format.version_of(config),
            "vocoder": vocoder,
            "speakers_id": config.speaker_count,
            "content_hash": content_hash(weights),
        }
        return cls(config, weights, entries | dict(information))

    def save(self, path: str | Path) -> Path:
        """Writes the voice in the community's format, whole or not at all; gives the path back.

        A voice that was read from a file is written with every entry it had.
        """
        path = Path(path)
        content = {"weight": self.weights, "config": rvc_format.config_to_list(self.config)} | self.information
        with atomic_path(path) as temporary:
            torch.save(content, temporary)
        return path

    def _build(self) -> Synthesizer:
        """The synthesizer for conversion, weight norm folded away. Raises VoiceError if the tensors do not fit."""
        synthesizer = _empty_synthesizer(self.config)
        state = rvc_format.weights_from_file(self.weights, len(self.config.resblock_kernel_sizes))
        if difference := rvc_format.difference(synthesizer.state_dict(), state):
            raise VoiceError(
                f"its tensors do not fit its configuration ({difference}); "
                "is its version, generator or pitch flag wrong?"
            )
        if broken := _not_finite(self.weights):
            raise VoiceError(f"its weights hold NaN or infinity ({broken}): the training that made it had diverged")
        synthesizer.load_state_dict(state, assign=True)
        return fold_weight_norm(synthesizer).eval()  # type: ignore[return-value]


def _empty_synthesizer(config: SynthesizerConfig) -> Synthesizer:
    """The networks of a voice without values; raises VoiceError where the sizes make no network."""
    # On the meta device nothing is allocated or drawn: a voice brings every weight itself, and one whose sizes are
    # nonsense is refused before they cost memory.
    try:
        with torch.device("meta"):
            synthesizer = Synthesizer(config)
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:
        raise VoiceError(f"its configuration makes no network: {error}") from error
    synthesizer.posterior_encoder = None
    return synthesizer


def _stored_weights(weights: Any) -> dict[str, Tensor]:
    """The tensors of a file's entry `weight` without the posterior encoder. Raises VoiceError for anything else."""
    if not isinstance(weights, Mapping):
        raise VoiceError(f"its entry 'weight' is a {type(weights).__name__}, not a table of tensors")
    if others := [str(name) for name, tensor in weights.items() if not isinstance(tensor, Tensor)]:
        raise VoiceError(f"its weights {', '.join(others[:5])} are no tensors")
    return {name: tensor for name, tensor in weights.items() if rvc_format.POSTERIOR_PREFIX not in str(name)}


def _not_finite(weights: Mapping[str, Tensor]) -> str:
    """The first names of tensors with NaN or infinity, or ''."""
    # A sum is not finite if a term is not; float64 keeps large terms from overflowing it.
    return ", ".join([name for name, tensor in weights.items() if not tensor.sum(dtype=torch.float64).isfinite()][:5])


def content_hash(weights: Mapping[str, Tensor]) -> str:
    """A hash of the weights themselves, which the format's own `model_hash` does not look at (defect L4)."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def read_pickle(path: Path, kind: str) -> dict[str, Any]:
    """The dict that `torch.save` wrote to `path`; tensors and plain values only, no code is ever run.

    Raises:
        VoiceError: No such file, not readable, no dict, or it would import something.
    """
    if not path.is_file():
        raise VoiceError(f"there is no {kind} at '{path}'" + (" (that is a folder)" if path.is_dir() else ""))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0]
        raise VoiceError(
            f"'{path}' is refused as a {kind}: it is damaged or would run code when read ({reason})"
        ) from error
    except _DAMAGE as error:
        raise VoiceError(f"'{path}' cannot be read as a {kind}; it may be cut short ({error})") from error
    if not isinstance(content, dict):
        raise VoiceError(f"'{path}' is no {kind}: it holds a {type(content).__name__}")
    return content
