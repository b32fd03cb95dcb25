"""Convert nodes of a configuration to Python values and objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate as hydra_instantiate
from omegaconf import DictConfig, OmegaConf

from rvc_lightning.errors import ConfigurationError, RVCError


def plain(node: DictConfig) -> dict[str, Any]:
    """Return a configuration node as resolved Python values. Raises ConfigurationError unless it is a table."""
    if not isinstance(node, DictConfig):
        raise ConfigurationError(f"{node}: expected a table of settings, such as {{name:value}}")
    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def instantiate(node: Mapping[str, Any] | DictConfig, name: str, **arguments: Any) -> Any:
    """Build the object that a configuration node describes by its `_target_`.

    Args:
        node: Configuration node.
        name: Name of the node for the message, such as 'trainer' or 'callbacks.last'.
        **arguments: Arguments in addition to those of the node, or in place of them.

    Raises:
        ConfigurationError: The object rejects its arguments; the message includes the reason.
    """
    try:
        return hydra_instantiate(node, **arguments)
    except InstantiationException as error:
        cause = error.__cause__ or error
        message = f"{name}: {' '.join(str(cause).split())}"
        raise cause if isinstance(cause, RVCError) else ConfigurationError(message) from error
