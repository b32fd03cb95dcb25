"""Untrusted safetensors files: tensors and texts, checked by the library before anything is allocated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from rvc_lightning.errors import VoiceError


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a file, and its metadata, in which texts that are JSON are replaced by their values.

    The tensors are copied, so the file can be changed and deleted.

    Raises:
        VoiceError: The file is missing, damaged, or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as content:
            # The object is not a mapping; its method keys() returns a list.
            tensors = {name: content.get_tensor(name).clone() for name in content.keys()}  # noqa: SIM118
            metadata = content.metadata() or {}
    except (OSError, SafetensorError, RuntimeError, ValueError, MemoryError) as error:
        raise VoiceError(f"'{path}' cannot be read as a safetensors file: {error}") from error
    return tensors, {key: _value(text) for key, text in metadata.items()}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
