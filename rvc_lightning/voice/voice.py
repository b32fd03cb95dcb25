"""A voice: the networks that speak it, and what must be known to use them (specification section 1)."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rvc_lightning.errors import VoiceError
from rvc_lightning.files import atomic_path
from rvc_lightning.models import Synthesizer, SynthesizerConfig
from rvc_lightning.models.layers import fold_weight_norm
from rvc_lightning.voice import rvc_format

INDEX_SUFFIX = ".index"

DEFAULT_CONTENT = "contentvec"
"""Content encoder of voices that do not name theirs (specification 12.2)."""


@dataclass
class Voice:
    """What `NAME.pth` holds, ready to speak."""

    config: SynthesizerConfig
    """Sizes of the networks."""
    weights: dict[str, Tensor]
    """Tensors as stored: the format's names, float16."""
    information: dict[str, Any] = field(default_factory=dict)
    """Every other entry of the file, known to us or not; kept when the voice is saved again."""

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
        weights, values = dict(content["weight"]), content.get("config")
        if not isinstance(values, list | tuple):
            raise VoiceError("it has no configuration")
        weights = {name: tensor for name, tensor in weights.items() if "enc_q" not in name}
        table = weights.get("emb_g.weight")
        if table is None:
            raise VoiceError("it has no speaker table 'emb_g.weight'")
        version = str(content.get("version", "v1"))
        if version not in rvc_format.CONTENT_DIMS:
            raise VoiceError(f"its version is '{version}'; known are {', '.join(rvc_format.CONTENT_DIMS)}")
        config = rvc_format.config_from_list(
            values,
            content_dim=rvc_format.CONTENT_DIMS[version],
            vocoder=str(content.get("vocoder", "HiFi-GAN")),
            pitch_guided=bool(content.get("f0", 1)),
            speaker_count=table.shape[0],
        )
        information = {key: value for key, value in content.items() if key not in ("weight", "config")}
        return cls(config, weights, information)

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
        stored = rvc_format.weights_for_file(state, len(config.resblock_kernel_sizes))
        weights = {
            name: tensor.detach().half()
            for name, tensor in stored.items()
            if not name.startswith(rvc_format.POSTERIOR_PREFIX)
        }
        if broken := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
            raise VoiceError(
                f"the weights {', '.join(broken[:5])} are not finite in half precision: this training has diverged; "
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
        """Writes the voice in the community's format, whole or not at all; gives the path back."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "weight": self.weights,
            "config": rvc_format.config_to_list(self.config),
            **self.information,
        }
        with atomic_path(path) as temporary:
            torch.save(content, temporary)
        return path

    def _build(self) -> Synthesizer:
        """The synthesizer for conversion, weight norm folded away. Raises VoiceError if the tensors do not fit."""
        synthesizer = Synthesizer(self.config)
        synthesizer.posterior_encoder = None
        state = rvc_format.weights_from_file(self.weights, len(self.config.resblock_kernel_sizes))
        if difference := rvc_format.difference(synthesizer.state_dict(), state):
            raise VoiceError(
                f"its tensors do not fit its configuration ({difference}); "
                "is its version, generator or pitch flag wrong?"
            )
        synthesizer.load_state_dict(state)
        return fold_weight_norm(synthesizer).eval()  # type: ignore[return-value]


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
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise VoiceError(f"'{path}' cannot be read as a {kind}; it may be cut short ({error})") from error
    if not isinstance(content, dict):
        raise VoiceError(f"'{path}' is no {kind}: it holds a {type(content).__name__}")
    return content
