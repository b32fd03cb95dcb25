"""A voice: the networks that speak it, and what must be known to use them (specification section 1)."""

from __future__ import annotations

import hashlib
import itertools
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.io.files import atomic_path
from rvc_lightning.io.pickles import read_pickle
from rvc_lightning.models import Synthesizer, SynthesizerConfig
from rvc_lightning.models.generators import check_generator
from rvc_lightning.models.layers import fold_weight_norm
from rvc_lightning.models.synthesizer import PRIOR_NOISE_SCALE
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.skeleton import empty_synthesizer

DEFAULT_CONTENT = "contentvec"
"""Content encoder of voices that do not name theirs (specification 12.2)."""

_MOST_SAMPLE_RATE = 192_000


@dataclass(repr=False)
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

    def __repr__(self) -> str:
        """What kind of voice it is, in a line: its tensors would fill screens."""
        speakers = reprlib.repr(self.speaker_names) if self.speaker_names else len(self.speaker_numbers)
        return (
            f"Voice(name={reprlib.repr(self.information.get('model_name'))}, generator={self.config.generator!r}, "
            f"sample_rate={self.sample_rate}, content_encoder={self.content_encoder!r}, speakers={speakers})"
        )

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

    @property
    def own(self) -> Mapping[str, Any]:
        """What only voices of this project tell: encoder and pitch with their options, speakers, pitch, noise.

        A file from strangers may hold anything there: what is no table tells nothing.
        """
        own = self.information.get(rvc_format.OWN_ENTRY)
        return own if isinstance(own, Mapping) else {}

    @property
    def speaker_names(self) -> list[str]:
        """Names of the speakers by their numbers; [] where the file does not tell."""
        names = self.own.get("speakers")
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            return []
        return list(names)[: self.config.speaker_count]

    @property
    def speaker_numbers(self) -> range:
        """Numbers of the speakers that it was trained with: those named, or all of its table where none is named.

        A table has more rows than the voice has speakers where training started from a published pair.
        """
        return range(len(self.speaker_names) or self.config.speaker_count)

    @property
    def pitch_extractor(self) -> str | None:
        """Name of the pitch extractor that it was trained with; None where the file does not tell."""
        pitch = self.own.get("pitch")
        name = pitch.get("name") if isinstance(pitch, Mapping) else None
        return name if isinstance(name, str) else None

    @property
    def median_f0_hz(self) -> float | None:
        """Median pitch of the recordings that it was made of, in Hz; None where the file does not tell."""
        value = self.own.get("median_f0_hz")
        return float(value) if isinstance(value, int | float) and value > 0 else None

    @property
    def noise_scale(self) -> float:
        """Spread of the prior that it speaks with: as it was trained, or that of published voices."""
        value = self.own.get("noise_scale")
        return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else PRIOR_NOISE_SCALE

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
            raise VoiceError(_what_it_is(path, content))
        try:
            return cls.from_file_content(content)
        except VoiceError as error:
            raise VoiceError(f"'{path}': {error}") from error

    @classmethod
    def from_file_content(cls, content: Mapping[str, Any]) -> Voice:
        """The voice of a file's entries (specification 1.1). Raises VoiceError where they do not make one."""
        weights = _stored_weights(content["weight"])
        version = str(_entry(content, "version", "v1"))
        if version not in rvc_format.CONTENT_DIMS:
            raise VoiceError(f"its version is '{version}'; known are {', '.join(rvc_format.CONTENT_DIMS)}")
        kind = Kind(version, str(_entry(content, "vocoder", "HiFi-GAN")), _flag(_entry(content, "f0", 1)))
        config = _config_of(content.get("config"), weights, kind)
        information = {key: value for key, value in content.items() if key != "weight"}
        try:
            return cls(config, weights, information)
        except _MisfitError as error:
            raise VoiceError(f"{error}; {_what_fits(information['config'], weights, kind)}") from error

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
        weights = finite_halves(stored, "this training has diverged; export an earlier checkpoint")
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
        own = {} if "config" in self.information else {"config": rvc_format.config_to_list(self.config)}
        content = {"weight": self.weights} | own | self.information
        # Given a path, torch writes its name, which is a random one here, into the file.
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            torch.save(content, stream)
        return path

    def _build(self) -> Synthesizer:
        """The synthesizer for conversion, weight norm folded away. Raises VoiceError if the tensors do not fit."""
        synthesizer = empty_synthesizer(self.config, self.weights)
        state = rvc_format.weights_from_file(self.weights, len(self.config.resblock_kernel_sizes))
        if difference := rvc_format.difference(synthesizer.state_dict(), state):
            raise _MisfitError(f"its tensors do not fit its configuration ({difference})")
        if broken := names_not_finite(dict(zip(self.weights, state.values(), strict=True))):
            raise VoiceError(f"its weights hold NaN or infinity ({broken}): the training that made it had diverged")
        synthesizer.load_state_dict(state, assign=True)
        return fold_weight_norm(synthesizer).eval()  # type: ignore[return-value]


class _MisfitError(VoiceError):
    """Names or shapes of the tensors are not those of the configured networks."""


class Kind(NamedTuple):
    """What a file says of its networks beside their sizes."""

    version: str
    """'v1' or 'v2'."""
    vocoder: str
    """What files call the generator."""
    pitch_guided: bool
    """Whether it follows pitch."""

    def __str__(self) -> str:
        return f"version {self.version}, {self.vocoder} {'with' if self.pitch_guided else 'without'} pitch"


