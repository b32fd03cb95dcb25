"""Content encoders by name.

To add one: a file with a `ContentEncoder`, a line in `CONTENT_ENCODERS` and a YAML in `conf/content/`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rvc_lightning.config.registry import build
from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.content.phonetic import PhoneticEncoder
from rvc_lightning.content.spectral import SpectralEncoder


def _hubert(name: str, **options: Any) -> ContentEncoder:
    # transformers takes seconds to import.
    from rvc_lightning.content.hubert import HubertEncoder

    return HubertEncoder(name, **options)


CONTENT_ENCODERS: dict[str, Callable[..., ContentEncoder]] = {
    SpectralEncoder.name: SpectralEncoder,
    PhoneticEncoder.name: PhoneticEncoder,
    "contentvec": partial(_hubert, "contentvec"),
    "spin": partial(_hubert, "spin"),
    "spin-v2": partial(_hubert, "spin-v2"),
    "chinese-hubert-base": partial(_hubert, "chinese-hubert-base"),
    "japanese-hubert-base": partial(_hubert, "japanese-hubert-base"),
    "korean-hubert-base": partial(_hubert, "korean-hubert-base"),
    "hubert": partial(_hubert, "hubert"),
}
"""`hubert` is any model of that kind in a folder of the user's."""


def build_content_encoder(name: str, **options: Any) -> ContentEncoder:
    """Build the encoder of that name, in evaluation mode.

    Args:
        name: a key of `CONTENT_ENCODERS`.
        options: what its constructor takes.

    Raises:
        ConfigurationError: no such name or option, or a value it refuses.
        AssetError: its files cannot be fetched.
    """
    return build("content encoder", CONTENT_ENCODERS, name, options).eval()
