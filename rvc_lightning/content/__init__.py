"""Content encoders by name.

To add one: a file with a `ContentEncoder`, a line in `CONTENT_ENCODERS` and a YAML in `conf/content/`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.content.spectral import SpectralEncoder
from rvc_lightning.registry import build

CONTENT_ENCODERS: dict[str, Callable[..., ContentEncoder]] = {SpectralEncoder.name: SpectralEncoder}


def build_content_encoder(name: str, **options: Any) -> ContentEncoder:
    """Build the encoder of that name, in evaluation mode.

    Args:
        name: a key of `CONTENT_ENCODERS`.
        options: what its constructor takes.

    Raises:
        ConfigurationError: no such name or option, or a value it refuses.
    """
    return build("content encoder", CONTENT_ENCODERS, name, options).eval()
