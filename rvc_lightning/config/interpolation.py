"""Text that OmegaConf must not interpolate: `${oc.env:NAME}` from a visitor would read an environment variable."""

from __future__ import annotations

import re
from typing import Any

from omegaconf import OmegaConf


def escape_interpolations(text: str) -> str:
    """Escape text so that OmegaConf returns it literally."""
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)


def literal(value: Any) -> Any:
    """Resolve nodes of a configuration, and escape the texts in all values."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    if isinstance(value, str):
        return escape_interpolations(value)
    if isinstance(value, dict):
        return {name: literal(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [literal(item) for item in value]
    return value
