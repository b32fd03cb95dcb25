"""Checks of a checkpoint before training resumes from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from rvc_lightning.errors import VoiceError
from rvc_lightning.models.states import state_difference
from rvc_lightning.training.checkpoints import check_complete
from rvc_lightning.training.lightning_adapter import loop_state
from rvc_lightning.training.module import RVCModule

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
        content: Its content, see `without_values`.
        module: Module that is to be trained.
        trainer: Trainer of the run.

    Raises:
        ConfigurationError: The networks of the checkpoint have other sizes.
        VoiceError: An entry is missing or altered.
    """
    check_complete(path, content)
    module.check_sizes(content)
    if difference := state_difference(module.state_dict(), content["state_dict"], limit=3):
        raise VoiceError(f"'{path}' does not match the networks of this run ({difference})")
    for name, check in (
        ("optimizer_states", lambda: _optimizers_match(module, content["optimizer_states"])),
        ("lr_schedulers", lambda: len(content["lr_schedulers"]) == 2 and _are_tables(content["lr_schedulers"])),
        ("loops", lambda: _same_structure(loop_state(trainer), content["loops"]["fit_loop"])),
        ("callbacks", lambda: _callbacks_match(trainer, content["callbacks"])),
        ("global_step", lambda: content["global_step"] >= 0),
        ("pytorch-lightning_version", lambda: content["pytorch-lightning_version"].split(".")),
    ):
        try:
            matches = check()
        except _ALTERED:
            matches = False
        if not matches:
            raise VoiceError(
                f"'{path}' is altered, or not a state of such a training: no run can resume from its entry '{name}'"
            )


def _optimizers_match(module: RVCModule, states: Sequence[Mapping[str, Any]]) -> bool:
    networks = (module.discriminator, module.synthesizer)
    return len(states) == len(networks) and all(map(_optimizer_matches, networks, states))


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


def _same_structure(expected: Any, found: Any) -> bool:
    """Return whether nested dicts have all expected keys, with values of the same types."""
    if isinstance(expected, Mapping):
        return all(_same_structure(value, found[key]) for key, value in expected.items())
    return expected is None or type(found) is type(expected)


def _callbacks_match(trainer: Trainer, states: Mapping[str, Any]) -> bool:
    checkpoints = [one for one in trainer.callbacks if isinstance(one, ModelCheckpoint)]  # type: ignore[attr-defined]
    found = [(one.state_dict().keys(), states[one.state_key].keys()) for one in checkpoints if one.state_key in states]
    return all(expected <= keys for expected, keys in found) and _are_tables(states.values())


def _are_tables(values: Iterable[Any]) -> bool:
    return all(isinstance(value, Mapping) for value in values)
