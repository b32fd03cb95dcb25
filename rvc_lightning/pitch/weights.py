"""Find and load the weights of pitch networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from rvc_lightning.errors import AssetError, VoiceError, one_line
from rvc_lightning.io.names import home_path
from rvc_lightning.io.pickles import read_pickle
from rvc_lightning.models.layers import build_on_meta

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


def load_network(
    path: str | Path,
    rename: Callable[[Mapping[str, Any]], dict[str, Any]],
    build: Callable[[Mapping[str, Any]], Network],
) -> Network:
    """Load a network with the sizes of its file, as float32 and without gradients, without running code of the file.

    Args:
        path: File of `torch.save`.
        rename: Maps the contents of the file to tensors by the names of the network.
        build: Builds the network for these tensors.

    Raises:
        AssetError: The file cannot be read, or tensors are missing, unexpected or of the wrong shape.
    """
    try:
        weights = rename(read_pickle(home_path(path), "pitch network"))
        network = build_on_meta(partial(build, weights))
        network.load_state_dict(weights, assign=True)
    except (VoiceError, LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        # torch lists missing and unexpected tensors on several lines.
        raise AssetError(
            f"pitch.path={path} does not contain the weights of this network: {one_line(error)}"
        ) from error
    return network.float().requires_grad_(False)
