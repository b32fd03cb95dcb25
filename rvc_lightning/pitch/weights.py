"""Weights of pitch networks: where they lie, and loading them strictly."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from rvc_lightning.errors import AssetError, ConfigurationError, VoiceError
from rvc_lightning.io.pickles import read_pickle

Network = TypeVar("Network", bound=nn.Module)


def packaged_file(package: str, file: str) -> Path | None:
    """A file inside an installed package, which is not imported; None where the package or the file is not there.

    Args:
        package: A top-level package: finding a deeper one would import those above it.
        file: Its path inside.
    """
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    return next((path for folder in folders or () if (path := Path(folder) / file).is_file()), None)


def read_weights(path: str | Path) -> dict[str, Any]:
    """What `torch.save` wrote to a file, without running any code. Raises AssetError if it cannot be read."""
    try:
        return read_pickle(Path(path).expanduser(), "pitch network")
    except VoiceError as error:
        raise AssetError(f"pitch: {error}") from error


def fill(network: Network, weights: Mapping[str, Any], path: str | Path) -> Network:
    """Gives a network, made without values, the weights of a file, as float32 and fixed.

    Args:
        network: As it should be.
        weights: By the network's own names.
        path: Where they come from, for the message.

    Raises:
        AssetError: A tensor is missing, left over or of another shape.
    """
    expected = network.state_dict()
    wrong = sorted(
        name for name in expected.keys() | weights.keys() if _shape(expected.get(name)) != _shape(weights.get(name))
    )
    if wrong:
        raise AssetError(
            f"pitch: '{path}' does not hold the network that is expected: {len(wrong)} tensors are missing, left over "
            f"or of another shape ({', '.join(wrong[:5])})"
        )
    network.load_state_dict(weights, assign=True)
    return network.float().requires_grad_(False)


def size_in(weights: Mapping[str, Any], name: str, dimension: int, path: str | Path) -> int:
    """A size that the file decides. Raises AssetError where it holds no such tensor."""
    shape = _shape(weights.get(name))
    if shape is None or len(shape) <= dimension:
        raise AssetError(f"pitch: '{path}' does not hold the network that is expected: it has no tensor '{name}'")
    return shape[dimension]


def check_threshold(threshold: float) -> None:
    """Refuses what no salience can reach. Raises ConfigurationError."""
    if not 0 <= threshold < 1:
        raise ConfigurationError(f"pitch: threshold {threshold} must lie between 0 and 1")


def _shape(value: Any) -> torch.Size | None:
    return value.shape if isinstance(value, Tensor) else None
