"""HuBERT and the encoders of its shape: ContentVec, SPIN and others (specification 12; Hsu et al. 2021).

Letters: B items, T samples at 16 kHz, F frames of 20 ms, C channels.
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
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.io.hub import fetch_folder, known_files

_FILES = ("config.json", "pytorch_model.bin")
_EXPECTED = "config.json and pytorch_model.bin (or model.safetensors)"
_LAYERS = {"v1": 9, "v2": None}
"""Transformer layers that are run for each version of the voice format; None for all."""

# What training masks inputs with; nothing else may be missing.
_NOT_NEEDED = {"masked_spec_embed"}

transformers.utils.logging.set_verbosity_error()


class HubertEncoder(ContentEncoder):
    """A HuBERT model: the last layer's output for v2 voices, the ninth layer's through `final_proj` for v1.

    Audio is taken as it is, not normalized. The weights are fixed.
    """

    def __init__(self, name: str, path: str | None = None, version: str = "v2") -> None:
        """Loads the model.

        Args:
            name: Name in the registry; decides what is fetched where no `path` is given.
            path: A folder in the layout of transformers (`config.json` and weights); None fetches the files of `name`.
            version: Of the voice format: 'v2' or 'v1'.

        Raises:
            ConfigurationError: `version` is neither, or the folder holds no such model.
            AssetError: The files cannot be fetched.
        """
        super().__init__()
        if version not in _LAYERS:
            raise ConfigurationError(f"content.version={version}; choose one of: {', '.join(_LAYERS)}")
        self.name = name
        folder = Path(path).expanduser() if path is not None else _fetch(name)
        self.hubert = _load(folder, version)
        self.projection: nn.Module = self.hubert.final_proj if version == "v1" else nn.Identity()
        self.dim = self.hubert.config.classifier_proj_size if version == "v1" else self.hubert.config.hidden_size
        self.requires_grad_(False)

    def forward(self, wav16k: Tensor, lengths: Tensor) -> Tensor:
        """Encode a batch, as `ContentEncoder.forward`: [B, T] and [B] to [B, F, C], in float32."""
        wav16k = functional.pad(wav16k, (0, max(WINDOW_SAMPLES - wav16k.shape[1], 0)))
        # The first convolution's norm averages over time: padding would change it, so each item goes alone.
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
    """HuBERT with the projection that v1 voices take their content through."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__(config)
        self.final_proj = nn.Linear(config.hidden_size, config.classifier_proj_size)


def _fetch(name: str) -> Path:
    """The folder of the files of `name`, from the hub.

    Raises:
        AssetError: They cannot be had.
        ConfigurationError: No hub is known for it. As in all errors of an encoder, its option `path` is called what
            training calls it, content.path.
    """
    if f"content/{name}/{_FILES[0]}" not in known_files():
        raise ConfigurationError(
            f"content.path=FOLDER is missing: '{name}' is a model of your own, a folder with {_EXPECTED}"
        )
    otherwise = f"content.path=FOLDER, a folder with {_EXPECTED}; content=phonetic needs no download"
    return fetch_folder([known_files()[f"content/{name}/{file}"] for file in _FILES], otherwise)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Without the bars of transformers. Its switch is that of huggingface_hub, whose downloads are to show theirs."""
    bars = transformers.utils.logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _load(folder: Path, version: str) -> Any:
    """The model in `folder`, strictly. Raises ConfigurationError if there is none, or not all of it."""
    if not (folder / "config.json").is_file():
        raise ConfigurationError(f"content.path={folder}: a folder with a HuBERT model is expected, {_EXPECTED}")
    kind: Any = _Projected if version == "v1" else HubertModel
    try:
        config = HubertConfig.from_pretrained(folder)
        layers = _LAYERS[version] or config.num_hidden_layers
        if config.num_hidden_layers < layers:
            raise ConfigurationError(
                f"content.path={folder}: {version} voices use layer {layers}, it has {config.num_hidden_layers}"
            )
        config.num_hidden_layers = layers
        with _without_bars():
            model, found = kind.from_pretrained(folder, config=config, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        raise ConfigurationError(f"content.path={folder} cannot be read as a HuBERT model: {error}") from error
    missing = sorted(set(found["missing_keys"]) - _NOT_NEEDED)
    if missing:
        raise ConfigurationError(
            f"content.path={folder} lacks {len(missing)} weights of a HuBERT model: {', '.join(missing[:5])}"
        )
    return model
