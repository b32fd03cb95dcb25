"""Memory of training: activation checkpointing, and advice when memory runs out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from torch import nn
from torch.utils.checkpoint import checkpoint

from rvc_lightning.audio.frames import FRAMES_PER_SECOND
from rvc_lightning.data.batch import Batch
from rvc_lightning.errors import OutOfMemoryError
from rvc_lightning.models import Discriminator, Synthesizer
from rvc_lightning.models.generators.hifigan import ParallelBlocks
from rvc_lightning.models.layers import WaveNet
from rvc_lightning.models.memory import is_out_of_memory
from rvc_lightning.models.text_encoder import Transformer

R = TypeVar("R")
Module = TypeVar("Module")
Batches = TypeVar("Batches", Batch, Sequence[Batch])


def checkpoint_activations(synthesizer: Synthesizer, discriminator: Discriminator, parts: str) -> None:
    """Recompute activations of parts of the networks in the backward pass instead of storing them.

    Non-reentrant and with the same random state, so gradients are the same (Chen et al. 2016).

    Args:
        synthesizer: Network of which each block of residual convolutions of the generator is a part.
        discriminator: Network of which each sub-discriminator is a part.
        parts: 'none', 'generator' or 'all'.
    """
    units: list[nn.Module] = []
    if parts != "none":
        units += _generator_blocks(synthesizer.generator)
    if parts == "all":
        units += [module for module in synthesizer.modules() if isinstance(module, WaveNet | Transformer)]
        units += discriminator.discriminators
    for unit in units:
        # Copying a network rebinds a partial of a bound method to the copy.
        unit.forward = functools.partial(checkpoint, unit.forward, use_reentrant=False)


def _generator_blocks(generator: nn.Module) -> Iterator[nn.Module]:
    for module in generator.modules():
        if isinstance(module, ParallelBlocks):
            yield from module


def advise_out_of_memory(step: Callable[[Module, Batches, int], R]) -> Callable[[Module, Batches, int], R]:
    """Decorate a step so that it raises OutOfMemoryError, with the batch and the settings to change.

    Args:
        step: Method with a batch, or the batches of an optimizer step, and its number as arguments.
    """

    @functools.wraps(step)
    def decorated(self: Module, batches: Batches, batch_idx: int) -> R:
        try:
            return step(self, batches, batch_idx)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError(_advice([batches] if isinstance(batches, Batch) else batches, error)) from error

    return decorated


def _advice(batches: Sequence[Batch], error: RuntimeError) -> str:
    largest = max(batches, key=lambda batch: batch.f0_hz.numel())
    n_items, frames = largest.f0_hz.shape
    return (
        f"memory ran out for a batch of {n_items} slices of up to {frames} frames ({frames / FRAMES_PER_SECOND:.1f} s)"
        f": {str(error).splitlines()[0]} Change one of these: data.batch_size={max(1, n_items // 2)}, with "
        f"model.accumulate_grad_batches={2 * len(batches)} for the same steps; model.checkpoint_activations=all, which "
        f"takes less memory and more time; model.crop_frames=100, which uses one second of each slice. Earlier "
        "checkpoints are kept"
    )
