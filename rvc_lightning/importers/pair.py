"""The checkpoints `G_*.pth` and `D_*.pth` of another RVC tool as one of ours (specification 2.1 and 8.2)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning import Trainer
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils.data import DataLoader, TensorDataset

from rvc_lightning.data.manifest import DatasetHeader
from rvc_lightning.errors import VoiceError
from rvc_lightning.io.files import atomic_path
from rvc_lightning.io.pickles import read_pickle
from rvc_lightning.models import Discriminator, DiscriminatorConfig, SynthesizerConfig
from rvc_lightning.models.layers import build_on_meta
from rvc_lightning.pitch.none import NoPitch
from rvc_lightning.training.module import RVCModule, TrainingConfig
from rvc_lightning.training.pretrained import load_strictly, tensors_of
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.layouts import voice_of_checkpoint

log = logging.getLogger(__name__)

_DECIDED_OTHERWISE = ("generator", "content_dim", "speaker_count")
"""Sizes that no setting of the model decides."""


class Pair(NamedTuple):
    """The two files of one epoch, and what they hold."""

    generator_path: Path
    discriminator_path: Path
    generator: dict[str, Any]
    discriminator: dict[str, Any]

    @property
    def epoch(self) -> int:
        """Epochs that were finished."""
        return int(self.generator["iteration"])


def newest_pair(experiment: Path) -> Pair | None:
    """The pair of the latest epoch, by what the files say of themselves and not by their numbers (defect T6).

    Raises:
        VoiceError: A file is damaged or no checkpoint, or the two are not of one epoch.
    """
    paths = sorted(experiment.glob("G_*.pth"))
    if not paths:
        return None
    generator, generator_path = max(((_read(path), path) for path in paths), key=lambda item: item[0]["iteration"])
    discriminator_path = generator_path.with_name("D" + generator_path.name[1:])
    discriminator = _read(discriminator_path)
    if generator["iteration"] != discriminator["iteration"]:
        raise VoiceError(
            f"'{generator_path}' is of epoch {generator['iteration']}, '{discriminator_path.name}' of epoch "
            f"{discriminator['iteration']}: a save was cut short; move the pair away and an older one is taken"
        )
    return Pair(generator_path, discriminator_path, generator, discriminator)


def synthesizer_of(pair: Pair) -> SynthesizerConfig:
    """Sizes of the pair's synthesizer, by its own tensors and the experiment's `config.json`.

    Raises:
        VoiceError: They make none.
    """
    return voice_of_checkpoint(pair.generator_path, pair.generator).config


def sizes_of(blocks: Mapping[str, Any], header: DatasetHeader) -> SynthesizerConfig:
    """Sizes of the synthesizer that an experiment would train, which has no pair yet.

    Args:
        blocks: Its `config.json`.
        header: Of the dataset that was taken over.

    Raises:
        VoiceError: They make none.
    """
    return rvc_format.config_from_list(
        rvc_format.config_of_experiment(blocks),
        content_dim=header.content["dim"],
        vocoder="HiFi-GAN",
        pitch_guided=header.pitch["name"] != NoPitch.name,
        speaker_count=len(header.speakers),
    )


def discriminator_of(pair: Pair) -> tuple[str, DiscriminatorConfig]:
    """The choice of `discriminator=` that the pair's discriminator is.

    Raises:
        VoiceError: It is none that this project knows.
    """
    weights = rvc_format.discriminator_weights_from_file(tensors_of(pair.discriminator, pair.discriminator_path))
    for name, values in _choices("discriminator"):
        sizes = DiscriminatorConfig.from_values(values)
        expected = build_on_meta(partial(Discriminator, sizes)).state_dict()
        if not rvc_format.difference(expected, weights):
            return name, sizes
    raise VoiceError(f"'{pair.discriminator_path}' holds a discriminator of an unknown kind")


def settings_of(synthesizer: SynthesizerConfig) -> list[str]:
    """Overrides of `train` that make the same networks, for the user to go on with."""
    values, texts = asdict(synthesizer), [f"generator={synthesizer.generator}"]
    defaults = dict(_choices("model"))["full"]["synthesizer"]
    for name, choice in _choices("sample_rate"):
        table = choice["synthesizer"]
        if all(values[key] == value for key, value in table.items()):
            texts.insert(0, f"sample_rate={name}")
            defaults |= table
            break
    changed = {key: value for key, value in values.items() if key not in _DECIDED_OTHERWISE and key not in defaults}
    changed |= {key: values[key] for key, value in defaults.items() if values[key] != value}
    return texts + [f"model.synthesizer.{key}={value}".replace(" ", "") for key, value in changed.items()]


def _choices(group: str) -> list[tuple[str, dict[str, Any]]]:
    """Names and values of a configuration group."""
    paths = sorted((path for path in (files("rvc_lightning.conf") / group).iterdir()), key=lambda path: path.name)
    return [
        (path.name.removesuffix(".yaml"), OmegaConf.to_container(OmegaConf.create(path.read_text())))  # type: ignore[misc]
        for path in paths
        if path.name.endswith(".yaml")
    ]


def save_as_checkpoint(
    pair: Pair,
    synthesizer: SynthesizerConfig,
    discriminator: DiscriminatorConfig,
    blocks: Mapping[str, Any],
    voice: Mapping[str, Any],
    path: Path,
) -> None:
    """Writes a checkpoint from which training goes on after the pair's epoch, with its optimizers and learning rate.

    Args:
        pair: What to take over.
        synthesizer: Its sizes.
        discriminator: Its sizes.
        blocks: The experiment's `config.json`.
        voice: What the voice must remember, see `building.voice_facts`.
        path: Of the checkpoint.

    Raises:
        VoiceError: The pair's tensors or optimizers do not fit.
    """
    train = blocks.get("train", {})
    rate = _Rate(
        base=float(pair.generator.get("learning_rate") or train.get("learning_rate") or 1e-4),
        decay=float(train.get("lr_decay", 0.999875)),
    )
    module, trainer = _module_at_rest(synthesizer, discriminator, rate, voice)
    sources = (
        (module.discriminator, pair.discriminator, pair.discriminator_path),
        (module.synthesizer, pair.generator, pair.generator_path),
    )
    n_blocks = len(synthesizer.resblock_kernel_sizes)
    for place, (network, content, source) in enumerate(sources):
        stored = tensors_of(content, source)
        load_strictly(network, rvc_format.weights_from_file(stored, n_blocks), source)
        ours = {rvc_format.name_from_file(name, n_blocks): position for position, name in enumerate(stored)}
        _load_optimizer(trainer.optimizers[place], network, content.get("optimizer"), ours, source)
        _set_rate(trainer, place, rate, pair.epoch)
    _set_progress(trainer, module, pair.epoch)
    with atomic_path(path) as temporary:
        trainer.save_checkpoint(temporary)


class _Rate(NamedTuple):
    """The learning rate of the first epoch, and what each epoch multiplies it with."""

    base: float
    decay: float


def _module_at_rest(
    synthesizer: SynthesizerConfig, discriminator: DiscriminatorConfig, rate: _Rate, voice: Mapping[str, Any]
) -> tuple[RVCModule, Trainer]:
    """A module before its first step, and a trainer that has everything a checkpoint of it holds."""
    losses = dict(_choices("loss"))["rvc"]
    module = RVCModule(
        synthesizer,
        discriminator,
        TrainingConfig(segment_frames=32, n_mels=80, **losses),
        optimizer=partial(AdamW, lr=rate.base, betas=(0.8, 0.99), eps=1e-9),
        scheduler=partial(ExponentialLR, gamma=rate.decay),
        voice=voice,
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    # No epoch is run: this makes the optimizers.
    trainer.fit(module, DataLoader(TensorDataset(torch.zeros(1))))
    return module, trainer


def _read(path: Path) -> dict[str, Any]:
    content = read_pickle(path, "training checkpoint")
    if not isinstance(content.get("iteration"), int) or "model" not in content:
        raise VoiceError(f"'{path}' is no training checkpoint: entries 'model' and 'iteration' are expected")
    return content


def _load_optimizer(
    optimizer: Optimizer, network: nn.Module, saved: Any, positions: Mapping[str, int], path: Path
) -> None:
    """Gives `optimizer` the moments of the tool's AdamW, which counts parameters as the file orders its tensors."""
    if not isinstance(saved, Mapping) or not isinstance(saved.get("state"), Mapping):
        raise VoiceError(
            f"'{path}' has no optimizer to go on with; start from it instead: pretrained=files "
            "pretrained.generator=G.pth pretrained.discriminator=D.pth"
        )
    own = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for number, (name, parameter) in enumerate(network.named_parameters()):
        moments = saved["state"].get(positions[name])
        if moments is None:
            continue
        try:
            if moments["exp_avg"].shape != parameter.shape:
                raise ValueError(f"the moments of {name} have another shape")
            state[number] = {
                "step": torch.as_tensor(moments["step"], dtype=torch.float32),
                "exp_avg": moments["exp_avg"].float(),
                "exp_avg_sq": moments["exp_avg_sq"].float(),
            }
        except (LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise VoiceError(
                f"'{path}' has an optimizer that cannot be gone on with ({error}); start from it by pretrained=files"
            ) from error
    optimizer.load_state_dict({"state": state, "param_groups": own["param_groups"]})


def _set_rate(trainer: Trainer, place: int, rate: _Rate, epoch: int) -> None:
    """The rate after `epoch` epochs, by their number: what the tools make of it differs with torch's version (T5)."""
    present = rate.base * rate.decay**epoch
    for group in trainer.optimizers[place].param_groups:
        group["lr"], group["initial_lr"] = present, rate.base
    scheduler = trainer.lr_scheduler_configs[place].scheduler
    scheduler.load_state_dict(
        scheduler.state_dict() | {"last_epoch": epoch, "_step_count": epoch + 1, "_last_lr": [present]}
    )


def _set_progress(trainer: Trainer, module: RVCModule, epoch: int) -> None:
    """Lets Lightning's loops count on from the pair's epoch and steps."""
    counts = [state["step"] for state in trainer.optimizers[1].state.values()]
    steps = int(max(counts)) if counts else 0
    module.optimizer_steps = steps
    loop = trainer.fit_loop
    for progress, count in (
        (loop.epoch_progress.current, epoch),
        (loop.epoch_progress.total, epoch),
        (loop.epoch_loop.batch_progress.total, steps),
    ):
        progress.ready = progress.started = progress.processed = progress.completed = count  # type: ignore[attr-defined]
    loop.epoch_loop._batches_that_stepped = steps
    # One optimizer step of each network.
    optimizer_progress = loop.epoch_loop.manual_optimization.optim_step_progress
    optimizer_progress.total.ready = optimizer_progress.total.completed = 2 * steps
