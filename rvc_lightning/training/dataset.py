"""Prepare the recordings that a configuration names, or preview their preparation."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from lightning import Trainer
from omegaconf import DictConfig, OmegaConf

from rvc_lightning.cli.resolvers import user_path
from rvc_lightning.cli.resume import typed_overrides
from rvc_lightning.config.options import Settings, option
from rvc_lightning.config.values import plain
from rvc_lightning.data.features import ExtractionConfig
from rvc_lightning.data.manifest import HEADER_NAME, DatasetHeader
from rvc_lightning.data.preparation import prepare
from rvc_lightning.data.preview import Preview, preview
from rvc_lightning.data.recipe import Recipe
from rvc_lightning.data.selection import SelectionConfig
from rvc_lightning.data.slicing import SlicingConfig
from rvc_lightning.errors import DatasetError
from rvc_lightning.models import SynthesizerConfig
from rvc_lightning.separation import build_separator
from rvc_lightning.separation.store import PartStore
from rvc_lightning.training.trainer import build_preparing_trainer, build_separating_fabric
from rvc_lightning.voice.rvc_format import CONTENT_DIMS

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SourceSettings(Settings):
    """Recordings of a run."""

    audio: str | None


@dataclass(frozen=True, kw_only=True)
class DatasetPaths(Settings, group="paths"):
    """Place of the prepared recordings."""

    dataset: str = option(help="the folder of the prepared recordings")


def prepare_dataset(config: DictConfig, trainer: Trainer | None = None) -> Path:
    """Prepare the recordings of `config.audio`; finished work of an earlier run is kept.

    Args:
        config: Configuration of the command.
        trainer: Trainer of the run, which prepares as well where it can, see `build_preparing_trainer`.

    Returns:
        Folder of the prepared dataset.

    Raises:
        DatasetError: No recording is usable, or no recordings are named and nothing is prepared.
    """
    folder = Path(DatasetPaths.from_config(config.paths).dataset)
    audio = SourceSettings.from_config(config).audio
    if audio is None:
        if not (folder / HEADER_NAME).exists():
            raise DatasetError(
                f"'{folder}' is not a prepared dataset: type audio=FOLDER, the recordings to train on, or "
                "+experiment=quickstart for a first voice from the recordings that ship"
            )
        return folder
    started = perf_counter()
    trainer = build_preparing_trainer(config, trainer)
    if trainer.is_global_zero:
        log.info("Preparing '%s'", audio)
    with _without_loggers(trainer):
        report = prepare(
            Path(user_path(audio)),
            folder,
            recipe_of(config),
            trainer=trainer,
            extraction=extraction_of(config),
            parts=_parts_of(config) if trainer.is_global_zero else None,
        )
    if report is not None:
        log.info("%s", report.summary())
        log.info("Prepared in %.0f s: '%s'", perf_counter() - started, folder)
    return folder


def _parts_of(config: DictConfig) -> PartStore | None:
    """Return the separated parts of recordings; None if whole recordings are used. Raises ConfigurationError."""
    if config.slicing.separate == "none":
        return None
    separator = build_separator(build_separating_fabric(config), **plain(config.separator))
    return PartStore(separator, Path(config.paths.stems))


@contextmanager
def _without_loggers(trainer: Trainer) -> Iterator[None]:
    """Detach the loggers: Lightning writes their files whenever a trainer predicts, also for a run that is rejected."""
    loggers, trainer.loggers = trainer.loggers, []
    try:
        yield
    finally:
        trainer.loggers = loggers


def preview_dataset(config: DictConfig) -> Preview:
    """Report what `prepare_dataset` would do, without writing anything.

    Raises:
        DatasetError: The recordings do not exist.
        ConfigurationError: Settings contradict each other.
    """
    result = preview(
        Path(user_path(config.audio)),
        Path(DatasetPaths.from_config(config.paths).dataset),
        recipe_of(config),
        content_dim=content_dim_of(config),
        precision=config.preparation.precision,
    )
    log.info("%s", result.summary())
    return result


def recipe_of(config: DictConfig) -> Recipe:
    """Return how recordings become a dataset. Raises ConfigurationError."""
    selection = OmegaConf.masked_copy(config, ["speakers", "include", "exclude"])
    return Recipe(
        sample_rate=config.model.synthesizer.sample_rate,
        pitch=plain(config.pitch),
        content=plain(config.content),
        slicing=SlicingConfig.from_values(config.slicing),
        content_speeds=plain(config.preparation)["content_speeds"],
        separator=plain(config.separator),
        selection=SelectionConfig.from_values(plain(selection)),
    )


def extraction_of(config: DictConfig) -> ExtractionConfig:
    """Return how slices are batched for the networks. Raises ConfigurationError."""
    return ExtractionConfig.from_values(
        {
            "num_workers": config.prepare_workers,
            "batch_seconds": config.preparation.batch_seconds,
            "batch_slices": config.preparation.batch_slices,
        }
    )


def content_dim_of(config: DictConfig) -> int:
    """Return the channels of the content that `config.content` produces, without loading the encoder."""
    return CONTENT_DIMS.get(config.content.get("version"), SynthesizerConfig.content_dim)


def check_prepared(header: DatasetHeader, config: DictConfig) -> None:
    """Check that a dataset has the sampling rate of the model, and was prepared with the extractors of this run.

    Without recordings, the extractors of the dataset are used, unless the command line names others. With recordings,
    another run may have prepared the dataset differently in the meantime.

    Raises:
        DatasetError: The dataset was prepared differently.
    """
    typed = {text.partition("=")[0] for text in typed_overrides()}
    rate = config.model.synthesizer.sample_rate
    compared: dict[str, tuple[Any, Any]] = {"sample_rate": (header.sample_rate, rate)}
    for part, prepared in (("pitch", header.pitch.get("name")), ("content", header.content.get("name"))):
        if config.audio is not None or part in typed:
            compared[part] = prepared, config[part]["name"]
    for part, (prepared, requested) in compared.items():
        if prepared != requested:
            raise DatasetError(
                f"'{config.paths.dataset}' was prepared with {part}={prepared}, not {part}={requested}. Use the former"
                ", or prepare the recordings again with audio=FOLDER; concurrent runs need separate datasets: "
                "paths.dataset=FOLDER"
            )
