"""A voice: the networks of one `.pth` file and its entries (SPECIFICATION.md, section 1)."""

from __future__ import annotations

import contextlib
import hashlib
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rvc_lightning.errors import VoiceError
from rvc_lightning.io.files import atomic_path
from rvc_lightning.io.kinds import SAFETENSORS, describe_kind
from rvc_lightning.io.pickles import read_pickle
from rvc_lightning.io.safetensors_files import read_safetensors
from rvc_lightning.models import Synthesizer, SynthesizerConfig
from rvc_lightning.models.layers import fold_weight_norm
from rvc_lightning.models.states import nonfinite_names, state_difference
from rvc_lightning.models.synthesizer import PRIOR_NOISE_SCALE
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.empty_init import empty_synthesizer
from rvc_lightning.voice.entries import MALFORMED, as_count, as_number, as_text, explain, without_tensors
from rvc_lightning.voice.rvc_format import VoiceKind

DEFAULT_CONTENT = "contentvec"
"""Content encoder of voices that do not name one (SPECIFICATION.md, section 12.2)."""

_MAX_F0_HZ = 20_000.0
_LAYERS = {256: 9, 768: 12}
"""Transformer layer of the content encoder by the number of channels (SPECIFICATION.md, section 12.1)."""


@dataclass(repr=False)
class Voice:
    """A trained voice, ready for conversion.

    Attributes:
        synthesizer: The networks, in evaluation mode, float32, with weight norm folded.
    """

    config: SynthesizerConfig
    """Sizes of the networks."""
    weights: dict[str, Tensor]
    """Tensors as stored: names of the format, float16 in most files."""
    information: dict[str, Any] = field(default_factory=dict)
    """All other entries of the file, known or not; `save` writes them again. A voice that was read from a file also
    keeps its `config` here, since tools spell it differently. Read `entries` instead, which contains no tensors."""

    def __post_init__(self) -> None:
        self.synthesizer = self._build()

    def __repr__(self) -> str:
        """Return one line; the tensors would fill screens."""
        speakers = reprlib.repr(self.speaker_names) if self.speaker_names else len(self.speaker_numbers)
        return (
            f"Voice(name={reprlib.repr(self.name)}, generator={self.config.generator!r}, "
            f"sample_rate={self.sample_rate}, content_encoder={self.content_encoder!r}, speakers={speakers})"
        )

    @property
    def entries(self) -> dict[str, Any]:
        """The information with numbers and lists in place of tensors, which some tools store."""
        return {key: without_tensors(value) for key, value in self.information.items()}

    @property
    def name(self) -> str | None:
        """Name in the file, printable; None if the file has none."""
        entries = self.entries
        return next((name for key in rvc_format.NAME_ENTRIES if (name := as_text(entries.get(key)))), None)

    @property
    def digest(self) -> str:
        """SHA-256 of names and values of the weights."""
        return content_hash(self.weights)

    @property
    def generator_name(self) -> str:
        """Name of the generator in files."""
        return rvc_format.vocoder_of(self.config)[0]

    @property
    def sample_rate(self) -> int:
        """Rate of the output in Hz."""
        return self.config.sample_rate

    @property
    def pitch_guided(self) -> bool:
        """Whether the voice takes a pitch contour."""
        return self.synthesizer.pitch_guided

    @property
    def content_encoder(self) -> str:
        """Name or path of the content encoder of the training, which conversion requires as well."""
        entries = self.entries
        return as_text(entries.get("embedder_model")) or as_text(entries.get("embedder_name")) or DEFAULT_CONTENT

    @property
    def content_layer(self) -> int | None:
        """Transformer layer of the content encoder that the voice requires; None for that of its version."""
        layer = as_count(self.entries.get(rvc_format.LAYER_ENTRY))
        return None if layer in (0, _LAYERS.get(self.config.content_dim)) else layer

    @property
    def training_info(self) -> Mapping[str, Any]:
        """Entry that only this project writes: content encoder, pitch extractor, speakers, median pitch, noise scale.

        Empty if the file has none, or anything other than a dict.
        """
        info = self.entries.get(rvc_format.PROJECT_ENTRY)
        return info if isinstance(info, Mapping) else {}

    @property
    def speaker_names(self) -> list[str]:
        """Names of the speakers by row of the speaker table; [] if the file has none.

        Speakers of numbered folders are stored in consecutive rows, with the number of the folder as their name, which
        `speaker=` accepts. Rows by folder number would store 225 untrained rows for one folder 225, more than the 109
        rows of the published pairs. Other tools, which read no names, list such speakers as 0, 1, ….
        """
        return rvc_format.speaker_names_of(self.entries, self.config.speaker_count)

    @property
    def speaker_numbers(self) -> range:
        """Rows of the trained speakers: those with a name, or all rows of the table without names.

        The table has more rows than speakers if training started from a published pair.
        """
        return range(len(self.speaker_names) or self.config.speaker_count)

    @property
    def pitch_extractor(self) -> str | None:
        """Name of the pitch extractor of the training; None if the file has none."""
        pitch = self.training_info.get("pitch")
        name = pitch.get("name") if isinstance(pitch, Mapping) else None
        return name if isinstance(name, str) else None

    @property
    def median_f0_hz(self) -> float | None:
        """Median pitch of the training recordings in Hz; None if the file has none."""
        return as_number(self.training_info.get("median_f0_hz"), 1.0, _MAX_F0_HZ)

    @property
    def noise_scale(self) -> float:
        """Scale of the prior's noise in conversion: as in training, or the value for voices of other tools."""
        value = as_number(self.training_info.get("noise_scale"), 0.0, 1.0)
        return PRIOR_NOISE_SCALE if value is None else value

    @classmethod
    def load(cls, path: str | Path) -> Voice:
        """Read a voice of this project or of any other RVC tool.

        Args:
            path: A `.pth` or `.safetensors` file.

        Raises:
            VoiceError: The file is missing, damaged, not a voice, or would run code, or its tensors do not fit.
        """
        path = Path(path)
        content = read_voice_file(path)
        if "weight" not in content:
            raise VoiceError(_describe_other_file(path, content))
        return cls.from_file_content(content, f"'{path}'")

    @classmethod
    def from_file_content(cls, content: Mapping[str, Any], source: str = "this voice") -> Voice:
        """Build a voice from the entries of a file (SPECIFICATION.md, section 1.1).

        Args:
            content: The entries.
            source: Name of the file for messages.

        Raises:
            VoiceError: An entry is missing or invalid, or the tensors do not fit.
        """
        information = {key: value for key, value in content.items() if key != "weight"}
        entries = {key: item for key, value in information.items() if (item := without_tensors(value)) is not None}
        kind = VoiceKind(
            str(as_text(entries.get("version", "v1"))),
            str(as_text(entries.get("vocoder", "HiFi-GAN"))),
            # Tools write 1, True or '1'.
            str(entries.get("f0", 1)).strip().lower() not in ("0", "false"),
        )
        try:
            weights = rvc_format.without_posterior(content["weight"])
            return cls(_config_of(entries["config"], weights, kind), weights, information)
        except MALFORMED as error:
            fitting = fitting_kind(entries.get("config"), content["weight"])
            hint = f"; the file declares {kind}, but its tensors fit {fitting}: correct that in the file"
            raise VoiceError(f"{source} cannot be used: {explain(error)}{hint if fitting else ''}") from error

    @classmethod
    def from_synthesizer(
        cls, config: SynthesizerConfig, state: Mapping[str, Tensor], information: Mapping[str, Any]
    ) -> Voice:
        """Build a voice from a trained synthesizer.

        Args:
            config: Sizes of the synthesizer.
            state: State dict of the synthesizer; the posterior encoder is omitted.
            information: Entries of the file other than weights and configuration.

        Raises:
            VoiceError: A weight is not finite in half precision.
        """
        weights = to_half(rvc_format.without_posterior(rvc_format.weights_for_file(state, config)))
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
        """Write the voice atomically in the format of the RVC tools, with every entry that it has; return the path."""
        path = Path(path)
        config = {} if "config" in self.information else {"config": rvc_format.config_to_list(self.config)}
        content = {"weight": self.weights} | config | self.information
        # Given a path instead of a stream, torch would store its random name in the file.
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            torch.save(content, stream)
        return path

    def _build(self) -> Synthesizer:
        """Build the synthesizer for conversion. Raises VoiceError if the tensors do not fit or are not finite."""
        synthesizer = empty_synthesizer(self.config, self.weights)
        state = rvc_format.weights_from_file(self.weights, len(self.config.resblock_kernel_sizes))
        non_floating = [name for name, tensor in self.weights.items() if not tensor.is_floating_point()]
        problems = {
            "do not fit its configuration": state_difference(synthesizer.state_dict(), state),
            "are not floating-point numbers": ", ".join(non_floating[:5]),
            "contain NaN or infinity, the training diverged": nonfinite_names(
                dict(zip(self.weights, state.values(), strict=True))
            ),
        }
        if problem := next((f"its tensors {problem} ({names})" for problem, names in problems.items() if names), None):
            raise VoiceError(problem)
        synthesizer.load_state_dict(state, assign=True)
        return fold_weight_norm(synthesizer).eval()


