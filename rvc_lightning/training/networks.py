"""Build the module of a run from its configuration, and the metadata of its voice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from torch import nn

from rvc_lightning.audio.spectra import MultiScaleMel
from rvc_lightning.config.options import Settings, option
from rvc_lightning.config.values import instantiate, plain
from rvc_lightning.content.phonetic import EDITION
from rvc_lightning.data.dataset import read_feature
from rvc_lightning.data.manifest import DatasetHeader, ManifestRow, read_used_rows
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.models import DiscriminatorConfig, SynthesizerConfig
from rvc_lightning.models.generators import GENERATORS, check_generator, generator_class
from rvc_lightning.models.synthesizer import PRIOR_NOISE_SCALE
from rvc_lightning.pitch import PITCH_EXTRACTORS
from rvc_lightning.pitch.scale import median_hz
from rvc_lightning.training.config import CONVERSION_LOSSES, TrainingConfig
from rvc_lightning.training.module import RVCModule

_MAX_MEDIAN_ROWS = 500


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings(Settings, group="optimizer"):
    """Arguments of optimizers that torch checks with an unclear error or not at all; the defaults are torch's."""

    lr: float = option(1e-3, min=1e-9, max=1)
    betas: list[float] = option([0.9, 0.999])
    eps: float = option(1e-8, min=0)
    weight_decay: float = option(1e-2, min=0)


@dataclass(frozen=True, kw_only=True)
class SchedulerSettings(Settings, group="scheduler"):
    """Arguments of schedules that torch does not check; the defaults are torch's."""

    gamma: float = option(0.1, min=0.01, max=1)


class NetworkConfigs(NamedTuple):
    """Settings in `config.model`."""

    synthesizer: SynthesizerConfig
    discriminator: DiscriminatorConfig
    training: TrainingConfig


def network_configs(config: DictConfig, **sizes: int) -> NetworkConfigs:
    """Read sizes of the networks and settings of their training from `config.model`.

    Args:
        config: Configuration of the run.
        **sizes: Sizes of the synthesizer that depend on the dataset: content_dim, speaker_count.

    Raises:
        ConfigurationError: A setting is out of range, or settings contradict each other.
    """
    model = plain(config.model)
    synthesizer = SynthesizerConfig.from_values(model.pop("synthesizer") | sizes)
    check_generator(synthesizer)
    discriminator = DiscriminatorConfig.from_values(model.pop("discriminator"))
    training = TrainingConfig.from_values(model)
    if not synthesizer.variational:
        _check_without_latent(training)
    elif training.uses_conversions:
        raise ConfigurationError(_conversion_error(training, "model.synthesizer.variational=false, as in model=direct"))
    min_samples = discriminator.min_samples
    if training.mel_loss != "single":
        min_samples = max(min_samples, MultiScaleMel.MIN_SAMPLES)
    if training.segment_frames * synthesizer.hop_samples < min_samples:
        raise ConfigurationError(
            f"model.segment_frames={training.segment_frames}: the discriminator and the mel loss need "
            f"{-(-min_samples // synthesizer.hop_samples)} frames or more"
        )
    return NetworkConfigs(synthesizer, discriminator, training)


def _check_without_latent(training: TrainingConfig) -> None:
    """Check that no setting requires a random latent. Raises ConfigurationError."""
    if share := training.from_content_share:
        setting, reason = f"from_content_share={share}", "all segments are generated from content; set it to 0"
    elif training.checkpoint_activations == "generator":
        setting = "checkpoint_activations=generator"
        reason = "the generator has no activations worth recomputing; choose none or all"
    else:
        return
    raise ConfigurationError(f"model.{setting}: with model.synthesizer.variational=false, as in model=direct, {reason}")


def _check_content(training: TrainingConfig, name: str, edition: int | None) -> None:
    """Check that the included speech of other people has the same content. Raises ConfigurationError."""
    if training.uses_conversions and (name, edition) != ("phonetic", EDITION):
        raise ConfigurationError(_conversion_error(training, f"content=phonetic content.edition={EDITION}"))


def _conversion_error(training: TrainingConfig, requirement: str) -> str:
    weights = {name: weight for name in CONVERSION_LOSSES if (weight := training.loss_weights.get(name))}
    settings = " ".join(f"model.loss_weights.{name}={weight}" for name, weight in weights.items())
    return f"{settings}: losses of conversions require {requirement}; otherwise, choose loss=rvc"


