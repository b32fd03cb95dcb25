"""Checkpoints `G_*.pth` and `D_*.pth` of another RVC tool (SPECIFICATION.md, section 2.1).

Training continues from the weights of a pair by `pretrained=files`. Optimizer states are not imported: with
betas (0.8, 0.99), AdamW replaces its moments within a few hundred steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvc_lightning.errors import VoiceError
from rvc_lightning.importers.overrides import discriminator_choice
from rvc_lightning.io.pickles import read_pickle
from rvc_lightning.models import SynthesizerConfig
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.extraction import extract_voice


@dataclass(frozen=True)
class Pair:
    """The two checkpoints of one epoch."""

    generator: Path
    discriminator: Path
    epoch: int
    """Number of finished epochs."""
    synthesizer: SynthesizerConfig
    """Sizes of the synthesizer."""
    discriminator_choice: str
    """Name of the discriminator in the configuration."""


def newest_pair(experiment: Path) -> Pair | None:
    """Return the pair of the latest epoch, as stored in the files; numbers in their names may mean anything else.

    Raises:
        VoiceError: A file is damaged or of an unknown kind, or the two files are of different epochs.
    """
    paths = sorted(experiment.glob("G_*.pth"))
    if not paths:
        return None
    generator, path = max(((_read(path), path) for path in paths), key=lambda item: item[0]["iteration"])
    other = path.with_name("D" + path.name[1:])
    discriminator = _read(other)
    epochs = generator["iteration"], discriminator["iteration"]
    choice = discriminator_choice(rvc_format.weights_from_file(discriminator["model"]))
    if choice is None or epochs[0] != epochs[1]:
        raise VoiceError(
            f"'{path}' is of epoch {epochs[0]}, '{other.name}' of epoch {epochs[1]} with "
            f"{'an unknown kind of discriminator' if choice is None else f'discriminator={choice}'}: saving was "
            "interrupted, or they are of another tool; move both away to import an older pair"
        )
    return Pair(path, other, epochs[0], extract_voice(path, generator).config, choice)


def _read(path: Path) -> dict[str, Any]:
    content = read_pickle(path, "training checkpoint")
    if not isinstance(content.get("iteration"), int) or not isinstance(content.get("model"), dict):
        raise VoiceError(f"'{path}' is not a training checkpoint: entries 'model' and 'iteration' are expected")
    return content
