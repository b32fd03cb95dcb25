"""The networks of a voice without values: what a file's tensors are compared with, and then put into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
_LEAST_VALUES = 1000
"""What a tensor counts at least, so that countless tiny ones come to an end as well."""


def empty_synthesizer(config: SynthesizerConfig, stored_values: int) -> Synthesizer:
    """The networks for conversion with weights of arbitrary value; the values of buffers are right.

    Nothing is drawn, and nothing is computed or written where the weights will be, so that this takes a tenth of a
    second and hardly any memory. (On torch's meta device it would take a second, for most of the compiler is imported
    for it, and buffers would have no values.)

    Args:
        config: The sizes.
        stored_values: Numbers in the file. Networks of many more are refused while they are built.

    Raises:
        VoiceError: The sizes make no network, or one that is far larger than the file.
    """
    try:
        with _WithoutValues(2 * stored_values + _SPARE_VALUES):
            synthesizer = Synthesizer(config)
    except (RuntimeError, TypeError, ValueError, ArithmeticError, MemoryError) as error:
        raise VoiceError(f"its configuration makes no network: {error}") from error
    synthesizer.posterior_encoder = None
    return synthesizer


class _WithoutValues(TorchFunctionMode):
    """While it is entered, new weights are neither drawn nor written, and there may be only so many of them."""

    def __init__(self, most_values: int) -> None:
        super().__init__()
        self._values_left = most_values

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
        values = 1
        for size in shape:
            values *= size
        self._values_left -= max(values, _LEAST_VALUES)
        if self._values_left < 0:
            raise ValueError("it asks for far more values than the file holds")
