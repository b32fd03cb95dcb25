"""Pretrained networks to start from: the pairs of the RVC tools, and any G/D files (SPECIFICATION.md, section 2.2)."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.io.hub import HubFile, fetch, known_files
from rvc_lightning.io.names import home_path
from rvc_lightning.io.pickles import read_pickle
from rvc_lightning.models import Synthesizer, SynthesizerConfig
from rvc_lightning.models.layers import build_on_meta
from rvc_lightning.models.states import nonfinite_names, state_difference
from rvc_lightning.training.module import RVCModule
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.rvc_format import SPEAKER_TABLE

log = logging.getLogger(__name__)
_log_once, _warn_once = rank_zero_only(log.info), rank_zero_only(log.warning)

_SOURCES = ("none", "official", "files")
_POSTERIOR = "posterior_encoder."
_GENERATOR = "generator."
_CONTENT_DECODER = "content_decoder."
_SIZED_BY_MODEL = (_CONTENT_DECODER, "flow.", "text_encoder.transformer.", "posterior_encoder.wavenet.")
"""Prefixes of tensors whose shapes depend only on model=."""


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig(Settings, group="pretrained"):
    """Initial weights of a training."""

    source: str = option("none", "none, official (the pair of the RVC tools) or files.", choices=_SOURCES)
    repository: str | None = option(None, "Hub repository (OWNER/NAME) of the files; null for local files.")
    generator: str | None = option(None, "G…pth, or a voice, whose posterior encoder then has random weights.")
    discriminator: str | None = option(None, "D…pth; null for random weights.")

    def __post_init__(self) -> None:
        super().__post_init__()
        unused = [name for name in ("repository", "generator", "discriminator") if getattr(self, name)]
        if self.source == "files" and not self.generator:
            problem = "needs pretrained.generator=FILE; pretrained.discriminator=FILE is optional"
        elif self.source != "files" and unused:
            problem = f"uses no {', '.join(f'pretrained.{name}' for name in unused)}; add pretrained=files"
        else:
            return
        raise ConfigurationError(f"pretrained={self.source} {problem}")


@dataclass(frozen=True)
class Pretrained:
    """Weights of a pair, with the names of this project."""

    synthesizer: dict[str, Tensor]
    synthesizer_path: Path
    discriminator: dict[str, Tensor] | None
    discriminator_path: Path | None

    @property
    def speaker_count(self) -> int:
        """Rows of the speaker table; that of the run must have at least as many."""
        return self.synthesizer[SPEAKER_TABLE].shape[0]

    def check_fits(self, sizes: SynthesizerConfig) -> None:
        """Check that a synthesizer of these sizes can start from the weights, before anything is built or prepared.

        Raises:
            VoiceError: Names or shapes differ, or values are not finite; the message contains the setting to change.
        """
        sizes = replace(sizes, speaker_count=self.speaker_count)
        expected = build_on_meta(lambda: Synthesizer(sizes)).state_dict()
        if not self._has_posterior:
            expected = {name: tensor for name, tensor in expected.items() if not name.startswith(_POSTERIOR)}
        _check_match(expected, self.synthesizer, self.synthesizer_path)

    @property
    def _has_posterior(self) -> bool:
        return any(name.startswith(_POSTERIOR) for name in self.synthesizer)

    def _speaker_table(self, rows: int) -> Tensor:
        """Return the speaker table; rows for further speakers are the mean of the others."""
        table = self.synthesizer[SPEAKER_TABLE]
        return torch.cat([table, table.mean(0, keepdim=True).expand(max(0, rows - len(table)), -1)])

    def load_into(self, module: RVCModule) -> None:
        """Load the weights into `module`.

        Raises:
            VoiceError: Names or shapes differ, or values are not finite; the message contains the setting to change.
        """
        weights = self.synthesizer | {SPEAKER_TABLE: self._speaker_table(module.synthesizer.config.speaker_count)}
        if not self._has_posterior and module.synthesizer.config.variational:
            _warn_once(
                "'%s' is a voice without posterior encoder, which starts from random weights", self.synthesizer_path
            )
            fresh = module.synthesizer.state_dict()
            weights = weights | {name: tensor for name, tensor in fresh.items() if name.startswith(_POSTERIOR)}
        _check_match(module.synthesizer.state_dict(), weights, self.synthesizer_path)
        module.synthesizer.load_state_dict(weights)
        if self.discriminator is None or self.discriminator_path is None:
            _warn_once("pretrained.discriminator is null: the discriminator starts from random weights")
        else:
            _check_match(module.discriminator.state_dict(), self.discriminator, self.discriminator_path)
            module.discriminator.load_state_dict(self.discriminator)
        _log_once("Starting from '%s'", self.synthesizer_path)


def read_pretrained(config: PretrainedConfig, sizes: SynthesizerConfig) -> Pretrained | None:
    """Read the networks that `config` names, downloaded if necessary; None for pretrained=none.

    Args:
        config: Files of the networks.
        sizes: Sizes of the run's synthesizer.

    Raises:
        ConfigurationError: No official pair exists for such networks.
        AssetError: A file cannot be downloaded.
        VoiceError: A file is missing, damaged, or of another kind.
    """
    if config.source == "none":
        return None
    generator, discriminator = _paths(config, sizes)
    weights = rvc_format.weights_from_file(_read_tensors(generator), len(sizes.resblock_kernel_sizes))
    if SPEAKER_TABLE not in weights:
        raise VoiceError(
            f"'{generator}' is not a pretrained generator: it has no speaker table under 'model' or 'weight'. It may "
            "be the discriminator"
        )
    if discriminator is None:
        return Pretrained(weights, generator, None, None)
    return Pretrained(weights, generator, rvc_format.weights_from_file(_read_tensors(discriminator)), discriminator)


def _paths(config: PretrainedConfig, sizes: SynthesizerConfig) -> tuple[Path, Path | None]:
    """Return the local paths of generator and discriminator."""
    if config.source == "official":
        generator, discriminator = _official(sizes)
        return _fetch(generator), _fetch(discriminator)
    first, *rest = [
        home_path(path) if config.repository is None else _fetch(HubFile(config.repository, path))
        for path in (config.generator, config.discriminator)
        if path
    ]
    return first, rest[0] if rest else None


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
        requested = f"{sizes.generator} {rvc_format.version_of(sizes)} at {sizes.sample_rate} Hz"
        raise ConfigurationError(
            f"pretrained=official: no pair for {requested}; choose one of: {known} with generator= and "
            "sample_rate=, or pretrained=none"
        )
    return files[f"{place}/generator"], files[f"{place}/discriminator"]


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a `G…pth`, a `D…pth` or a voice, with the names of the file; {} for other content."""
    return tensors_of(read_pickle(path, "pretrained network"))


