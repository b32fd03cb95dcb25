"""Pretrained networks to start from: the pairs of the RVC tools, and any G/D files (SPECIFICATION.md, section 2.2)."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.io.hub import HubFile, fetch, known_files
from rvc_lightning.io.pickles import read_pickle
from rvc_lightning.models import Synthesizer, SynthesizerConfig
from rvc_lightning.models.layers import build_on_meta
from rvc_lightning.models.states import nonfinite_names, state_difference
from rvc_lightning.training.module import RVCModule
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.rvc_format import SPEAKER_TABLE

log = logging.getLogger(__name__)

_SOURCES = ("none", "official", "files")
_POSTERIOR = "posterior_encoder."
_ALTERNATIVE = ", or start from random weights: pretrained=none"

_GENERATOR = "generator."
_SIZED_BY_MODEL = ("flow.", "text_encoder.transformer.", "posterior_encoder.wavenet.")
"""Prefixes of tensors whose shapes depend on model= alone."""


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig(Settings, group="pretrained"):
    """Initial weights of a training."""

    source: str = option("none", "none, official (the pair of the RVC tools) or files.", choices=_SOURCES)
    repository: str | None = option(None, "Hub repository (OWNER/NAME) of the files; null for local files.")
    generator: str | None = option(None, "G…pth, or a voice, whose posterior encoder then has random weights.")
    discriminator: str | None = option(None, "D…pth; null for random weights.")

    def __post_init__(self) -> None:
        super().__post_init__()
        named = {name: getattr(self, name) for name in ("repository", "generator", "discriminator")}
        if self.source == "files" and not self.generator:
            raise ConfigurationError(
                "pretrained=files needs pretrained.generator=FILE, and pretrained.discriminator=FILE"
            )
        if self.source != "files" and (given := [f"pretrained.{name}" for name, value in named.items() if value]):
            raise ConfigurationError(f"pretrained={self.source} uses no {', '.join(given)}; add pretrained=files")


@dataclass(frozen=True)
class Pretrained:
    """Weights of a pair, with the names of this project."""

    synthesizer: dict[str, Tensor]
    synthesizer_path: Path
    discriminator: dict[str, Tensor] | None
    discriminator_path: Path | None

    @property
    def speaker_count(self) -> int:
        """Rows of the speaker table, which the run must have, too."""
        return self.synthesizer[SPEAKER_TABLE].shape[0]

    def check_fits(self, sizes: SynthesizerConfig) -> None:
        """Check that a synthesizer of these sizes can start from the weights, before anything is built or prepared.

        Raises:
            VoiceError: Names or shapes differ; the message contains the setting to change.
        """
        sizes = replace(sizes, speaker_count=self.speaker_count)
        expected = build_on_meta(lambda: Synthesizer(sizes)).state_dict()
        if not any(name.startswith(_POSTERIOR) for name in self.synthesizer):
            expected = {name: tensor for name, tensor in expected.items() if not name.startswith(_POSTERIOR)}
        _check_match(expected, self.synthesizer, self.synthesizer_path, _ALTERNATIVE)

    def load_into(self, module: RVCModule) -> None:
        """Load the weights into `module`.

        Raises:
            VoiceError: Names or shapes differ, or values are not finite; the message contains the setting to change.
        """
        weights = self.synthesizer
        if not any(name.startswith(_POSTERIOR) for name in weights):
            log.warning(
                "'%s' is a voice without posterior encoder, which starts from random weights", self.synthesizer_path
            )
            fresh = module.synthesizer.state_dict()
            weights = weights | {name: tensor for name, tensor in fresh.items() if name.startswith(_POSTERIOR)}
        load_strictly(module.synthesizer, weights, self.synthesizer_path, _ALTERNATIVE)
        if self.discriminator is None or self.discriminator_path is None:
            log.warning("pretrained.discriminator is null: the discriminator starts from random weights")
        else:
            load_strictly(module.discriminator, self.discriminator, self.discriminator_path, _ALTERNATIVE)
        rank_zero_only(log.info)("Starting from '%s'", self.synthesizer_path)


def read_pretrained(config: PretrainedConfig, sizes: SynthesizerConfig) -> Pretrained | None:
    """Read the networks that `config` names, downloaded if necessary; None for pretrained=none.

    Args:
        config: Files of the networks.
        sizes: Sizes of the run's synthesizer.

    Raises:
        ConfigurationError: There is no official pair of such networks.
        AssetError: A file cannot be downloaded.
        VoiceError: A file is missing, damaged, or of another kind.
    """
    if config.source == "none":
        return None
    generator, discriminator = _paths(config, sizes)
    assert generator is not None
    n_blocks = len(sizes.resblock_kernel_sizes)
    weights = rvc_format.weights_from_file(_read_tensors(generator), n_blocks)
    if SPEAKER_TABLE not in weights:
        raise VoiceError(
            f"'{generator}' is not a generator, since it has no speaker table; it may be the discriminator"
        )
    discriminator_weights = (
        None if discriminator is None else rvc_format.weights_from_file(_read_tensors(discriminator))
    )
    return Pretrained(weights, generator, discriminator_weights, discriminator)


def _paths(config: PretrainedConfig, sizes: SynthesizerConfig) -> list[Path | None]:
    """Return the local paths of generator and discriminator."""
    if config.source == "official":
        return [_fetch(file) for file in _official(sizes)]
    paths = (config.generator, config.discriminator)
    if config.repository is not None:
        return [_fetch(HubFile(config.repository, path)) if path else None for path in paths]
    return [Path(path).expanduser() if path else None for path in paths]


def _fetch(file: HubFile) -> Path:
    return fetch(
        file, "pretrained=files pretrained.generator=FILE pretrained.discriminator=FILE; pretrained=none needs none"
    )


def _official(sizes: SynthesizerConfig) -> tuple[HubFile, HubFile]:
    files = known_files()
    place = f"pretrained/{sizes.generator}/{rvc_format.version_of(sizes)}/{sizes.sample_rate}"
    if f"{place}/generator" not in files:
        pairs = sorted({tuple(name.split("/")[1:4]) for name in files if name.startswith("pretrained/")})
        known = ", ".join(f"{generator} {version} at {rate} Hz" for generator, version, rate in pairs)
        wanted = f"{sizes.generator} {rvc_format.version_of(sizes)} at {sizes.sample_rate} Hz"
        raise ConfigurationError(
            f"pretrained=official: there is no pair for {wanted}; choose one of: {known}, by generator= "
            "and sample_rate=, or pretrained=none"
        )
    return files[f"{place}/generator"], files[f"{place}/discriminator"]


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a `G…pth`, a `D…pth` or a voice. Raises VoiceError if there are none."""
    return tensors_of(read_pickle(path, "pretrained network"), path)


