"""From a composed configuration to the objects of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint
from omegaconf import DictConfig, OmegaConf

from rvc_lightning.data.datamodule import RVCDataModule
from rvc_lightning.data.manifest import DatasetHeader, ManifestRow, read_manifest
from rvc_lightning.errors import ConfigurationError, DatasetError
from rvc_lightning.models import DiscriminatorConfig, SynthesizerConfig
from rvc_lightning.models.generators import GENERATORS, generator_class
from rvc_lightning.module import RVCModule, TrainingConfig
from rvc_lightning.pitch import PITCH_EXTRACTORS
from rvc_lightning.spectral import MultiScaleMel

T = TypeVar("T")


def plain(node: DictConfig) -> dict[str, Any]:
    """A configuration node as plain, resolved Python values."""
    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def settings(kind: Callable[..., T], group: str, values: Mapping[str, Any]) -> T:
    """`kind` made of the values of a configuration group.

    Raises:
        ConfigurationError: A value is unknown, missing or of the wrong type, or `kind` refuses it.
    """
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigurationError(f"{group}: {error}") from error


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
    )


def check_settings(config: DictConfig) -> None:
    """Refuses what cannot be trained, before hours go into preparing for it.

    Raises:
        ConfigurationError: Settings contradict each other or do not exist.
    """
    synthesizer, _, _ = _networks_and_training(config)
    _check_pitch(synthesizer.generator, config.pitch.name)
    build_datamodule(config, Path(config.paths.dataset))


def _networks_and_training(
    config: DictConfig, **of_the_dataset: int
) -> tuple[SynthesizerConfig, DiscriminatorConfig, TrainingConfig]:
    """What `config.model` describes. Raises ConfigurationError where it makes no sense."""
    model = plain(config.model)
    networks = {name: model.pop(name) for name in ("synthesizer", "discriminator")}
    synthesizer = SynthesizerConfig.from_dict(networks["synthesizer"] | of_the_dataset)
    discriminator = DiscriminatorConfig.from_dict(networks["discriminator"])
    training = settings(TrainingConfig, "model", model)
    fewest = max(discriminator.fewest_samples, MultiScaleMel.FEWEST_SAMPLES if training.mel_loss != "single" else 1)
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


def voice_facts(config: DictConfig, header: DatasetHeader, dataset: Path) -> dict[str, Any]:
    """What a checkpoint, and the voice exported from it, must remember of the recordings, as plain values."""
    rows = list(read_manifest(dataset))
    return {
        "name": config.name,
        "author": config.author,
        "content": _without_path(header.content),
        "pitch": _without_path(header.pitch),
        "speakers": header.speakers,
        "seconds": sum(row.seconds for row in rows),
        "median_f0_hz": median_f0_hz(dataset, rows),
        "dataset": str(dataset.resolve()),
    }


def _without_path(component: Mapping[str, Any]) -> dict[str, Any]:
    """Name and options without `path`: where files lie concerns this machine alone."""
    return {**component, "options": {k: v for k, v in (component.get("options") or {}).items() if k != "path"}}


def median_f0_hz(dataset: Path, rows: Sequence[ManifestRow], most_rows: int = 500) -> float:
    """Median pitch in Hz of voiced frames, over slices spread evenly; 0 where nothing is voiced."""
    tracks = [np.load(dataset / row.f0) for row in rows[:: max(1, len(rows) // most_rows)]]
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
    try:
        return instantiate(config[setting], **changes)
    except InstantiationException as error:
        raise ConfigurationError(f"{setting}: {error.__cause__ or error}") from error


def build_trainer(config: DictConfig) -> Trainer:
    """Lightning's trainer with the callbacks and the logger of the run.

    Raises:
        ConfigurationError: Lightning refuses a setting, or has no such device.
    """
    callbacks: list[Callback] = [
        make(config.callbacks, name) for name, node in (config.callbacks or {}).items() if node
    ]
    logger = make(config, "logger") if config.logger else False
    keeps = any(isinstance(callback, Checkpoint) for callback in callbacks)
    trainer = make(config, "trainer", callbacks=callbacks, logger=logger, enable_checkpointing=keeps)
    _check_devices(trainer, config)
    return trainer


def _check_devices(trainer: Trainer, config: DictConfig) -> None:
    """Refuses what would fail later, or never end, on several devices. Raises ConfigurationError."""
    if trainer.world_size == 1:
        return
    if config.trainer.strategy == "auto":
        raise ConfigurationError(
            f"trainer.devices={config.trainer.devices} means {trainer.world_size} ranks: add strategy=ddp"
        )
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise ConfigurationError(
            "a sweep cannot use several devices a run: Lightning starts its ranks from the command line, which the "
            "runs of a sweep share; use trainer.devices=1, or start the runs one by one"
        )


def build_predictor(config: DictConfig) -> Trainer:
    """A trainer on the same devices in the same precision, for extracting features: it logs and saves nothing."""
    return make(config, "trainer", callbacks=None, logger=False, enable_checkpointing=False, max_time=None)
