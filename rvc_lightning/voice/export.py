"""From a checkpoint of training to a voice and its index (specification sections 1.1 and 11.1)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from rvc_lightning.checkpoints import BEST, CHECKPOINT_SUFFIX, find_checkpoint, read_checkpoint
from rvc_lightning.data.manifest import read_manifest
from rvc_lightning.errors import DatasetError
from rvc_lightning.files import read_npy
from rvc_lightning.index_file import INDEX_SUFFIX
from rvc_lightning.models import SynthesizerConfig
from rvc_lightning.module import AVERAGED_KEY, CHECKPOINT_KEY
from rvc_lightning.resolvers import CHECKPOINT_FOLDER
from rvc_lightning.retrieval import build_index, save_index
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.voice import Voice

log = logging.getLogger(__name__)

_SYNTHESIZER_PREFIX, _AVERAGED_PREFIX = "synthesizer.", "module."


@dataclass(frozen=True)
class ExportedVoice:
    """Where a voice lies."""

    voice: Path
    index: Path | None


def export_checkpoint(checkpoint: Path, folder: Path, name: str, dataset: Path | None, seed: int = 0) -> ExportedVoice:
    """Writes `folder/name.pth` and, of the dataset's features, `folder/name.index`.

    Args:
        checkpoint: A Lightning checkpoint of this project.
        folder: Where the voice goes.
        name: Of the voice.
        dataset: The prepared dataset; None or a folder that is gone gives a voice without an index.
        seed: Of the index.

    Raises:
        VoiceError: The checkpoint cannot be read, or holds weights that are not finite.
    """
    voice = voice_from_checkpoint(checkpoint, name)
    features = None if dataset is None else _features(dataset)
    path = voice.save(folder / f"{name}.pth")
    index_path = path.with_suffix(INDEX_SUFFIX)
    if features is None:
        # An index of other recordings beside a new voice would be used without a word.
        index_path.unlink(missing_ok=True)
        log.warning("The voice has no index: its dataset is gone (%s)", dataset)
        return ExportedVoice(path, None)
    save_index(build_index(features, seed), index_path)
    return ExportedVoice(path, index_path)


def facts_of(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint remembers for its voice: name, content, pitch, speakers, seconds, dataset.

    Raises:
        VoiceError: It is no checkpoint of this project.
    """
    return dict(read_checkpoint(checkpoint)[CHECKPOINT_KEY]["voice"])


def voice_from_checkpoint(checkpoint: Path, name: str) -> Voice:
    """The voice that a checkpoint holds, of averaged weights if it has some.

    Raises:
        VoiceError: It is no checkpoint of this project.
    """
    content = read_checkpoint(checkpoint)
    saved = content[CHECKPOINT_KEY]
    config = SynthesizerConfig.from_dict(saved["synthesizer"])
    averaged = AVERAGED_KEY in content
    tensors = content[AVERAGED_KEY] if averaged else content["state_dict"]
    prefix = _AVERAGED_PREFIX if averaged else _SYNTHESIZER_PREFIX
    state = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    information = _information(name, config, saved, epoch=int(content["epoch"]))
    return Voice.from_synthesizer(config, state, information)


def load_voice(path: Path) -> Voice:
    """A voice, or the one that a checkpoint of training would become.

    Args:
        path: A voice (.pth), a checkpoint (.ckpt), or a run folder: its best checkpoint, else its newest.

    Raises:
        VoiceError: There is none, or it cannot be read.
    """
    if path.is_dir():
        best = path / CHECKPOINT_FOLDER / BEST
        path = best if best.is_file() else find_checkpoint(path)
        log.info("Checkpoint: %s", path)
    if path.suffix != CHECKPOINT_SUFFIX:
        return Voice.load(path)
    return voice_from_checkpoint(path, str(facts_of(path)["name"]))


def _information(name: str, config: SynthesizerConfig, saved: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    """The file's entries that tell where the voice comes from."""
    training, step = saved["voice"], saved["optimizer_steps"]
    version, values = rvc_format.version_of(config), rvc_format.config_to_list(config)
    identity = f"{name}-{epoch}-{step}-{config.sample_rate}-{version}-{values}"
    return {
        "model_name": name,
        "author": training.get("author") or "",
        "epoch": epoch,
        "step": step,
        "info": f"{epoch}epoch",
        "embedder_model": training["content"]["name"],
        "creation_date": datetime.now().isoformat(timespec="microseconds"),
        "speakers_id": len(training["speakers"]),
        "dataset_length": str(timedelta(seconds=round(training["seconds"]))).zfill(8),
        "model_hash": hashlib.sha256(identity.encode()).hexdigest(),
        "rvc_lightning": {key: training[key] for key in ("content", "pitch", "speakers", "median_f0_hz")},
    }


def _features(dataset: Path) -> np.ndarray | None:
    """All content features of a dataset in the order of its manifest, [N, C]; None if the folder is gone.

    Raises:
        DatasetError: One of its files is missing or damaged.
    """
    if not dataset.is_dir():
        return None
    try:
        return np.concatenate([read_npy(dataset / row.content, 2) for row in read_manifest(dataset)]).astype(np.float32)
    except (OSError, ValueError) as error:
        raise DatasetError(f"the features in '{dataset}' cannot be read: {error}; prepare it again") from error
