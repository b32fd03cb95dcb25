"""Content of the files of networks that ship: sizes and weights."""

from __future__ import annotations

from typing import Any

from torch import nn


def to_file(network: nn.Module) -> dict[str, Any]:
    """Return the sizes in `network.config` and the weights as plain values, floating-point ones in half precision."""
    weights = {
        name: (weight.half() if weight.is_floating_point() else weight).cpu().contiguous()
        for name, weight in network.state_dict().items()
    }
    return {"config": vars(network.config), "weights": weights}
