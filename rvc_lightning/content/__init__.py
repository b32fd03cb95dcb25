"""Registry of content encoders.

To add one, write a file with a `ContentEncoder`, and add a line to `CONTENT_ENCODERS` and a YAML file to
`conf/content/`.
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
    # Importing transformers takes seconds.
    from rvc_lightning.content.hubert import HubertEncoder

    return HubertEncoder(name, **options)


_HUBERT_NAMES = (
    *("contentvec", "spin", "spin-v2", "chinese-hubert-base", "japanese-hubert-base", "korean-hubert-base", "hubert"),
)
CONTENT_ENCODERS: dict[str, Callable[..., ContentEncoder]] = {
    SpectralEncoder.name: SpectralEncoder,
    PhoneticEncoder.name: PhoneticEncoder,
    **{name: partial(_hubert, name) for name in _HUBERT_NAMES},
}
"""Constructors by name; `hubert` is a custom HuBERT model in a local folder."""


def encoder_name(entry: str) -> str:
    """Return the registered name for an encoder as RVC tools store it in `embedder_model`.

    'hubert_base', the file name of ContentVec in older tools, is `contentvec`. Other unknown names and paths denote a
    custom model and become `hubert`.
    """
    if entry in CONTENT_ENCODERS:
        return entry
    file = entry.replace("\\", "/").rpartition("/")[2]
    return "contentvec" if file.removesuffix(".pt") == "hubert_base" else "hubert"


def build_content_encoder(name: str, **options: Any) -> ContentEncoder:
    """Build a content encoder in evaluation mode.

    Args:
        name: Key of `CONTENT_ENCODERS`.
        options: Arguments of its constructor.

    Raises:
        ConfigurationError: The name or an option is unknown, or a value is invalid.
        AssetError: The files cannot be downloaded.
    """
    return build("content encoder", CONTENT_ENCODERS, name, options).eval()
