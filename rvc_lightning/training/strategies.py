"""Fully sharded training: weights, gradients and optimizer states are spread over all devices.

Each network is sharded separately. A training step runs both of them, and the discriminator several times: in one unit,
the gradients of one network would be reduced while those of the other are still accumulated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.strategies.strategy import Strategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from rvc_lightning.training.lightning_adapter import shard_over_all_devices

Network = TypeVar("Network", bound=nn.Module)

_FULL = StateDictOptions(full_state_dict=True)


def shard(module: LightningModule, network: Network) -> Network:
    """Return `network`, sharded if the strategy of `module` shards. Call it in `configure_model`."""
    if module.device_mesh is None:
        return network
    fully_shard(network, mesh=module.device_mesh["data_parallel"])
    if hasattr(network, "infer"):
        register_fsdp_forward_method(network, "infer")
    return network


def full_tensor(tensor: Tensor) -> Tensor:
    """Return `tensor`, gathered from all devices if it is sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


class FSDPStrategy(ModelParallelStrategy):
    """PyTorch's FSDP2 (`torch.distributed.fsdp.fully_shard`) with the checkpoints of one device.

    A checkpoint is one file, which every other strategy can resume, and the reverse. Lightning numbers the parameters
    of a sharded optimizer by their order in the whole module; here they keep their order in the optimizer.
    """

    def __init__(self, **options: Any) -> None:
        """Initialize the strategy; `options` are those of `ModelParallelStrategy` except for sizes and files."""
        super().__init__(save_distributed_checkpoint=False, tensor_parallel_size=1, **options)

    def setup_environment(self) -> None:
        """Shard over the devices of all nodes; Lightning would keep a replica on each node."""
        shard_over_all_devices(self)
        super().setup_environment()

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Accumulate gradients in the block without reducing them over the ranks."""
        networks = [module for module in self._network().modules() if isinstance(module, FSDPModule)]
        for network in networks:
            network.set_requires_gradient_sync(False)
        yield
        for network in networks:
            network.set_requires_gradient_sync(True)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return all weights, gathered on every rank."""
        return get_model_state_dict(self._network(), options=_FULL)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the state of `optimizer`, gathered on every rank."""
        plain = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        state = get_optimizer_state_dict(self._network(), plain, options=_FULL)
        return _rename_parameters(state, {name: number for number, name in enumerate(self._parameter_names(plain))})

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Load networks and optimizers from a checkpoint of any strategy, and return its content."""
        checkpoint = Strategy.load_checkpoint(self, checkpoint_path, weights_only)
        set_model_state_dict(self._network(), checkpoint["state_dict"], options=_FULL)
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=bool(self.optimizers)):
            named = _rename_parameters(state, dict(enumerate(self._parameter_names(optimizer))))
            set_optimizer_state_dict(self._network(), optimizer, named, options=_FULL)
        return checkpoint

    def _network(self) -> nn.Module:
        assert self.model is not None
        return self.model

    def _parameter_names(self, optimizer: Optimizer) -> list[str]:
        """Return the names of the parameters of `optimizer` in its order."""
        names = {parameter: name for name, parameter in self._network().named_parameters()}
        return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def _rename_parameters(state: Mapping[str, Any], names: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the state of an optimizer with new keys for its parameters."""
    return {
        "state": {name: state["state"][key] for key, name in names.items() if key in state["state"]},
        "param_groups": [
            group | {"params": [names[key] for key in group["params"]]} for group in state["param_groups"]
        ],
    }