def _what_it_is(path: Path, content: Mapping[str, Any]) -> str:
    """What a file without an entry `weight` is, and how it becomes a voice."""
    if "state_dict" in content:
        return f"'{path}' is a training checkpoint; its voice: python -m rvc_lightning.export checkpoint='{path}'"
    if "model" in content:
        command = f"python -m rvc_lightning.voice convert-format '{path}' OUT.pth --to applio"
        return f"'{path}' is a training checkpoint of another tool; of a G_….pth, the voice: {command}"
    return f"'{path}' is no voice: it has no entry 'weight', only {sorted(map(str, content))[:8]}"


def _entry(content: Mapping[str, Any], key: str, default: object) -> object:
    """An entry of a file; tools write None for what they do not know."""
    value = content.get(key)
    return default if value is None else value


def _flag(value: object) -> bool:
    """A pitch flag in any spelling: 1, True, '1'."""
    return str(value).strip().lower() not in ("0", "false")


def _config_of(values: Any, weights: Mapping[str, Tensor], kind: Kind) -> SynthesizerConfig:
    """The sizes in a file's entry `config`. Raises VoiceError where they make no sense."""
    if not isinstance(values, list | tuple):
        raise VoiceError("it has no configuration: the entry 'config' must be a list")
    table = weights.get(rvc_format.STORED_SPEAKER_TABLE)
    if table is None or table.dim() != 2:
        raise VoiceError(f"it has no speaker table '{rvc_format.STORED_SPEAKER_TABLE}'")
    try:
        config = rvc_format.config_from_list(
            values,
            content_dim=rvc_format.CONTENT_DIMS[kind.version],
            vocoder=kind.vocoder,
            pitch_guided=kind.pitch_guided,
            speaker_count=table.shape[0],
        )
        check_generator(config)
    except (ConfigurationError, TypeError, ValueError, ArithmeticError) as error:
        raise VoiceError(f"its configuration {list(values)} makes no sense: {error}") from error
    if not 0 < config.sample_rate <= _MOST_SAMPLE_RATE:
        raise VoiceError(f"its sampling rate is {config.sample_rate} Hz; the highest there is is {_MOST_SAMPLE_RATE}")
    return config


def _what_fits(values: Any, weights: Mapping[str, Tensor], said: Kind) -> str:
    """What the tensors of a voice would fit, whose version, generator or pitch flag is wrong (defect L1)."""
    if fitting := fitting_kind(values, weights):
        return f"the file says {said}, but they fit {fitting}: correct that in the file"
    return f"it says {said}, and they fit no other kind either: is the file whole, and of this format?"


def fitting_kind(values: Any, weights: Mapping[str, Tensor]) -> Kind | None:
    """What networks of the sizes `values` (a file's entry `config`) tensors belong to; None if to none we know."""
    for version, (vocoder, pitch_guided) in itertools.product(rvc_format.CONTENT_DIMS, rvc_format.GENERATORS):
        kind = Kind(version, vocoder, pitch_guided)
        try:
            Voice(_config_of(values, weights, kind), dict(weights))
        except VoiceError:
            continue
        return kind
    return None


def _stored_weights(weights: Any) -> dict[str, Tensor]:
    """The tensors of a file's entry `weight` without the posterior encoder. Raises VoiceError for anything else."""
    if not isinstance(weights, Mapping):
        raise VoiceError(f"its entry 'weight' is a {type(weights).__name__}, not a table of tensors")
    sound = {
        name: tensor
        for name, tensor in weights.items()
        if isinstance(name, str) and isinstance(tensor, Tensor) and tensor.is_floating_point()
    }
    if others := [str(name) for name in weights if name not in sound]:
        raise VoiceError(f"its weights {', '.join(others[:5])} are no tensors of numbers with a fraction")
    return {name: tensor for name, tensor in sound.items() if rvc_format.POSTERIOR_PREFIX not in name}


def names_not_finite(weights: Mapping[str, Tensor]) -> str:
    """The first names of tensors with NaN or infinity, or ''."""
    # A sum is not finite if a term is not; float32 keeps the terms of half precision from overflowing it.
    return ", ".join([name for name, tensor in weights.items() if not tensor.sum(dtype=torch.float32).isfinite()][:5])


def finite_halves(weights: Mapping[str, Tensor], remedy: str) -> dict[str, Tensor]:
    """Tensors as voices store them: in half precision, without the posterior encoder.

    Args:
        weights: Under the names of the files.
        remedy: What to do where they do not fit, for the message.

    Raises:
        VoiceError: A weight is not finite, or too large for half precision (defect T18).
    """
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith(rvc_format.POSTERIOR_PREFIX)}
    return in_half(kept, remedy)


def in_half(weights: Mapping[str, Tensor], remedy: str) -> dict[str, Tensor]:
    """All tensors in half precision; arguments and errors as of `finite_halves`."""
    halves = {name: tensor.detach().half() for name, tensor in weights.items()}
    if broken := names_not_finite(halves):
        raise VoiceError(f"the weights {broken} are not finite in half precision: {remedy}")
    return halves


def content_hash(weights: Mapping[str, Tensor]) -> str:
    """A hash of the weights themselves, which the format's own `model_hash` does not look at (defect L4)."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()
