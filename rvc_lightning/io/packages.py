"""Packages of extras, which are imported when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from rvc_lightning.errors import ConfigurationError


def import_extra(module: str, extra: str, user: str, package: str | None = None) -> ModuleType:
    """Import a module of an extra.

    Args:
        module: Name of the module.
        extra: Extra of this package that installs it.
        user: What requires it, for the error message, such as `tts=piper`.
        package: Name of its package, if it differs from that of the module.

    Raises:
        ConfigurationError: It cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f'{user} requires the package {package or module} ({error}): pip install "rvc-lightning[{extra}]"'
        ) from error
