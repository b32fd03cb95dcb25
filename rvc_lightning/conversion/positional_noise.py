"""Random draws that belong to a place in a recording, whatever else is in the batch and however the recording is cut.

The networks draw for a batch at once. Here each item gets numbers of its own instead, drawn in stretches that lie on a
grid over its recording, each with a seed made of the recording's, of how many draws came before, and of its number:

    recording   |   0   |   1   |   2   |   3   |   4   |     stretches
    window          |<--------------->|                       gets the end of 0, 1, and the start of 2

So windows that overlap get the same numbers where they do, and what they become can be joined.

Legend: B items, T frames of a window, N = T·r values along time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_STRETCH_FRAMES = 512


class Place(NamedTuple):
    """Where a window lies."""

    seed: str
    """Of its recording; any text."""
    frame: int
    """Its first frame."""


class PositionalNoise(TorchFunctionMode):
    """Inside, `torch.randn`, `rand` and the same with `_like` draw for each item of the batch by its place.

    Time is the last axis after B whose length is a multiple of T. Tensors without one get the same numbers in all
    windows of a recording.
    """

    def __init__(self, places: Sequence[Place], frames: int, first_frame: int = 0) -> None:
        """Begins the draws anew.

        Args:
            places: Of the B items.
            frames: T of the batch, padding included.
            first_frame: Where all draws after the first begin, see `Synthesizer.infer`: the first is that of the prior.
        """
        super().__init__()
        self._places, self._frames, self._first_frame, self._draws = places, frames, first_frame, 0
        self._kinds: dict[Any, Callable[..., Tensor]] = {
            torch.randn: torch.randn,
            torch.rand: torch.rand,
            torch.randn_like: torch.randn,
            torch.rand_like: torch.rand,
        }

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """What torch calls for every function inside."""
        kwargs = kwargs or {}
        if func not in self._kinds:
            return func(*args, **kwargs)
        if func in (torch.randn_like, torch.rand_like):
            shape, kwargs = args[0].shape, {"device": args[0].device, "dtype": args[0].dtype} | kwargs
        else:
            shape = torch.Size(args[0] if isinstance(args[0], Sequence) else args)
        items = [self._drawn(self._kinds[func], place, shape[1:], kwargs) for place in self._places]
        self._draws += 1
        return torch.stack(items)

    def _drawn(self, draw: Callable[..., Tensor], place: Place, shape: torch.Size, kwargs: dict[str, Any]) -> Tensor:
        """The numbers of one item, of its shape without B."""
        skipped = self._first_frame if self._draws else 0
        frames, frame = self._frames - skipped, place.frame + skipped
        along = [axis for axis, size in enumerate(shape) if size % frames == 0]
        if not along:
            return draw(shape, generator=self._generator(place.seed, -1, kwargs), **kwargs)
        first, last = frame // _STRETCH_FRAMES, (frame + frames - 1) // _STRETCH_FRAMES
        time, values_a_frame = along[-1], shape[along[-1]] // frames
        stretch = torch.Size([*shape[:time], _STRETCH_FRAMES * values_a_frame, *shape[time + 1 :]])
        stretches = [
            draw(stretch, generator=self._generator(place.seed, number, kwargs), **kwargs)
            for number in range(first, last + 1)
        ]
        before = (frame - first * _STRETCH_FRAMES) * values_a_frame
        return torch.cat(stretches, dim=time).narrow(time, before, shape[time])

    def _generator(self, seed: str, stretch: int, kwargs: dict[str, Any]) -> torch.Generator:
        name = f"{seed} {self._draws} {stretch}".encode()
        number = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little") >> 1
        return torch.Generator(kwargs.get("device", "cpu")).manual_seed(number)
