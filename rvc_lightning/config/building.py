"""From a composed configuration to the objects of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning import Trainer
from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from rvc_lightning.audio.spectra import MultiScaleMel
from rvc_lightning.cli.commands import switch
from rvc_lightning.config.validation import check_whole
from rvc_lightning.data.datamodule import RVCDataModule
from rvc_lightning.data.dataset import read_feature
from rvc_lightning.data.features import ExtractionConfig
from rvc_lightning.data.manifest import DatasetHeader, ManifestRow, open_manifest
from rvc_lightning.data.recipe import Recipe
from rvc_lightning.data.selection import SelectionConfig
from rvc_lightning.data.slicing import SlicingConfig
from rvc_lightning.errors import ConfigurationError, DatasetError, unknown_choice
from rvc_lightning.models import DiscriminatorConfig, SynthesizerConfig
from rvc_lightning.models.generators import GENERATORS, check_generator, generator_class
from rvc_lightning.models.synthesizer import PRIOR_NOISE_SCALE
from rvc_lightning.pitch import PITCH_EXTRACTORS, PitchTracker, build_pitch_extractor
from rvc_lightning.retrieval.index import IndexConfig
from rvc_lightning.training.callbacks.ema import NOT_SHARDED, AveragedWeights
from rvc_lightning.training.callbacks.rank_watch import RankWatch
from rvc_lightning.training.callbacks.step_limit import StepLimit
from rvc_lightning.training.module import RVCModule, TrainingConfig
from rvc_lightning.training.strategies import FlatlyShardedNetworks, FullyShardedNetworks

T = TypeVar("T")

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true")
"""Those in which recordings, spectra, losses and weights keep their digits."""


def plain(node: DictConfig) -> dict[str, Any]:
    """A configuration node as plain, resolved Python values. Raises ConfigurationError for what is no table."""
    if not isinstance(node, DictConfig):
        raise ConfigurationError(f"{node}: a table of settings belongs there, such as {{name:value}}")
    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def settings(kind: Callable[..., T], group: str, values: Mapping[str, Any]) -> T:
    """`kind` made of the values of a configuration group.

    Raises:
        ConfigurationError: A value is unknown, missing or of the wrong type, or `kind` refuses it.
    """
    names = [name for name in signature(kind).parameters if name != "self"]
    if unknown := [name for name in values if name not in names]:
        raise unknown_choice(f"setting of {group}", unknown[0], names)
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigurationError(f"{group}: {error}") from error


def recipe_of(config: DictConfig) -> Recipe:
    """How recordings become a dataset. Raises ConfigurationError for settings that make no sense."""
    selected = OmegaConf.masked_copy(config, ["speakers", "include", "exclude"])
    return Recipe(
        sample_rate=config.model.synthesizer.sample_rate,
        pitch=plain(config.pitch),
        content=plain(config.content),
        slicing=settings(SlicingConfig, "slicing", plain(config.slicing)),
        selection=settings(SelectionConfig, "recordings", plain(selected)),
    )


def extraction_of(config: DictConfig) -> ExtractionConfig:
    """How slices are batched for the networks. Raises ConfigurationError for settings that make no batch."""
    batches = {key: config.preparation[key] for key in ("batch_seconds", "batch_slices")}
    return settings(ExtractionConfig, "preparation", {"num_workers": config.prepare_workers, **batches})


def chosen_pitch(config: DictConfig) -> PitchTracker | None:
    """The pitch extractor asked for in a conversion; None for the voice's own. Errors as of `build_pitch_extractor`."""
    return build_pitch_extractor(**plain(config.pitch)) if config.get("pitch") else None


