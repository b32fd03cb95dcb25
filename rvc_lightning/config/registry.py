"""Building of registered components. Checkpoints and voices store registered names, never Python paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rvc_lightning.errors import ConfigurationError, unknown_choice

T = TypeVar("T")


def build(kind: str, registry: Mapping[str, Callable[..., T]], name: str, options: Mapping[str, Any]) -> T:
    """Build the component registered as `name`.

    Args:
        kind: Kind of component, for messages.
        registry: Constructors by name.
        name: Key of `registry`.
        options: Arguments of the constructor.

    Raises:
        ConfigurationError: The name or an option is unknown, or a value is of the wrong type.
    """
    if name not in registry:
        raise unknown_choice(kind, name, registry)
    try:
        return registry[name](**options)
    except TypeError as error:
        raise ConfigurationError(f"invalid options of {kind} '{name}': {error}") from error
