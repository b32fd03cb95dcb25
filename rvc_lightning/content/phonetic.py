"""Our own trained encoder, which ships with the package: phones and what lies between them, whoever speaks.

Letters: B items, T samples at 16 kHz, F frames of 20 ms, C channels.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from rvc_lightning.audio.frames import WINDOW_SAMPLES, content_frames
from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.io.pickles import read_pickle
from rvc_lightning.models.phonetic import PhoneticNetwork, from_file

EDITION = 2
"""Of the weights that ship; one up with each training, since a voice learned with one says nothing with another."""

SHIPPED = Path(__file__).parents[1] / "assets" / "phonetic" / "phonetic.pt"


class PhoneticEncoder(ContentEncoder):
    """A small convolutional network, trained by `rvc_lightning.pretraining`; its card is beside its weights.

    Each frame sees half a second before it and 0.26 s after it. The weights are fixed.
    """

    name = "phonetic"

    def __init__(self, path: str | None = None, version: str = "v1", edition: int = EDITION) -> None:
        """Loads the network.

        Args:
            path: A file that `python -m rvc_lightning.pretraining.train` wrote; None for the one that ships.
            version: Of the voice format; 'v1' alone has the room of its 256 channels.
            edition: Of the weights, which datasets and voices remember; for a file of your own choose another.

        Raises:
            ConfigurationError: `version` is another, `edition` is not the one that ships, or there is no such network
                at `path`.
        """
        super().__init__()
        if path is None and edition != EDITION:
            raise ConfigurationError(
                f"content.edition={edition}; edition {EDITION} of the phonetic encoder is what this version of "
                f"rvc_lightning ships. Train the voice anew, or name the weights of edition {edition}: "
                "content.path=FILE, or content_path=FILE when converting"
            )
        if version != "v1":
            raise ConfigurationError(f"content.version={version}; content=phonetic is of version v1 (256 channels)")
        self.network = load_network(Path(path).expanduser() if path is not None else SHIPPED, "content.path")
        self.dim = self.network.config.content_dim
        self.requires_grad_(False)

    def forward(self, wav16k: Tensor, lengths: Tensor) -> Tensor:
        """Encode a batch, as `ContentEncoder.forward`: [B, T] and [B] to [B, F, C], in float32."""
        with torch.autocast(wav16k.device.type, enabled=False):
            padded = functional.pad(wav16k, (0, max(WINDOW_SAMPLES - wav16k.shape[1], 0)))
            return self.network(padded, lengths)[:, : content_frames(wav16k.shape[1])].float()


def load_network(path: Path, setting: str) -> PhoneticNetwork:
    """The network in a file, in evaluation mode. Raises ConfigurationError, naming the setting, if it holds none."""
    try:
        return from_file(read_pickle(path, "phonetic encoder"))
    except (VoiceError, RuntimeError, TypeError, KeyError, AttributeError, ValueError, ArithmeticError) as error:
        raise ConfigurationError(f"{setting}={path} is no phonetic encoder: {error}") from error
