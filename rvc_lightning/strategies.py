"""Strategies that shard the networks, which are beyond one device's memory or share what optimizers remember.

Each network is sharded by itself. A step runs through both of them, and more than once through the discriminator, so
as one unit the gradients of one network would be taken for complete while the other's are still collected.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

Network = TypeVar("Network", bound=nn.Module)


def shard(module: LightningModule, network: Network) -> Network:
    """`network`, sharded if the strategy of `module` asks for it; to be called within `configure_model`."""
    mesh = module.device_mesh
    if mesh is not None:
        fully_shard(network, mesh=mesh["data_parallel"])
        # Conversion needs the weights in one piece as `forward` does.
        if hasattr(network, "infer"):
            register_fsdp_forward_method(network, "infer")
    return network


def whole(tensor: Tensor) -> Tensor:
    """`tensor` in one piece, where its parts lie on several devices."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


class FullyShardedNetworks(ModelParallelStrategy):
    """FSDP2: weights, gradients and what the optimizers remember are spread over all devices.

    Checkpoints are single files, the same as those of one device, and can be gone on from with any strategy.
    """

    def __init__(self, **options: Any) -> None:
        """`options`: those of `ModelParallelStrategy` that are not about sizes and files."""
        super().__init__(save_distributed_checkpoint=False, tensor_parallel_size=1, **options)

    def setup_environment(self) -> None:
        """Spreads over all devices of all nodes, where Lightning would copy to each node."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:  # type: ignore[override]
        """Inside, gradients are collected and not exchanged."""
        assert self.model is not None
        networks = [module for module in self.model.modules() if isinstance(module, FSDPModule)]
        for network in networks:
            network.set_requires_gradient_sync(False)
        yield
        for network in networks:
            network.set_requires_gradient_sync(True)

    # Lightning numbers the weights of an optimizer as they come in the whole model, every other strategy as they come
    # in the optimizer.

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """What `optimizer` remembers, in one piece; empty on all ranks but the first."""
        assert self.model is not None
        plain = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = get_optimizer_state_dict(self.model, plain, options=options)
        return _renamed(state, {name: number for number, name in enumerate(self._names(plain))}) if state else state

    def load_checkpoint(
        self, checkpoint_path: str | os.PathLike[str], weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Restores networks and optimizers from a checkpoint of any strategy, and gives its content."""
        optimizers, self.optimizers = self.optimizers, []
        checkpoint = super().load_checkpoint(checkpoint_path, weights_only)
        self.optimizers = optimizers
        assert self.model is not None
        for optimizer, state in zip(optimizers, checkpoint["optimizer_states"], strict=True):
            named = _renamed(state, dict(enumerate(self._names(optimizer))))
            options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
            set_optimizer_state_dict(self.model, optimizer, named, options=options)
        return checkpoint

    def _names(self, optimizer: Optimizer) -> list[str]:
        """Names of the weights of `optimizer`, in its order."""
        assert self.model is not None
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def _renamed(state: Mapping[str, Any], names: Mapping[Any, Any]) -> dict[str, Any]:
    """The state of an optimizer with other names for its weights."""
    return {
        "state": {names[key]: values for key, values in state["state"].items()},
        "param_groups": [group | {"params": [names[key] for key in group["params"]]} for group in state["param_groups"]],
    }
