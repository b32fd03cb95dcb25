"""Retrieval-based voice conversion (RVC) on PyTorch Lightning: train a voice from recordings, and convert to it.

    from rvc_lightning import ConversionOptions, Voice, VoiceConverter

Names are imported on first use, so that `import rvc_lightning` is fast.
"""

from __future__ import annotations

import os
import sys
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


# OpenMP threads spin while they wait. On a busy machine, small convolutions then take five times as long or more. The
# variables are read when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# Operations that Apple GPUs lack run on the CPU.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
if sys.platform == "darwin":
    # The wheels of torch and faiss bring an OpenMP library each, and the second one would end the process
    # (github.com/faiss-wheels/faiss-wheels/issues/73).
    os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "TRUE")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
