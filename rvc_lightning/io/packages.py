"""Packages of extras, which only some features require."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.util import find_spec
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
        raise _missing(package or module, str(error), extra, user) from error


def require_extra(packages: Sequence[str], extra: str, user: str) -> None:
    """Check that packages of an extra are installed, without importing them.

    Args:
        packages: Names of the packages and of their modules.
        extra: As in `import_extra`.
        user: As in `import_extra`.

    Raises:
        ConfigurationError: A package is not installed.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise _missing(", ".join(missing), "not installed", extra, user)


def _missing(package: str, reason: str, extra: str, user: str) -> ConfigurationError:
    return ConfigurationError(f'{user} requires the package {package} ({reason}): pip install "rvc-lightning[{extra}]"')
