"""Components by name: what a checkpoint or a voice must remember is a name, never a Python path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rvc_lightning.errors import ConfigurationError, unknown_choice

T = TypeVar("T")


def build(kind: str, registry: Mapping[str, Callable[..., T]], name: str, options: Mapping[str, Any]) -> T:
    """The component registered as `name`, made with `options`.

    Args:
        kind: What it is, for messages.
        registry: Constructors by name.
        name: A key of `registry`.
        options: What its constructor takes.

    Raises:
        ConfigurationError: There is no such name or option, or it refuses a value.
    """
    if name not in registry:
        raise unknown_choice(kind, name, registry)
    try:
        return registry[name](**options)
    except TypeError as error:
        raise ConfigurationError(f"{kind} '{name}' does not take these options: {error}") from error
