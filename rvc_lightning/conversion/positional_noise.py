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
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_BLOCK_FRAMES = 512


class Position(NamedTuple):
    """Position of a window."""

    seed: str
    """Seed of its recording; any text."""
    frame: int
    """Its first frame."""


class PositionalNoise(TorchFunctionMode):
    """Context in which `torch.randn`, `rand`, `randn_like` and `rand_like` draw for each item by its position.

    Time is the last axis after B whose length is a multiple of T. Tensors without such an axis get the same numbers in
    all windows of a recording.
    """

    def __init__(self, positions: Sequence[Position], frames: int, first_frame: int = 0) -> None:
        """Start counting draws.

        Args:
            positions: Positions of the B items.
            frames: T of the batch, including padding.
            first_frame: First frame of all draws except the first, which is that of the prior; see `Synthesizer.infer`.
        """
        super().__init__()
        self._positions, self._frames, self._first_frame, self._draws = positions, frames, first_frame, 0
        self._functions: dict[Any, Callable[..., Tensor]] = {
            torch.randn: torch.randn,
            torch.rand: torch.rand,
            torch.randn_like: torch.randn,
            torch.rand_like: torch.rand,
        }

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace the functions that draw random numbers; torch calls this for each of its functions."""
        kwargs = kwargs or {}
        if func not in self._functions:
            return func(*args, **kwargs)
        if func in (torch.randn_like, torch.rand_like):
            shape, kwargs = args[0].shape, {"device": args[0].device, "dtype": args[0].dtype} | kwargs
        else:
            shape = torch.Size(args[0] if isinstance(args[0], Sequence) else args)
        items = [self._draw(self._functions[func], position, shape[1:], kwargs) for position in self._positions]
        self._draws += 1
        return torch.stack(items)

    def _draw(
        self, draw: Callable[..., Tensor], position: Position, shape: torch.Size, kwargs: dict[str, Any]
    ) -> Tensor:
        """Draw for one item, whose shape lacks B."""
        skipped = self._first_frame if self._draws else 0
        frames, frame = self._frames - skipped, position.frame + skipped
        time_axes = [axis for axis, size in enumerate(shape) if size % frames == 0]
        if not time_axes:
            return draw(shape, generator=self._generator(position.seed, -1, kwargs), **kwargs)
        first, last = frame // _BLOCK_FRAMES, (frame + frames - 1) // _BLOCK_FRAMES
        time, values_per_frame = time_axes[-1], shape[time_axes[-1]] // frames
        block_shape = torch.Size([*shape[:time], _BLOCK_FRAMES * values_per_frame, *shape[time + 1 :]])
        blocks = [
            draw(block_shape, generator=self._generator(position.seed, number, kwargs), **kwargs)
            for number in range(first, last + 1)
        ]
        offset = (frame - first * _BLOCK_FRAMES) * values_per_frame
        return torch.cat(blocks, dim=time).narrow(time, offset, shape[time])

    def _generator(self, seed: str, block: int, kwargs: dict[str, Any]) -> torch.Generator:
        name = f"{seed} {self._draws} {block}".encode()
        number = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little") >> 1
        return torch.Generator(kwargs.get("device", "cpu")).manual_seed(number)
