"""Registry of separators.

To add one, write a file with a `Separator`, and add a line to `SEPARATORS` and a YAML file to `conf/separator/`.
"""

from __future__ import annotations

from typing import Any

from lightning import Fabric

from rvc_lightning.config.registry import build
from rvc_lightning.separation.base import Separator
from rvc_lightning.separation.pymss import PymssSeparator

SEPARATORS: dict[str, type[Separator]] = {separator.name: separator for separator in (PymssSeparator,)}


def build_separator(fabric: Fabric, name: str, **options: Any) -> Separator:
    """Build a separator; it loads its models when it needs them.

    Args:
        fabric: Device of the networks.
        name: Key of `SEPARATORS`.
        options: Other arguments of its constructor.

    Raises:
        ConfigurationError: The name or an option is unknown, or a package is missing.
    """
    return build("separator", SEPARATORS, name, {"fabric": fabric, **options})