def tensors_of(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Return the tensors in the content of the file `path`, with the names of the file. Raises VoiceError."""
    weights = content.get("model", content.get("weight"))
    if not isinstance(weights, Mapping) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise VoiceError(
            f"'{path}' is not a pretrained network: expected a table of tensors under 'model', found "
            f"{', '.join(sorted(map(str, content))[:8])}"
        )
    return dict(weights)


def load_strictly(network: nn.Module, weights: Mapping[str, Tensor], path: Path, alternative: str = "") -> None:
    """Load all weights of a network, with the names of this project.

    Args:
        network: Network to change.
        weights: Weights to load.
        path: File of the weights, for messages.
        alternative: What else to do if they do not match, for the message.

    Raises:
        VoiceError: Names or shapes differ, or values are not finite; the message contains the setting to change.
    """
    _check_match(network.state_dict(), weights, path, alternative)
    if broken := nonfinite_names(weights):
        raise VoiceError(f"'{path}' contains NaN or infinity ({broken}): its training had diverged")
    network.load_state_dict(dict(weights))


def _check_match(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path, alternative: str) -> None:
    if difference := state_difference(expected, found, limit=1):
        settings = ", ".join(_settings_of(expected, found))
        raise VoiceError(
            f"'{path}' does not match the networks of this run: change {settings}{alternative} ({difference})"
        )


def _settings_of(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Return the settings that the differences depend on."""
    where = _Differences(expected, found)
    sized = where.among(_SIZED_BY_MODEL)
    # Stages and kernels of a generator depend on the sample rate, its channels on the model.
    rated = not where.other_generator and not sized and where.among((_GENERATOR,))
    more_speakers = "the number of speaker folders, at most the rows of the file's speaker table"
    settings = {
        "generator=": where.other_generator,
        "sample_rate=": rated or where.among(("posterior_encoder.pre.",), axis=1),
        "content= (256 channels are v1, 768 are v2)": where.among(("text_encoder.content_projection.",), axis=1),
        "model=": sized,
        "discriminator=": where.among(("discriminators.",)),
        more_speakers: where.among((SPEAKER_TABLE,), axis=0),
    }
    return [setting for setting, differs in settings.items() if differs] or ["model="]


class _Differences:
    """Differences of two state dicts: missing tensors, and axes of other sizes."""

    def __init__(self, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
        self._missing = expected.keys() ^ found.keys()
        self._axes = {
            name: {axis for axis, sizes in enumerate(zip_longest(tensor.shape, found[name].shape)) if len({*sizes}) > 1}
            for name, tensor in expected.items()
            if name in found
        }
        self.other_generator = _generator_parts(expected) != _generator_parts(found)
        """Whether the generators have other parts, and not only other sizes."""

    def among(self, prefixes: tuple[str, ...], axis: int | None = None) -> bool:
        """Return whether tensors with one of `prefixes` differ, along `axis` only if one is given."""
        axes = [axes for name, axes in self._axes.items() if name.startswith(prefixes)]
        if axis is not None:
            return any(axis in differing for differing in axes)
        return any(axes) or any(name.startswith(prefixes) for name in self._missing)


def _generator_parts(names: Iterable[str]) -> set[str]:
    """Return the names of a generator's tensors without their numbers."""
    return {re.sub(r"\d+", "#", name) for name in names if name.startswith(_GENERATOR)}
