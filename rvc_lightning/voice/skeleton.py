"""The networks of a voice without values: what a file's tensors are compared with, and then put into."""

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
_DRAWS = (nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_, Tensor.uniform_, Tensor.normal_)
_SPARE_VALUES = 64_000_000
"""For the posterior encoder, which is built although voices leave it out, and for buffers."""
_SPARE_TENSORS = 1000
"""For the same."""


def empty_synthesizer(config: SynthesizerConfig, stored: Mapping[str, Tensor]) -> Synthesizer:
    """The networks for conversion with weights of arbitrary value; the values of buffers are right.

    Nothing is drawn, and nothing is computed or written where the weights will be, so that this takes a tenth of a
    second and hardly any memory. (On torch's meta device it would take a second, for most of the compiler is imported
    for it, and buffers would have no values.)

    Args:
        config: The sizes.
        stored: The tensors of the file. Networks of many more are refused while they are built.

    Raises:
        VoiceError: The sizes make no network, or one that is far larger than the file.
    """
    try:
        values = sum(tensor.numel() for tensor in stored.values())
        with _WithoutValues(2 * values + _SPARE_VALUES, 2 * len(stored) + _SPARE_TENSORS):
            synthesizer = Synthesizer(config)
    except (RuntimeError, TypeError, ValueError, ArithmeticError, MemoryError) as error:
        raise VoiceError(f"its configuration makes no network: {error}") from error
    synthesizer.posterior_encoder = None
    return synthesizer


class _WithoutValues(TorchFunctionMode):
    """While it is entered, new weights are neither drawn nor written, and there may be only so many of them."""

    def __init__(self, most_values: int, most_tensors: int) -> None:
        super().__init__()
        self._values_left, self._tensors_left = most_values, most_tensors

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWS:
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
        if self._values_left < 0 or self._tensors_left < 0:
            raise ValueError("it asks for far more values than the file holds")