def build_module(
    config: DictConfig,
    header: DatasetHeader,
    voice: Mapping[str, Any],
    kind: type[RVCModule] = RVCModule,
    speaker_rows: int = 0,
) -> RVCModule:
    """The networks and their training for a prepared dataset.

    Args:
        config: Of the run.
        header: Of the dataset, which decides content channels and speakers.
        voice: What an exported voice must remember, see `voice_facts`.
        kind: The training loop.
        speaker_rows: Least rows of the speaker table, as weights that will be loaded have them.

    Raises:
        ConfigurationError: Settings contradict each other or do not exist.
        DatasetError: The dataset has another sampling rate than the model.
    """
    synthesizer, discriminator, training = _networks_and_training(
        config, content_dim=header.content["dim"], speaker_count=max(len(header.speakers), speaker_rows)
    )
    if header.sample_rate != synthesizer.sample_rate:
        raise DatasetError(
            f"the dataset was prepared at {header.sample_rate} Hz, the model makes {synthesizer.sample_rate} Hz; "
            "prepare it again or choose the other sample_rate="
        )
    _check_pitch(synthesizer.generator, header.pitch.get("name"))
    return kind(
        synthesizer,
        discriminator,
        training,
        optimizer=make(config, "optimizer"),
        scheduler=make(config, "scheduler"),
        voice=voice,
        seed=config.seed,
    )


def check_settings(config: DictConfig) -> None:
    """Refuses what cannot be trained, before hours go into preparing for it.

    Raises:
        ConfigurationError: Settings contradict each other or do not exist.
    """
    # What numpy takes.
    check_whole("seed", config.seed, 0, 2**32 - 1)
    synthesizer, _, _ = _networks_and_training(config)
    _check_pitch(synthesizer.generator, config.pitch.name)
    build_datamodule(config, Path(config.paths.dataset))
    settings(IndexConfig, "index", plain(config.index))
    _check_optimizer(config)
    _check_numbers(config)
    build_callbacks(config)
    check_ranks(config)


def _check_optimizer(config: DictConfig) -> None:
    """Refuses what optimizer and schedule refuse once they have something to do. Raises ConfigurationError."""
    setting = "optimizer"
    try:
        optimizer = make(config, setting)([nn.Parameter(torch.zeros(1))])
        setting = "scheduler"
        make(config, setting)(optimizer)
    except (TypeError, ValueError) as error:
        given = {name: value for name, value in plain(config[setting]).items() if not name.startswith("_")}
        raise ConfigurationError(f"{setting}: {error}; got {given}") from error


_WHOLE_NUMBERS = {
    "max_epochs": -1,
    "min_epochs": 0,
    "max_steps": -1,
    "min_steps": 0,
    "num_nodes": 1,
    "log_every_n_steps": 0,
    "check_val_every_n_epoch": 1,
    "num_sanity_val_steps": -1,
}
"""The lowest value of settings of the trainer, which takes anything and fails hours later."""


def _check_numbers(config: DictConfig) -> None:
    for name, least in _WHOLE_NUMBERS.items():
        if (value := config.trainer.get(name)) is not None:
            check_whole(f"trainer.{name}", value, least)


def _networks_and_training(
    config: DictConfig, **of_the_dataset: int
) -> tuple[SynthesizerConfig, DiscriminatorConfig, TrainingConfig]:
    """What `config.model` describes. Raises ConfigurationError where it makes no sense."""
    model = plain(config.model)
    networks = {name: model.pop(name) for name in ("synthesizer", "discriminator")}
    synthesizer = SynthesizerConfig.from_values(networks["synthesizer"] | of_the_dataset)
    check_generator(synthesizer)
    discriminator = DiscriminatorConfig.from_values(networks["discriminator"])
    training = settings(TrainingConfig, "model", model)
    fewest = max(discriminator.min_samples, MultiScaleMel.FEWEST_SAMPLES if training.mel_loss != "single" else 1)
    if training.segment_frames * synthesizer.hop_samples < fewest:
        raise ConfigurationError(
            f"model.segment_frames={training.segment_frames}: the discriminator and the mel loss need "
            f"{-(-fewest // synthesizer.hop_samples)} frames or more"
        )
    return synthesizer, discriminator, training


