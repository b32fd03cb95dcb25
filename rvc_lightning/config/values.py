"""Read single settings of a command and build the objects that a configuration describes."""

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
        ConfigurationError: The object rejects its arguments; the message contains its own.
    """
    try:
        return hydra_instantiate(node, **arguments)
    except InstantiationException as error:
        if isinstance(error.__cause__, RVCError):
            raise error.__cause__ from None
        raise ConfigurationError(f"{name}: {' '.join(str(error.__cause__ or error).split())}") from error


def required(config: DictConfig, key: str, meaning: str) -> str:
    """Return the text of a setting that has no default. Raises ConfigurationError; see `optional`."""
    value = optional(config, key, meaning)
    if value is None:
        raise ConfigurationError(f"{key}=... is missing: {meaning}")
    return value


def optional(config: DictConfig, key: str, meaning: str) -> str | None:
    """Return the text of a setting, or None for null. Numbers are valid text: a folder may be called 2024.

    Args:
        config: Configuration of the command.
        key: Name of the setting.
        meaning: What the setting should contain, for the message.

    Raises:
        ConfigurationError: The setting is empty, or not text.
    """
    value = OmegaConf.select(config, key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise ConfigurationError(f"{key}={value}: expected {meaning}")
    return str(value)


def switch(config: DictConfig, key: str) -> bool:
    """Return a setting that is on or off. Raises ConfigurationError unless it is true or false."""
    if not isinstance(value := OmegaConf.select(config, key), bool):
        raise ConfigurationError(f"{key}={value}: choose true or false")
    return value
