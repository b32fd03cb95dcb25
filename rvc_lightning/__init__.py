"""Retrieval-based voice conversion on PyTorch Lightning: a folder of recordings in, a voice out.

    from rvc_lightning import ConversionOptions, Voice, VoiceConverter

The names are imported when first used, so that `import rvc_lightning` is quick.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rvc_lightning.version import __version__

if TYPE_CHECKING:
    from rvc_lightning.conversion.converter import VoiceConverter
    from rvc_lightning.conversion.options import ConversionOptions
    from rvc_lightning.voice.voice import Voice

__all__ = ["ConversionOptions", "Voice", "VoiceConverter", "__version__"]

_HOMES = {
    "ConversionOptions": "rvc_lightning.conversion.options",
    "Voice": "rvc_lightning.voice.voice",
    "VoiceConverter": "rvc_lightning.conversion.converter",
}


# Threads of torch that wait for one another on a CPU spin for long by default. Where another program wants the core,
# small convolutions then take five times as long and more. It is read when torch is loaded, so it stands here.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
