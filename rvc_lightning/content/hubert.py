"""HuBERT and encoders of its architecture: ContentVec, SPIN and others.

Sources: W.-N. Hsu et al., "HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction of Hidden
Units", 2021; SPECIFICATION.md, section 12.

Legend: B items, T samples at 16 kHz, F frames of 20 ms, C channels.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import HubertConfig, HubertModel

from rvc_lightning.audio.frames import WINDOW_SAMPLES, content_frames, content_lengths, frame_mask
from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.errors import ConfigurationError, one_line
from rvc_lightning.io.hub import fetch_folder, known_files
from rvc_lightning.io.names import home_path

_FILES = ("config.json", "pytorch_model.bin")
_EXPECTED_FILES = "config.json and pytorch_model.bin (or model.safetensors)"
_LAYERS = {"v1": 9, "v2": None}
"""Number of transformer layers used by each version of the voice format; None for all."""

# The mask embedding is used in training only.
_OPTIONAL_WEIGHTS = {"masked_spec_embed"}

transformers.utils.logging.set_verbosity_error()


class HubertEncoder(ContentEncoder):
    """HuBERT model: the output of the last layer for v2 voices, of layer 9 through `final_proj` for v1 voices.

    Input is not normalized. Weights are frozen.
    """

    def __init__(self, name: str, path: str | None = None, version: str = "v2", layer: int | None = None) -> None:
        """Load the model.

        Args:
            name: Name in the registry.
            path: Folder in the layout of transformers (`config.json` and weights); None to download `name`.
            version: Version of the voice format, 'v2' or 'v1'.
            layer: Number of transformer layers to use; None for those of the version.

        Raises:
            ConfigurationError: The version or the layer is unknown, or the folder does not contain such a model.
            AssetError: The files cannot be downloaded.
        """
        super().__init__()
        if version not in _LAYERS:
            raise ConfigurationError(f"content.version={version}: choose one of: {', '.join(_LAYERS)}")
        if layer is not None and layer < 1:
            raise ConfigurationError(f"content.layer={layer}: choose a whole number from 1, or null")
        self.name = name
        folder = home_path(path) if path is not None else _fetch(name)
        self.hubert = _load(folder, version, layer)
        self.projection: nn.Module = self.hubert.final_proj if version == "v1" else nn.Identity()
        self.dim = self.hubert.config.classifier_proj_size if version == "v1" else self.hubert.config.hidden_size
        self.requires_grad_(False)

    def forward(self, wav16k: Tensor, lengths: Tensor) -> Tensor:
        """Encode a batch, as `ContentEncoder.forward`: [B, T] and [B] to [B, F, C], in float32."""
        wav16k = functional.pad(wav16k, (0, max(WINDOW_SAMPLES - wav16k.shape[1], 0)))
        # The group norm after the first convolution averages over time, so items are processed without padding.
        features = [
            self.hubert.feature_extractor(wave[None, : max(samples, WINDOW_SAMPLES)])[0].mT
            for wave, samples in zip(wav16k, lengths.tolist(), strict=True)
        ]
        hidden = self.hubert.feature_projection(pad_sequence(features, batch_first=True))
        mask = frame_mask(content_lengths(lengths), hidden.shape[1])
        hidden = self.hubert.encoder(hidden, attention_mask=mask if len(features) > 1 else None).last_hidden_state
        content = self.projection(hidden).float() * mask[:, :, None]
        return functional.pad(content, (0, 0, 0, content_frames(wav16k.shape[1]) - content.shape[1]))


class _Projected(HubertModel):
    """HuBERT with the output projection for v1 voices."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__(config)
        self.final_proj = nn.Linear(config.hidden_size, config.classifier_proj_size)


def _fetch(name: str) -> Path:
    """Download the files of `name` and return their folder.

    Raises:
        AssetError: The files cannot be downloaded.
        ConfigurationError: `name` is a custom model, which has no download.
    """
    if f"content/{name}/{_FILES[0]}" not in known_files():
        raise ConfigurationError(
            f"content.path=FOLDER is missing: '{name}' is a custom model; name its folder with {_EXPECTED_FILES}"
        )
    alternatives = f"content.path=FOLDER, a folder with {_EXPECTED_FILES}; content=phonetic needs no download"
    return fetch_folder([known_files()[f"content/{name}/{file}"] for file in _FILES], alternatives)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Hide the progress bars of transformers; the switch is restored because downloads of huggingface_hub share it."""
    logging = transformers.utils.logging
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def _load(folder: Path, version: str, layer: int | None) -> Any:
    """Load the model in `folder` strictly. Raises ConfigurationError if it is missing or incomplete."""
    model_class: Any = _Projected if version == "v1" else HubertModel
    try:
        config = HubertConfig.from_json_file(folder / "config.json")
        config.num_hidden_layers = layer or _LAYERS[version] or config.num_hidden_layers
        with _no_progress_bars():
            model, report = model_class.from_pretrained(
                folder, config=config, dtype=torch.float32, output_loading_info=True
            )
    except (OSError, LookupError, TypeError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        raise ConfigurationError(
            f"content.path={folder} is not a folder with a HuBERT model ({_EXPECTED_FILES}): {one_line(error)}"
        ) from error
    missing = sorted(set(report["missing_keys"]) - _OPTIONAL_WEIGHTS)
    if missing:
        raise ConfigurationError(
            f"content.path={folder} lacks {len(missing)} weights of a HuBERT model: {', '.join(missing[:5])}"
        )
    return model
