"""Checks of a checkpoint before training resumes from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn

from rvc_lightning.errors import VoiceError
from rvc_lightning.models.states import state_difference
from rvc_lightning.training.checkpoints import CHECKPOINT_KEY
from rvc_lightning.training.lightning_adapter import callbacks_of, loop_state
from rvc_lightning.training.module import RVCModule

_RESTORED = ("optimizer.betas", "optimizer.eps", "optimizer.weight_decay", "scheduler.gamma")
"""Settings that are restored from a checkpoint."""
_ALTERED = (KeyError, IndexError, TypeError, AttributeError, ValueError)


def without_values(content: Any) -> Any:
    """Return nested dicts and lists with tensors on the meta device: their shapes take no memory."""
    if isinstance(content, Tensor):
        return torch.empty_like(content, device="meta")
    if isinstance(content, Mapping):
        return {key: without_values(value) for key, value in content.items()}
    return [without_values(value) for value in content] if isinstance(content, list | tuple) else content


def check_resumable(path: Path, content: Mapping[str, Any], module: RVCModule, trainer: Trainer) -> None:
    """Check that training can resume from a checkpoint, before anything is changed or written.

    Args:
        path: File of the checkpoint.
        content: Its content, see `read_checkpoint` and `without_values`.
        module: Module that is to be trained.
        trainer: Trainer of the run.

    Raises:
        VoiceError: The networks of the checkpoint have other sizes, an entry is missing or altered, or the run has
            trained more epochs than the trainer's limit.
    """
    problem = _other_sizes(content, module)
    problem = problem or state_difference(module.state_dict(), content["state_dict"], limit=3)
    problem = problem or _altered(content, module, trainer) or _other_groups(content, module)
    done, limit = content["epoch"], trainer.max_epochs
    if not problem and limit is not None and -1 < limit < done:
        problem = f"it has completed {done} epochs, and trainer.max_epochs={limit}: choose more, or -1 for no limit"
    if problem:
        raise VoiceError(f"training cannot resume from '{path}': {problem}")


def ignored_settings(content: Mapping[str, Any], module: RVCModule) -> str:
    """Describe settings of optimizer and schedule in place of which Lightning restores those of a checkpoint.

    Args:
        content: Content of the checkpoint, see `check_resumable`.
        module: Module that is to be trained.

    Returns:
        Such as 'optimizer.weight_decay was 0.01, is 0.05'; '' if none differ.
    """
    configured: Any = module.configure_optimizers()[-1]
    group, schedule = configured["optimizer"].param_groups[0], configured["lr_scheduler"]["scheduler"].state_dict()
    # Their names are unique; lists replace tuples, as in `content`.
    current = without_values({**schedule, **group})
    saved = {**content["lr_schedulers"][-1], **content["optimizer_states"][-1]["param_groups"][0]}
    return ", ".join(
        f"{name} was {saved.get(key)}, is {current.get(key)}"
        for name, key in ((name, name.partition(".")[2]) for name in _RESTORED)
        if current.get(key) != saved.get(key)
    )


def _other_sizes(content: Mapping[str, Any], module: RVCModule) -> str:
    """Describe which sizes of the networks differ; '' if none do."""
    for name, config in (("synthesizer", module.synthesizer.config), ("discriminator", module.discriminator.config)):
        saved, current = asdict(type(config).from_values(content[CHECKPOINT_KEY][name])), asdict(config)
        if changed := [f"{key} was {saved[key]}, is {current[key]}" for key in saved if saved[key] != current[key]]:
            return f"its {name} has other sizes: {', '.join(changed)}; resume with the same settings"
    return ""


def _other_groups(content: Mapping[str, Any], module: RVCModule) -> str:
    """Describe a difference in `model.speaker_lr`, which divides the parameters into groups; '' if there is none."""
    was_separate = len(content["optimizer_states"][1]["param_groups"]) > 1
    if was_separate == (module.training_config.speaker_lr is not None):
        return ""
    if was_separate:
        return "it was trained with model.speaker_lr: add model.speaker_lr=0.02, or another number"
    return "it was trained without model.speaker_lr: add model.speaker_lr=null"


def _altered(content: Mapping[str, Any], module: RVCModule, trainer: Trainer) -> str:
    """Describe the first entry that Lightning cannot restore; '' if it can restore all."""
    networks = (module.discriminator, module.synthesizer)
    expected = {
        "optimizer_states": [{} for _ in networks],
        "lr_schedulers": [{} for _ in networks],
        "loops": {"fit_loop": loop_state(trainer)},
        "callbacks": {
            callback.state_key: callback.state_dict() if isinstance(callback, ModelCheckpoint) else {}
            for callback in callbacks_of(trainer, Callback)
            if callback.state_key in content.get("callbacks", ())
        },
        "pytorch-lightning_version": "",
    }
    for name, entry in expected.items():
        try:
            matches = _same_structure(entry, content[name])
            if matches and name == "optimizer_states":
                matches = all(map(_optimizer_matches, networks, content[name]))
        except _ALTERED:
            matches = False
        if not matches:
            return f"its entry '{name}' is missing, altered, or that of another training"
    return ""


def _same_structure(expected: Any, found: Any) -> bool:
    """Return whether nested dicts and lists have all expected keys, with values of the same types."""
    if isinstance(expected, Mapping):
        return isinstance(found, Mapping) and all(_same_structure(value, found[key]) for key, value in expected.items())
    if isinstance(expected, list):
        return len(expected) == len(found) and all(map(_same_structure, expected, found))
    return expected is None or type(found) is type(expected)


def _optimizer_matches(network: nn.Module, state: Mapping[str, Any]) -> bool:
    """Return whether the state of an optimizer has the shapes of the parameters of a network."""
    shapes = [parameter.shape for parameter in network.parameters()]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    return sorted(numbers) == list(range(len(shapes))) and all(
        value.shape in (torch.Size([]), shapes[number])
        for number, values in state["state"].items()
        for value in values.values()
        if isinstance(value, Tensor)
    )
