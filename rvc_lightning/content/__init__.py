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


HUBERT_NAMES = (
    *("contentvec", "spin", "spin-v2", "chinese-hubert-base", "japanese-hubert-base", "korean-hubert-base", "hubert"),
)
"""Encoders of the architecture of HuBERT."""
_ALIASES = {
    "hubert-base": "contentvec",
    "contentvec-base": "contentvec",
    "hubert-base-japanese": "japanese-hubert-base",
    "hubert-jp": "japanese-hubert-base",
}
"""Names that forks of the WebUI use, with hyphens for underscores (SPECIFICATION.md, section 12.2)."""
CONTENT_ENCODERS: dict[str, Callable[..., ContentEncoder]] = {
    SpectralEncoder.name: SpectralEncoder,
    PhoneticEncoder.name: PhoneticEncoder,
    **{name: partial(_hubert, name) for name in HUBERT_NAMES},
}
"""Constructors by name; `hubert` is a custom HuBERT model in a local folder."""


def encoder_name(entry: str) -> str:
    """Return the registered name for an encoder as RVC tools store it in `embedder_model` or `embedder_name`.

    'hubert_base', the file name of ContentVec in older tools, is `contentvec`. Other unknown names and paths denote a
    custom model and become `hubert`.
    """
    if entry in CONTENT_ENCODERS:
        return entry
    file = entry.replace("\\", "/").rpartition("/")[2].removesuffix(".pt")
    name = (file if file == "hubert_base" else entry).casefold().replace("_", "-").removesuffix("768")
    name = _ALIASES.get(name, name)
    return name if name in HUBERT_NAMES else "hubert"


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