def _check_pitch(generator: str, pitch: str | None) -> None:
    """Refuses to guide a generator by the pitch of an extractor that finds none. Raises ConfigurationError."""
    extractor = PITCH_EXTRACTORS.get(pitch or "")
    if extractor is None or extractor.finds_pitch or not generator_class(generator).pitch_guided:
        return
    extractors = [f"pitch={name}" for name, kind in PITCH_EXTRACTORS.items() if kind.finds_pitch]
    free = [f"generator={name}" for name, kind in GENERATORS.items() if not kind.pitch_guided]
    raise ConfigurationError(
        f"pitch={pitch} gives no pitch, and generator={generator} is guided by it; choose one of: "
        f"{', '.join([*extractors, *free])}"
    )


def voice_facts(
    config: DictConfig, header: DatasetHeader, dataset: Path, noise_scale: float = PRIOR_NOISE_SCALE
) -> dict[str, Any]:
    """What a checkpoint, and the voice exported from it, must remember, as plain values.

    Args:
        config: With the name and the author of the voice.
        header: Of the dataset.
        dataset: Its folder.
        noise_scale: Spread of the prior that the voice is trained for; by default that of other tools' voices.
    """
    rows = open_manifest(dataset)
    return {
        "name": config.name,
        "author": config.author,
        "content": _without_path(header.content),
        "pitch": _without_path(header.pitch),
        "speakers": header.speakers,
        "seconds": float(rows.seconds.sum()),
        "median_f0_hz": median_f0_hz(dataset, rows),
        "noise_scale": noise_scale,
        "dataset": str(dataset.resolve()),
    }


def _without_path(component: Mapping[str, Any]) -> dict[str, Any]:
    """Name and options without `path`: where files lie concerns this machine alone."""
    return {**component, "options": {k: v for k, v in (component.get("options") or {}).items() if k != "path"}}


