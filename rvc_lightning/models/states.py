"""Compare state dicts, and find tensors in them with values that are not finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def state_difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], limit: int = 5) -> str:
    """Describe why `found` cannot be loaded in place of `expected`.

    Args:
        expected: State dict of a network.
        found: Tensors under the names of the same network.
        limit: Number of names to list of each kind.

    Returns:
        The first missing, unexpected and misshapen names; '' if names and shapes are equal.
    """
    misshapen = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    problems = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "of another shape": misshapen,
    }
    return "; ".join(f"{len(names)} {problem}: {_first(names, limit)}" for problem, names in problems.items() if names)


def nonfinite_names(weights: Mapping[str, Tensor], limit: int = 5) -> str:
    """Return the first names of tensors that contain NaN or infinity; '' if there are none."""
    # A sum is finite only if all terms are; in float32, terms in half precision do not overflow it.
    names = [name for name, tensor in weights.items() if not tensor.sum(dtype=torch.float32).isfinite()]
    return _first(names, limit)


def _first(names: Sequence[str], limit: int) -> str:
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")
