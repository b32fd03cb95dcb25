"""Strategies that shard the networks: weights, gradients and what the optimizers remember are spread over all devices.

Each network is sharded by itself. A step runs through both of them, and more than once through the discriminator, so
as one unit the gradients of one network would be taken for complete while the other's are still collected.

Checkpoints are the same single files as those of one device, and any strategy goes on from any of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy, ParallelStrategy
from lightning.pytorch.strategies.strategy import Strategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import (
    FSDPModule,
    FullyShardedDataParallel,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.fsdp.wrap import enable_wrap, wrap
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

Network = TypeVar("Network", bound=nn.Module)

# What FSDP puts into the names of weights, and takes out again where they are saved.
_WRAPPED = "_fsdp_wrapped_module."


def shard(module: LightningModule, network: Network) -> Network:
    """`network`, sharded if the strategy of `module` asks for it; to be called within `configure_model`."""
    mesh = module.device_mesh
    if mesh is None:
        # Changes nothing but within the context of `FlatlyShardedNetworks`.
        return wrap(network)  # type: ignore[return-value]
    fully_shard(network, mesh=mesh["data_parallel"])
    if hasattr(network, "infer"):
        register_fsdp_forward_method(network, "infer")
    return network


def whole(tensor: Tensor) -> Tensor:
    """`tensor` in one piece, where its parts lie on several devices."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


class _SingleFiles(ParallelStrategy):
    """Checkpoints in the format of one device.

    Lightning numbers the weights of a sharded optimizer as they come in the whole model; every other strategy numbers
    them as they come in the optimizer.
    """

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """All weights, in one piece, on every rank."""
        return get_model_state_dict(self._network(), options=StateDictOptions(full_state_dict=True))

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """What `optimizer` remembers, in one piece, on every rank."""
        plain = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        state = get_optimizer_state_dict(self._network(), plain, options=StateDictOptions(full_state_dict=True))
        return _renamed(state, {name: number for number, name in enumerate(self._names(plain))})

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Restores networks and optimizers from a checkpoint of any strategy, and gives its content."""
        checkpoint = Strategy.load_checkpoint(self, checkpoint_path, weights_only)
        options = StateDictOptions(full_state_dict=True)
        set_model_state_dict(self._network(), checkpoint["state_dict"], options=options)
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=bool(self.optimizers)):
            named = _renamed(state, dict(enumerate(self._names(optimizer))))
            set_optimizer_state_dict(self._network(), optimizer, named, options=options)
        return checkpoint

    def _network(self) -> nn.Module:
        assert self.model is not None
        return self.model

    def _names(self, optimizer: Optimizer) -> list[str]:
        """Names of the weights of `optimizer` as they come in it."""
        names = {parameter: name for name, parameter in self._network().named_parameters()}
        ordered = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
        return [name.replace(_WRAPPED, "") for name in ordered]


def _renamed(state: Mapping[str, Any], names: Mapping[Any, Any]) -> dict[str, Any]:
    """The state of an optimizer with other names for its weights."""
    return {
        "state": {name: state["state"][key] for key, name in names.items() if key in state["state"]},
        "param_groups": [
            group | {"params": [names[key] for key in group["params"]]} for group in state["param_groups"]
        ],
    }


class FullyShardedNetworks(_SingleFiles, ModelParallelStrategy):
    """FSDP2, `torch.distributed.fsdp.fully_shard`."""

    def __init__(self, **options: Any) -> None:
        """`options`: those of `ModelParallelStrategy` that are not about sizes and files."""
        super().__init__(save_distributed_checkpoint=False, tensor_parallel_size=1, **options)

    def setup_environment(self) -> None:
        """Spreads over all devices of all nodes, where Lightning would keep a copy on each node."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Inside, gradients are collected and not exchanged."""
        networks = [module for module in self._network().modules() if isinstance(module, FSDPModule)]
        for network in networks:
            network.set_requires_gradient_sync(False)
        yield
        for network in networks:
            network.set_requires_gradient_sync(True)


class _FlatNetwork(FullyShardedDataParallel):
    """A sharded network whose weights are in one piece for `infer` as well."""

    def infer(self, *args: Any, **kwargs: Any) -> Tensor:
        """As the network's own."""
        with self.summon_full_params(self, writeback=False):
            network: Any = self.module
            return network.infer(*args, **kwargs)


class FlatlyShardedNetworks(_SingleFiles, FSDPStrategy):
    """FSDP, `torch.distributed.fsdp.FullyShardedDataParallel`."""

    @contextmanager
    def model_sharded_context(self) -> Iterator[None]:
        """Inside, `wrap` shards a network."""
        with enable_wrap(
            wrapper_cls=_FlatNetwork,
            device_id=self.root_device,
            cpu_offload=self.cpu_offload,
            mixed_precision=self.mixed_precision_config,
            sharding_strategy=self.sharding_strategy,
            **self.kwargs,
        ):
            yield

    def _setup_model(self, model: nn.Module) -> nn.Module:
        # Lightning moves what is sharded and the metrics; spectra have tensors too.
        model.to(self.root_device)
        return super()._setup_model(model)

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Inside, gradients are collected and not exchanged."""
        with ExitStack() as stack:
            for module in self._network().modules():
                if isinstance(module, _FlatNetwork):
                    stack.enter_context(module.no_sync())
            yield