def median_f0_hz(dataset: Path, rows: Sequence[ManifestRow], most_rows: int = 500) -> float:
    """Median pitch in Hz of voiced frames, over slices spread evenly; 0 where nothing is voiced."""
    tracks = [read_feature(dataset / row.f0, 1) for row in rows[:: max(1, len(rows) // most_rows)]]
    voiced_hz = np.concatenate([track[track > 0] for track in tracks])
    return float(np.median(voiced_hz)) if len(voiced_hz) else 0.0


def build_datamodule(config: DictConfig, dataset: Path) -> RVCDataModule:
    """The batches of a prepared dataset. Raises ConfigurationError for settings that it does not have."""
    of_the_model = {key: config.model[key] for key in ("segment_frames", "accumulate_grad_batches")}
    values = {"folder": dataset, "seed": config.seed, **of_the_model, **plain(config.data)}
    return settings(RVCDataModule, "data", values)


def make(config: DictConfig, setting: str, **changes: Any) -> Any:
    """What `config.<setting>` describes by its `_target_`, with `changes` as further arguments.

    Raises:
        ConfigurationError: It refuses its arguments; the message is its own.
    """
    return make_from(config[setting], setting, **changes)


def make_from(node: DictConfig, setting: str, **changes: Any) -> Any:
    """As `make`, of a node that is called `setting`. Raises ConfigurationError as it does."""
    try:
        return instantiate(node, **changes)
    except InstantiationException as error:
        raise ConfigurationError(f"{setting}: {' '.join(str(error.__cause__ or error).split())}") from error


def set_up_torch(config: DictConfig) -> None:
    """Sets how torch computes, for all that follows.

    Raises:
        ConfigurationError: There is no such precision of products, or no such switch.
    """
    precision, choices = config.platform.float32_matmul_precision, ("highest", "high", "medium")
    if precision not in choices:
        raise unknown_choice("platform.float32_matmul_precision", precision, choices)
    torch.set_float32_matmul_precision(precision)
    for backend, switches in plain(config.platform.backends).items():
        for name, value in switches.items():
            if not hasattr(getattr(torch.backends, backend, None), name):
                raise ConfigurationError(f"platform.backends.{backend}.{name}: torch.backends has no such switch")
            setattr(getattr(torch.backends, backend), name, value)


def build_trainer(config: DictConfig, first_step: int = 0, *, counts_both: bool = False) -> Trainer:
    """Lightning's trainer with the callbacks and the logger of the run.

    Args:
        config: Of the run.
        first_step: The step that the run begins or goes on with. What a log holds from there on is left out: a run
            that was killed got further than its last checkpoint, and takes these steps again.
        counts_both: Whether a step of `trainer.max_steps` is one of both optimizers.

    Raises:
        ConfigurationError: Lightning refuses a setting, or has no such device.
    """
    callbacks = build_callbacks(config)
    purge = {"purge_step": first_step} if first_step and "purge_step" in (config.logger or {}) else {}
    logger = make(config, "logger", **purge) if config.logger else False
    keeps = any(isinstance(callback, Checkpoint) for callback in callbacks)
    changes: dict[str, Any] = {"callbacks": callbacks, "logger": logger, "enable_checkpointing": keeps}
    if counts_both and (max_steps := config.trainer.get("max_steps", -1)) >= 0:
        callbacks.append(StepLimit(max_steps))
        changes["max_steps"] = -1
    if check_ranks(config) == 1:
        # Nothing to share: no strategy, and so no process group, is needed.
        changes |= {"strategy": "auto"}
    else:
        callbacks.append(RankWatch())
    return _trainer(config, **changes)


def build_callbacks(config: DictConfig) -> list[Callback]:
    """The callbacks of the run. Raises ConfigurationError where one refuses its settings."""
    nodes = {name: node for name, node in (config.callbacks or {}).items() if node}
    return [make_from(node, f"callbacks.{name}") for name, node in nodes.items()]


def check_ranks(config: DictConfig) -> int:
    """How many processes will train; refuses what would fail later, or never end, with several.

    Raises:
        ConfigurationError: Lightning has no such devices, or devices, strategy and settings do not go together.
    """
    probe = _trainer(config, **_NO_TRACES, strategy="auto")
    if (world_size := probe.num_nodes * probe.num_devices) == 1:
        _check_started(world_size)
        return world_size
    _check_several(config)
    trainer = _trainer(config, **_NO_TRACES)
    _check_started(trainer.world_size)
    _check_sweep(trainer)
    _check_sharding(trainer, config)
    return world_size


def _check_several(config: DictConfig) -> None:
    """Refuses several devices without a strategy. Raises ConfigurationError."""
    if config.trainer.strategy == "auto":
        raise ConfigurationError(
            f"trainer.devices={config.trainer.devices} on {config.trainer.num_nodes} machines means several ranks: add "
            "strategy=ddp, or ddp_spawn, fsdp, fsdp2"
        )


def is_sweep() -> bool:
    """Whether this run is one of several that Hydra starts with --multirun."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def build_predictor(config: DictConfig) -> Trainer:
    """A trainer for finding features: it logs and saves nothing.

    With several devices it is on as many ranks as the run's trainer, started in the same way, whatever strategy that
    has: the networks are copied, and each rank does its share. The training that follows takes place on these ranks.

    Raises:
        ConfigurationError: Lightning has no such devices, or devices and strategy do not go together.
    """
    precision = config.preparation.precision
    _check_precision("preparation", precision)
    changes = {**_NO_TRACES, "max_time": None, "precision": precision, "enable_progress_bar": False}
    probe = _trainer(config, **changes, strategy="auto")
    if not switch(config, "preparation.all_devices") or probe.num_nodes * probe.num_devices == 1:
        devices = config.trainer.devices
        first = list(devices)[:1] if isinstance(devices, ListConfig) else 1
        return _trainer(config, **changes, devices=first, num_nodes=1, strategy="auto")
    _check_several(config)
    return _trainer(config, **changes | {"callbacks": [RankWatch()]}, strategy=_sharing_strategy(config))


def _sharing_strategy(config: DictConfig) -> DDPStrategy:
    """Ranks that are started as the run's strategy starts its own, and wait for each other for a day at most."""
    trainer = _trainer(config, **_NO_TRACES)
    _check_started(trainer.world_size)
    _check_sweep(trainer)
    launcher = trainer.strategy.launcher
    start_method: Any = launcher._start_method if isinstance(launcher, _MultiProcessingLauncher) else "popen"
    return DDPStrategy(start_method=start_method, timeout=timedelta(days=1))


def build_converting_trainer(config: DictConfig) -> Trainer:
    """A trainer for conversion on the devices that are asked for: it logs and saves nothing.

    Raises:
        ConfigurationError: Lightning has no such devices, or the strategy is one for training alone.
    """
    changes: dict[str, Any] = dict(_NO_TRACES) | {"enable_progress_bar": False, "max_time": None}
    if not str(config.trainer.strategy).startswith(("auto", "ddp")):
        raise ConfigurationError("this strategy spreads what is learned: conversion takes strategy=ddp or ddp_spawn")
    if check_ranks(config) == 1:
        return _trainer(config, **changes, strategy="auto")
    entry = StrategyRegistry[config.trainer.strategy]
    # A rank may have to wait for another that has a recording of hours.
    strategy = entry["strategy"](**entry["init_params"], timeout=timedelta(days=30))
    return _trainer(config, **changes | {"callbacks": [RankWatch()]}, strategy=strategy)


_NO_TRACES: Mapping[str, Any] = {"callbacks": None, "logger": False, "enable_checkpointing": False}


def _trainer(config: DictConfig, **changes: Any) -> Trainer:
    """Lightning's trainer as configured, but for `changes`. Raises ConfigurationError where Lightning refuses."""
    _check_precision("trainer", config.trainer.precision)
    node = OmegaConf.masked_copy(config.trainer, [key for key in config.trainer if key not in changes])
    node._set_parent(config)
    return make_from(node, "trainer", **changes)


def _check_precision(group: str, precision: str) -> None:
    """Refuses precisions in which training loses what it learns. Raises ConfigurationError."""
    if precision not in PRECISIONS:
        prefix = "" if group == "trainer" else f"{group}."
        raise ConfigurationError(
            f"{group}.precision={precision}; choose one of: "
            f"{', '.join(f'{prefix}precision={name}' for name in PRECISIONS)}; "
            "others round what is learned to a few bits"
        )


def _check_sweep(trainer: Trainer) -> None:
    """Refuses a sweep in which each run would start the others' ranks. Raises ConfigurationError."""
    if is_sweep() and isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
        raise ConfigurationError(
            "a sweep cannot start several ranks a run from the command line, which its runs share. Use "
            "strategy=ddp_spawn, or hydra/launcher=submitit_slurm, which starts the ranks itself, or trainer.devices=1"
        )


def _check_sharding(trainer: Trainer, config: DictConfig) -> None:
    """Refuses what sharded networks cannot do. Raises ConfigurationError."""
    if not isinstance(trainer.strategy, FlatlyShardedNetworks | FullyShardedNetworks):
        return
    if config.data.max_batch_frames is not None:
        raise ConfigurationError(
            "data.max_batch_frames may cut the steps of two ranks into different numbers of batches, for which sharded "
            "networks would wait for ever: use strategy=ddp, or a smaller data.batch_size"
        )
    if any(isinstance(callback, AveragedWeights) for callback in build_callbacks(config)):
        raise ConfigurationError(NOT_SHARDED)
    clips_norm = config.model.gradient_clip_val is not None and config.model.gradient_clip_algorithm == "norm"
    if isinstance(trainer.strategy, FlatlyShardedNetworks) and clips_norm:
        raise ConfigurationError(
            "strategy=fsdp knows no norm of all gradients: use strategy=fsdp2, or model.gradient_clip_algorithm=value"
        )


def _check_started(world_size: int) -> None:
    """Refuses fewer or more ranks than a launcher has started. Raises ConfigurationError."""
    for launcher, environment in (("torchrun", TorchElasticEnvironment), ("SLURM", SLURMEnvironment)):
        if environment.detect() and (started := environment().world_size()) != world_size:
            raise ConfigurationError(
                f"{launcher} has started {started} processes, but trainer.devices x trainer.num_nodes is {world_size}: "
                "make both the same, with trainer.devices those of one machine"
            )
