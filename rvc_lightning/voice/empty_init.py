"""Networks with uninitialized weights, to be compared with the tensors of a file and then filled with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rvc_lightning.errors import VoiceError
from rvc_lightning.models import Synthesizer, SynthesizerConfig

_FACTORIES = (torch.empty, torch.zeros, torch.ones)
_INITIALIZERS = (nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_, Tensor.uniform_, Tensor.normal_)
_SPARE_VALUES = 64_000_000
"""Allowed beyond the file's values, for buffers and for the posterior encoder, which is built and then removed."""
_SPARE_TENSORS = 1000


def empty_synthesizer(config: SynthesizerConfig, stored: Mapping[str, Tensor]) -> Synthesizer:
    """Build the networks for conversion with uninitialized weights; buffers have their values.

    Takes 0.1 s and little memory. (The meta device would take 1 s to import parts of the compiler, and leave buffers
    without values.)

    Args:
        config: Sizes of the networks.
        stored: Tensors of the file. Networks of far more values are rejected while they are built.

    Raises:
        ConfigurationError: The generator does not support the sizes.
        VoiceError: The networks would be far larger than the file.
        RuntimeError, TypeError, ValueError, ArithmeticError, MemoryError: The sizes are invalid.
    """
    values = sum(tensor.numel() for tensor in stored.values())
    with _EmptyInit(2 * values + _SPARE_VALUES, 2 * len(stored) + _SPARE_TENSORS):
        synthesizer = Synthesizer(config)
    synthesizer.posterior_encoder = None
    return synthesizer


class _EmptyInit(TorchFunctionMode):
    """While active, new weights are neither initialized nor computed, and their number is limited."""

    def __init__(self, max_values: int, max_tensors: int) -> None:
        super().__init__()
        self._values_left, self._tensors_left = max_values, max_tensors

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _INITIALIZERS:
            return args[0] if args else kwargs["tensor"]
        if func is torch.norm_except_dim:
            return args[0].new_empty(args[0].shape[0], *(1,) * (args[0].dim() - 1))
        if func is torch.randn:
            func = torch.empty
        if func in _FACTORIES:
            self._count(args)
        return func(*args, **kwargs)

    def _count(self, sizes: Sequence[Any]) -> None:
        shape = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], list | tuple) else sizes
        self._values_left -= prod(shape)
        self._tensors_left -= 1
        if min(self._values_left, self._tensors_left) < 0:
            raise VoiceError("its networks would be far larger than the file")