def read_voice_file(path: Path, kind: str = "voice") -> dict[str, Any]:
    """Read the entries of a voice, from a file of `torch.save` or a safetensors file.

    In the latter, the tensors are the weights, and the metadata the other entries.

    Args:
        path: File to read.
        kind: Expected kind for messages.

    Raises:
        VoiceError: The file is missing, damaged, or would run code.
    """
    if path.is_file() and describe_kind(path) == SAFETENSORS:
        weights, entries = read_safetensors(path)
        return {"weight": weights, **entries}
    return read_pickle(path, kind)


def fitting_kind(values: Any, weights: Any) -> VoiceKind | None:
    """Return the kind of voice that tensors belong to; None if they fit no supported kind.

    Args:
        values: The entry `config` of a file.
        weights: The tensors, under the names of files.
    """
    for kind in rvc_format.KINDS:
        with contextlib.suppress(*MALFORMED):
            Voice(_config_of(values, weights, kind), rvc_format.without_posterior(weights))
            return kind
    return None


def _config_of(values: Any, weights: Mapping[str, Tensor], kind: VoiceKind) -> SynthesizerConfig:
    """Return the sizes in a file's entry `config`; errors as of `config_from_list`."""
    speaker_count, variational = len(weights[rvc_format.STORED_SPEAKER_TABLE]), rvc_format.is_variational(weights)
    return rvc_format.config_from_list(values, kind, speaker_count, variational=variational)