def check_networks(config: DictConfig) -> None:
    """Check networks, optimizer and schedule before hours of preparation. Raises ConfigurationError."""
    synthesizer, _, training = network_configs(config)
    _check_pitch(synthesizer.generator, config.pitch.name)
    _check_content(training, config.content.name, config.content.get("edition"))
    OptimizerSettings.from_config(config.optimizer)
    SchedulerSettings.from_config(config.scheduler)
    name = "optimizer"
    try:
        optimizer = instantiate(config.optimizer, name)([nn.Parameter(torch.zeros(1))])
        name = "scheduler"
        instantiate(config.scheduler, name)(optimizer)
    except (TypeError, ValueError) as error:
        settings = {key: value for key, value in plain(config[name]).items() if not key.startswith("_")}
        raise ConfigurationError(f"{name}: {error}; got {settings}") from error


def build_module(
    config: DictConfig,
    header: DatasetHeader,
    voice: Mapping[str, Any],
    kind: type[RVCModule] = RVCModule,
    min_speaker_rows: int = 0,
) -> RVCModule:
    """Build the networks and their training for a prepared dataset.

    Args:
        config: Configuration of the run.
        header: Header of the dataset, which decides content channels and speakers.
        voice: Metadata of the voice, see `voice_metadata`.
        kind: Class of the module.
        min_speaker_rows: Smallest number of rows of the speaker table, as in the weights that will be loaded.

    Raises:
        ConfigurationError: A setting is out of range, or settings contradict each other.
    """
    synthesizer, discriminator, training = network_configs(
        config, content_dim=header.content["dim"], speaker_count=max(len(header.speakers), min_speaker_rows)
    )
    _check_pitch(synthesizer.generator, header.pitch.get("name"))
    # The header of a measurement has no names.
    if name := header.content.get("name"):
        _check_content(training, name, (header.content.get("options") or {}).get("edition"))
    return kind(
        synthesizer,
        discriminator,
        training,
        optimizer=instantiate(config.optimizer, "optimizer"),
        scheduler=instantiate(config.scheduler, "scheduler"),
        voice=voice,
        seed=config.seed,
    )


def _check_pitch(generator: str, pitch: str | None) -> None:
    """Check that a pitch-guided generator has an extractor that finds pitch. Raises ConfigurationError."""
    extractor = PITCH_EXTRACTORS.get(pitch or "")
    if extractor is None or extractor.finds_pitch or not generator_class(generator).pitch_guided:
        return
    extractors = [f"pitch={name}" for name, kind in PITCH_EXTRACTORS.items() if kind.finds_pitch]
    unguided = [f"generator={name}" for name, kind in GENERATORS.items() if not kind.pitch_guided]
    raise ConfigurationError(
        f"pitch={pitch} finds no pitch, which generator={generator} requires; choose one of: "
        f"{', '.join([*extractors, *unguided])}"
    )


def voice_metadata(
    config: DictConfig, header: DatasetHeader, dataset: Path, noise_scale: float = PRIOR_NOISE_SCALE
) -> dict[str, Any]:
    """Return the metadata that a checkpoint and the voice exported from it store, as plain values.

    Args:
        config: Configuration with name and author of the voice.
        header: Header of the dataset.
        dataset: Folder of the dataset.
        noise_scale: Standard deviation of the prior that the voice is trained for; the default is that of other tools.
    """
    rows = read_used_rows(dataset)
    return {
        "name": config.name,
        "author": config.author,
        "content": _without_path(header.content),
        "pitch": _without_path(header.pitch),
        "speakers": header.speakers,
        "seconds": sum(row.seconds for row in rows),
        "median_f0_hz": median_f0_hz(dataset, rows),
        "noise_scale": noise_scale,
        "dataset": str(dataset.resolve()),
    }


def _without_path(component: Mapping[str, Any]) -> dict[str, Any]:
    """Return name and options without `path`, which is only valid on this machine."""
    options = {key: value for key, value in (component.get("options") or {}).items() if key != "path"}
    return {**component, "options": options}


def median_f0_hz(dataset: Path, rows: Sequence[ManifestRow]) -> float:
    """Return the median pitch of voiced frames in Hz, over slices spread evenly; 0 if no frame is voiced."""
    tracks = [read_feature(dataset / row.f0, 1) for row in rows[:: max(1, -(-len(rows) // _MAX_MEDIAN_ROWS))]]
    return median_hz(tracks) or 0.0
