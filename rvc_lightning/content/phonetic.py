"""Phonetic encoder, with weights included in the package.

Legend: B items, T samples at 16 kHz, F frames of 20 ms, C channels.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from rvc_lightning.audio.frames import WINDOW_SAMPLES, content_frames
from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.errors import ConfigurationError, RVCError
from rvc_lightning.io.names import home_path
from rvc_lightning.io.pickles import read_pickle
from rvc_lightning.models.phonetic import PhoneticNetwork, from_file

EDITION = 4
"""Newest edition of the included weights; voices work only with the edition they were trained with."""

_FOLDER = Path(__file__).parents[1] / "assets" / "phonetic"
SHIPPED = {edition: _FOLDER / f"edition{edition}.pt" for edition in (2, 3, EDITION)}
"""Included weights by edition."""


class PhoneticEncoder(ContentEncoder):
    """Small convolutional network, trained by `rvc_lightning.pretraining`; its model card is next to the weights.

    The receptive field of a frame is 0.5 s before and 0.26 s after it. Weights are frozen.
    """

    name = "phonetic"

    def __init__(self, path: str | None = None, version: str = "v1", edition: int = EDITION) -> None:
        """Load the network.

        Args:
            path: Output of `python -m rvc_lightning.pretraining.train`; None for the included weights.
            version: Version of the voice format; only 'v1' has 256 channels.
            edition: Edition of the weights, stored in datasets and voices; choose another number for your own file.

        Raises:
            ConfigurationError: The version is not 'v1', the edition is not included, or the file cannot be read.
        """
        super().__init__()
        if path is None and edition not in SHIPPED:
            raise ConfigurationError(
                f"content.edition={edition}: this version of rvc_lightning includes the editions "
                f"{', '.join(map(str, SHIPPED))} of the phonetic encoder. Retrain the voice, or name the weights of "
                f"edition {edition}: content.path=FILE, or content_path=FILE for conversion"
            )
        if version != "v1":
            raise ConfigurationError(f"content.version={version}: content=phonetic supports v1 only (256 channels)")
        self.network = load_network(home_path(path) if path is not None else SHIPPED[edition], "content.path")
        self.dim = self.network.config.content_dim
        self.requires_grad_(False)

    def forward(self, wav16k: Tensor, lengths: Tensor) -> Tensor:
        """Encode a batch, as `ContentEncoder.forward`: [B, T] and [B] to [B, F, C], in float32."""
        with torch.autocast(wav16k.device.type, enabled=False):
            padded = functional.pad(wav16k, (0, max(WINDOW_SAMPLES - wav16k.shape[1], 0)))
            return self.network(padded, lengths)[:, : content_frames(wav16k.shape[1])].float()


def load_network(path: Path, setting: str) -> PhoneticNetwork:
    """Load the network of a file in evaluation mode.

    Raises:
        ConfigurationError: The file is not a phonetic encoder; the message names the setting.
    """
    try:
        return from_file(read_pickle(path, "phonetic encoder"))
    except (RVCError, RuntimeError, TypeError, KeyError, AttributeError, ValueError, ArithmeticError) as error:
        raise ConfigurationError(f"{setting}={path} is not a phonetic encoder: {error}") from error