def _describe_other_file(path: Path, content: Mapping[str, Any]) -> str:
    """Describe a file without the entry `weight`, and how to get a voice from it."""
    # Imported here since Hydra is not needed otherwise.
    from rvc_lightning.cli.overrides import format_command, format_override

    if "state_dict" in content:
        command = format_command("export", format_override("checkpoint", path))
        return f"'{path}' is a training checkpoint; export its voice: {command}"
    if "model" in content:
        command = format_command("voice", "convert-format", str(path), "OUT.pth", "--to", "applio")
        return f"'{path}' is a training checkpoint of another tool; extract the voice of a G_….pth: {command}"
    return f"'{path}' is not a voice: it has no entry 'weight', only {sorted(map(str, content))[:8]}"


def to_half(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert tensors to half precision, in which files store them.

    Args:
        weights: Tensors under the names of files.

    Raises:
        VoiceError: A weight is not finite in half precision.
    """
    halves = {name: tensor.detach().half() for name, tensor in weights.items()}
    if broken := nonfinite_names(halves):
        raise VoiceError(f"the weights {broken} are not finite in half precision: use an earlier checkpoint")
    return halves


def content_hash(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names and values, which `model_hash` of the format does not depend on."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        # numpy has no bfloat16 and no float8.
        digest.update(weights[name].detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
