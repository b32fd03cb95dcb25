"""Random numbers of the networks, which a caller can replace.

Networks draw with `randn_like` and `rand` of this module. Inside `drawing_from(source)`, the numbers of this thread
come from the source. Compiled and exported graphs always draw from torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local
from typing import Protocol

import torch
from torch import Tensor


class NoiseSource(Protocol):
    """Source of random numbers."""

    def randn(self, shape: torch.Size, like: Tensor) -> Tensor:
        """Draw from the standard normal distribution, with device and type of `like`."""

    def rand(self, shape: torch.Size, like: Tensor) -> Tensor:
        """Draw uniformly from 0 to 1, with device and type of `like`."""


_active = local()


def _source() -> NoiseSource | None:
    return None if torch.compiler.is_compiling() else getattr(_active, "source", None)


@contextmanager
def drawing_from(source: NoiseSource) -> Iterator[None]:
    """Take the random numbers of the networks in this thread from `source`."""
    previous, _active.source = getattr(_active, "source", None), source
    try:
        yield
    finally:
        _active.source = previous


def randn_like(like: Tensor) -> Tensor:
    """Draw normal numbers with the shape of `like`: [B, ...] -> [B, ...]."""
    source = _source()
    return torch.randn_like(like) if source is None else source.randn(like.shape, like)


def rand(*shape: int, like: Tensor) -> Tensor:
    """Draw uniform numbers, `shape` = [B, ...], with device and type of `like`."""
    source = _source()
    if source is None:
        return torch.rand(*shape, device=like.device, dtype=like.dtype)
    return source.rand(torch.Size(shape), like)