def tensors_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors in the content of a `G…pth`, a `D…pth` or a voice; {} for other content."""
    weights = content.get("model", content.get("weight"))
    tables = weights.items() if isinstance(weights, Mapping) else ()
    return {name: tensor for name, tensor in tables if isinstance(tensor, Tensor)}


def _check_match(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path) -> None:
    """Check that weights can be loaded in place of `expected`. Raises VoiceError."""
    if difference := state_difference(expected, found, limit=1):
        settings = ", ".join(_settings_of(expected, found))
        problem = (
            f"does not match the networks of this run: change {settings}, or start from random weights: "
            f"pretrained=none ({difference})"
        )
    elif broken := nonfinite_names(found):
        problem = f"contains NaN or infinity ({broken}): its training had diverged"
    else:
        return
    raise VoiceError(f"'{path}' {problem}")


def _settings_of(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Return the settings that the differences depend on."""
    missing = expected.keys() ^ found.keys()
    axes = {
        name: {
            axis for axis, sizes in enumerate(zip_longest(expected[name].shape, found[name].shape)) if len({*sizes}) > 1
        }
        for name in expected.keys() & found.keys()
    }

    def differ(*prefixes: str) -> bool:
        return any(name.startswith(prefixes) and (name in missing or axes[name]) for name in {*axes, *missing})

    def differ_along(axis: int, *prefixes: str) -> bool:
        return any(name.startswith(prefixes) and axis in differing for name, differing in axes.items())

    sized = differ(*_SIZED_BY_MODEL)
    # Without a random latent, a generator has other parts.
    other_latent = differ(_CONTENT_DECODER)
    other_generator = not other_latent and _generator_parts(expected) != _generator_parts(found)
    # Stages and kernels of a generator depend on the sample rate, its channels on the model.
    rated = not other_generator and not sized and differ(_GENERATOR)
    settings = {
        "generator=": other_generator,
        "sample_rate=": rated or differ_along(1, "posterior_encoder.pre."),
        "content= (256 channels are v1, 768 are v2)": differ_along(
            1, "text_encoder.content_projection.", f"{_CONTENT_DECODER}content_projection."
        ),
        "model=": sized,
        "discriminator=": differ("discriminators."),
    }
    return [setting for setting, differs in settings.items() if differs] or ["model="]


def _generator_parts(names: Iterable[str]) -> set[str]:
    """Return the names of a generator's tensors without their numbers."""
    return {re.sub(r"\d+", "#", name) for name in names if name.startswith(_GENERATOR)}
