"""Random numbers that depend on the position in a recording, not on the batch or on how the recording is cut.

Networks draw random numbers for a whole batch. Here each item gets its own, drawn in blocks on a grid over its
recording. The seed of a block combines that of the recording, the number of preceding draws, and the block's number:

    recording   |   0   |   1   |   2   |   3   |   4   |     blocks
    window          |<--------------->|                       gets the end of 0, 1, and the start of 2

Overlapping windows thus get the same numbers where they overlap, and their outputs can be joined.

Legend: B items, T frames of a window, N = T·r values along time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_BLOCK_FRAMES = 64


class Position(NamedTuple):
    """Position of a window."""

    seed: str
    """Seed of its recording; any text."""
    frame: int
    """Its first frame."""


class PositionalNoise:
    """Source of random numbers for `models.noise` that draws for each item by its position.

    Time is the last axis after B whose length is a multiple of T. Tensors without such an axis get the same numbers in
    all windows of a recording.
    """

    def __init__(self, positions: Sequence[Position], frames: int, first_frame: int = 0, whole_draws: int = 1) -> None:
        """Start counting draws.

        Args:
            positions: Positions of the B items.
            frames: T of the batch, including padding.
            first_frame: First frame of the draws of the generator; see `Synthesizer.infer`.
            whole_draws: Number of draws before those of the generator, which start at frame 0: one of the prior.
        """
        self._positions, self._frames, self._first_frame = positions, frames, first_frame
        self._whole_draws, self._draws = whole_draws, 0

    def randn(self, shape: torch.Size, like: Tensor) -> Tensor:
        """Draw normal numbers of shape [B, ...]."""
        return self._draw(torch.randn, shape, like)

    def rand(self, shape: torch.Size, like: Tensor) -> Tensor:
        """Draw uniform numbers of shape [B, ...]."""
        return self._draw(torch.rand, shape, like)

    def _draw(self, draw: Callable[..., Tensor], shape: torch.Size, like: Tensor) -> Tensor:
        items = [self._draw_item(draw, position, shape[1:], like) for position in self._positions]
        self._draws += 1
        return torch.stack(items)

    def _draw_item(self, draw: Callable[..., Tensor], position: Position, shape: torch.Size, like: Tensor) -> Tensor:
        """Draw for one item, whose shape lacks B."""
        skipped = self._first_frame if self._draws >= self._whole_draws else 0
        frames, frame = self._frames - skipped, position.frame + skipped
        time_axes = [axis for axis, size in enumerate(shape) if size % frames == 0]
        if not time_axes:
            return self._draw_block(draw, position.seed, -1, shape, like)
        first, last = frame // _BLOCK_FRAMES, (frame + frames - 1) // _BLOCK_FRAMES
        time, values_per_frame = time_axes[-1], shape[time_axes[-1]] // frames
        block_shape = torch.Size([*shape[:time], _BLOCK_FRAMES * values_per_frame, *shape[time + 1 :]])
        blocks = [self._draw_block(draw, position.seed, number, block_shape, like) for number in range(first, last + 1)]
        offset = (frame - first * _BLOCK_FRAMES) * values_per_frame
        return torch.cat(blocks, dim=time).narrow(time, offset, shape[time])

    def _draw_block(
        self, draw: Callable[..., Tensor], seed: str, block: int, shape: torch.Size, like: Tensor
    ) -> Tensor:
        """Draw a block of the grid, or with number -1 the values of a recording."""
        name = f"{seed} {self._draws} {block}".encode()
        number = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little") >> 1
        generator = torch.Generator(like.device).manual_seed(number)
        return draw(shape, generator=generator, device=like.device, dtype=like.dtype)
