"""Locating and strict loading of the weights of pitch networks."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from rvc_lightning.errors import AssetError, VoiceError
from rvc_lightning.io.pickles import read_pickle

Network = TypeVar("Network", bound=nn.Module)


def packaged_file(package: str, file: str) -> Path | None:
    """Find a file of an installed package without importing it; None if the package or the file is missing.

    Args:
        package: Name of a top-level package; finding a subpackage would import its parents.
        file: Path inside the package.
    """
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    return next((path for folder in folders or () if (path := Path(folder) / file).is_file()), None)


def read_weights(path: str | Path) -> dict[str, Any]:
    """Read a file of `torch.save` without running code in it. Raises AssetError if it cannot be read."""
    try:
        return read_pickle(Path(path).expanduser(), "pitch network")
    except VoiceError as error:
        raise AssetError(f"pitch.path: {error}") from error


def fill(network: Network, weights: Mapping[str, Any], path: str | Path) -> Network:
    """Load weights into a network that was built on the meta device, as float32 and without gradients.

    Args:
        network: Network to fill.
        weights: Tensors by the names of the network.
        path: File of the weights, for messages.

    Returns:
        The network.

    Raises:
        AssetError: Tensors are missing, unexpected or of the wrong shape.
    """
    expected = network.state_dict()
    wrong = sorted(
        name for name in expected.keys() | weights.keys() if _shape(expected.get(name)) != _shape(weights.get(name))
    )
    if wrong:
        raise AssetError(
            f"pitch.path: '{path}' contains another network: {len(wrong)} tensors are missing, unexpected or of the "
            f"wrong shape ({', '.join(wrong[:5])})"
        )
    network.load_state_dict(weights, assign=True)
    return network.float().requires_grad_(False)


def size_in(weights: Mapping[str, Any], name: str, dimension: int, path: str | Path) -> int:
    """Return a dimension of the tensor `name`. Raises AssetError if there is no such tensor."""
    shape = _shape(weights.get(name))
    if shape is None or len(shape) <= dimension:
        raise AssetError(f"pitch.path: '{path}' contains another network: it has no tensor '{name}'")
    return shape[dimension]


def _shape(value: Any) -> torch.Size | None:
    return value.shape if isinstance(value, Tensor) else None
