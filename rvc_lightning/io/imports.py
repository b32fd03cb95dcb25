"""Imports of modules that numba compiles."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from filelock import FileLock

from rvc_lightning.io.processes import IS_WINDOWS


@cache
def import_compiled(name: str) -> ModuleType:
    """Import a module with functions that numba compiles, such as librosa's, in one process of this user at a time.

    numba caches compiled functions without a lock. Processes that compile at the same time, such as two ranks after the
    installation, assign one file to two functions; all later processes then crash in pYIN (seen in numba 0.68).
    """
    # On Windows, each user has a separate temporary folder.
    user = "" if IS_WINDOWS else f"-{os.getuid()}"
    with FileLock(Path(tempfile.gettempdir(), f"rvc_lightning-compiling{user}.lock")):
        return import_module(name)
