"""Checkpoints `G_*.pth` and `D_*.pth` of another RVC tool (SPECIFICATION.md, section 2.1).

Training continues from the weights of a pair by `pretrained=files`. Optimizer states are not imported: with
betas (0.8, 0.99), AdamW replaces its moments within a few hundred steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvc_lightning.data.manifest import DatasetHeader
from rvc_lightning.errors import VoiceError
from rvc_lightning.importers.overrides import discriminator_choice
from rvc_lightning.io.pickles import read_pickle
from rvc_lightning.models import SynthesizerConfig
from rvc_lightning.pitch.none import NoPitch
from rvc_lightning.training.pretrained import tensors_of
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.extraction import extract_voice

_LEARNING_RATE = 1e-4
_LR_DECAY = 0.999875


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
    """Return the pair of the latest epoch, which the files contain; numbers in names are no measure of progress.

    Raises:
        VoiceError: A file is damaged or of an unknown kind, or the two files are of different epochs.
    """
    paths = sorted(experiment.glob("G_*.pth"))
    if not paths:
        return None
    generator, path = max(((_read(path), path) for path in paths), key=lambda item: item[0]["iteration"])
    other = path.with_name("D" + path.name[1:])
    discriminator = _read(other)
    if generator["iteration"] != discriminator["iteration"]:
        raise VoiceError(
            f"'{path}' is of epoch {generator['iteration']}, '{other.name}' of epoch {discriminator['iteration']}: "
            "saving was interrupted; move both away to import an older pair"
        )
    choice = discriminator_choice(rvc_format.weights_from_file(tensors_of(discriminator, other)))
    if choice is None:
        raise VoiceError(f"'{other}' contains a discriminator of an unknown kind")
    return Pair(path, other, generator["iteration"], extract_voice(path, generator).config, choice)


def configured_sizes(blocks: Mapping[str, Any], header: DatasetHeader) -> SynthesizerConfig:
    """Return the sizes that an experiment without a pair would train.

    Args:
        blocks: Its `config.json`.
        header: Header of the imported dataset.

    Raises:
        VoiceError: The sizes are invalid.
    """
    return rvc_format.config_from_list(
        rvc_format.config_of_experiment(blocks),
        content_dim=header.content["dim"],
        vocoder="HiFi-GAN",
        pitch_guided=header.pitch["name"] != NoPitch.name,
        speaker_count=len(header.speakers),
    )


def learning_rate_after(epoch: int, blocks: Mapping[str, Any]) -> float:
    """Return the learning rate after `epoch` epochs by the block `train` of a `config.json`."""
    train = blocks.get("train")
    values = train if isinstance(train, Mapping) else {}
    rate, decay = values.get("learning_rate", _LEARNING_RATE), values.get("lr_decay", _LR_DECAY)
    try:
        return float(rate) * float(decay) ** epoch
    except (TypeError, ValueError, ArithmeticError) as error:
        raise VoiceError(f"config.json: learning_rate {rate!r} or lr_decay {decay!r} is invalid: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    content = read_pickle(path, "training checkpoint")
    if not isinstance(content.get("iteration"), int) or "model" not in content:
        raise VoiceError(f"'{path}' is not a training checkpoint: entries 'model' and 'iteration' are expected")
    return content
