"""Speed of the stages of preparation: `python -m rvc_lightning.benchmark measure=preparation`.

By default the recordings of the demo are prepared. The content encoder is HuBERT, by default of the usual size, with
random weights: their values do not affect the speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from transformers import HubertConfig, HubertModel

from rvc_lightning.config.values import plain
from rvc_lightning.data.preparation import prepare
from rvc_lightning.data.recipe import Recipe
from rvc_lightning.data.selection import SelectionConfig
from rvc_lightning.data.slicing import SlicingConfig
from rvc_lightning.training.dataset import extraction_of
from rvc_lightning.training.trainer import build_preparing_trainer, set_up_torch

STAGES = ("slicing", "pitch", "content")


class PreparationSetup(NamedTuple):
    """A row of the table."""

    precision: str
    batch_slices: int


def run(config: DictConfig) -> str:
    """Measure preparation; return a table in Markdown."""
    return as_table(measure(config))


def measure(config: DictConfig) -> dict[PreparationSetup, dict[str, list[float]]]:
    """Return the speed of each stage in seconds of audio per second, by setup and round; the setups alternate."""
    set_up_torch(config)
    table = config.preparation_table
    setups = [PreparationSetup(*row) for row in product(table.precision, table.batch_slices)]
    results: dict[PreparationSetup, dict[str, list[float]]] = {s: {stage: [] for stage in STAGES} for s in setups}
    with TemporaryDirectory() as folder:
        encoder = Path(folder) / "encoder"
        torch.manual_seed(config.seed)
        HubertModel(HubertConfig(**plain(config.encoder))).save_pretrained(encoder)
        for number in range(config.rounds):
            for setup in setups:
                speeds = _prepare(config, setup, encoder, Path(folder) / f"{number}-{setup.precision}-{setup[1]}")
                for stage in STAGES:
                    results[setup][stage].append(speeds[stage])
    return results


def _prepare(config: DictConfig, setup: PreparationSetup, encoder: Path, output: Path) -> dict[str, float]:
    """Prepare the recordings in an empty folder; return the speed of each stage."""
    row_config = OmegaConf.merge(config, {"preparation": setup._asdict()})
    assert isinstance(row_config, DictConfig)
    recipe = Recipe(
        sample_rate=config.model.synthesizer.sample_rate,
        pitch=plain(config.pitch),
        content={"name": "hubert", "path": str(encoder)},
        slicing=SlicingConfig.from_values(config.slicing),
        selection=SelectionConfig(speakers="one"),
    )
    trainer, extraction = build_preparing_trainer(row_config), extraction_of(row_config)
    report = prepare(Path(config.preparation_table.audio), output, recipe, trainer=trainer, extraction=extraction)
    return {} if report is None else report.speeds


def as_table(results: Mapping[PreparationSetup, Mapping[str, list[Any]]]) -> str:
    """Format the medians in Markdown, in seconds of audio per second; content also relative to the first row."""
    lines = ["| precision | slices per batch | slicing | pitch | content | x first |", "|---|---|---|---|---|---|"]
    first = None
    for setup, stages in results.items():
        slicing, pitch, content = (median(stages[stage]) for stage in STAGES)
        first = first or content
        lines.append(
            f"| {setup.precision} | {setup.batch_slices} | {slicing:.1f} | {pitch:.1f} | {content:.1f} "
            f"| {content / first:.2f} |"
        )
    return "\n".join(lines)
