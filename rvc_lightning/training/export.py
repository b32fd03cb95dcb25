"""Export a checkpoint as a voice with its index (SPECIFICATION.md, sections 1.1 and 11.1)."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rvc_lightning.errors import DatasetError, VoiceError
from rvc_lightning.io.files import atomic_path, link_or_copy
from rvc_lightning.io.locks import exclusive_lock
from rvc_lightning.io.pickles import read_pickle
from rvc_lightning.models import SynthesizerConfig
from rvc_lightning.models.generators import check_generator
from rvc_lightning.models.synthesizer import PRIOR_NOISE_SCALE
from rvc_lightning.retrieval.index import IndexConfig
from rvc_lightning.retrieval.index_file import INDEX_SUFFIX
from rvc_lightning.retrieval.pairing import (
    FEATURES_KEY,
    StoredFeatures,
    link_index,
    remove_index,
    update_index,
)
from rvc_lightning.training.checkpoints import (
    AVERAGED_KEY,
    CHECKPOINT_KEY,
    CHECKPOINT_SUFFIX,
    best_checkpoint,
    read_checkpoint,
)
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.onnx_voice import open_voice
from rvc_lightning.voice.rvc_format import SPEAKER_TABLE
from rvc_lightning.voice.voice import Voice, to_half

log = logging.getLogger(__name__)

_PREVIOUS = ".previous"
_SYNTHESIZER_PREFIX, _AVERAGED_PREFIX, _DISCRIMINATOR_PREFIX = "synthesizer.", "module.", "discriminator."


@dataclass(frozen=True)
class ExportedVoice:
    """Files of an exported voice."""

    voice: Path
    index: Path | None
    """None if the dataset was not found."""


class SavedVoice(NamedTuple):
    """Content of a checkpoint that a voice is exported from."""

    voice: Voice
    dataset: Path
    """Dataset of the training, which may have been moved."""


class Pair(NamedTuple):
    """Files of pretrained networks."""

    generator: Path
    discriminator: Path


def export_checkpoint(
    checkpoint: Path,
    folder: Path,
    name: str,
    dataset: Path | None,
    seed: int = 0,
    index: IndexConfig | None = None,
) -> ExportedVoice:
    """Export the voice of a checkpoint; arguments and errors as in `read_voice` and `export_voice`."""
    return export_voice(read_voice(checkpoint, name).voice, folder, dataset, seed, index)


def export_voice(
    voice: Voice, folder: Path, dataset: Path | None, seed: int = 0, index: IndexConfig | None = None
) -> ExportedVoice:
    """Write `folder/NAME.pth`, and `folder/NAME.index` from the features of the dataset, unless it exists.

    Another voice of this name is kept with its index as `NAME.previous.pth`, in place of an earlier one.

    Args:
        voice: Voice of a checkpoint.
        folder: Folder of the voice.
        dataset: Prepared dataset; with None or a missing folder, the voice has no index.
        seed: Seed of the index.
        index: Settings of the index; None stores all features.

    Raises:
        VoiceError: The voice contains weights that are not finite.
        DatasetError: The features of the dataset are missing, damaged, or do not match the voice.
    """
    # Voice and index must come from the same run.
    with exclusive_lock(folder, remove_after=True):
        return _export(voice, folder / f"{_name(voice)}.pth", dataset, seed, index)


def _name(voice: Voice) -> str:
    return str(voice.information["model_name"])


def _export(voice: Voice, path: Path, dataset: Path | None, seed: int, index: IndexConfig | None) -> ExportedVoice:
    index_path = path.with_suffix(INDEX_SUFFIX)
    _keep_replaced(path, voice)
    if dataset is None or not dataset.is_dir():
        voice.save(path)
        # Otherwise the index of other recordings would be used with the new voice.
        remove_index(index_path)
        log.warning("The voice has no index: its dataset was not found (%s)", dataset)
        return ExportedVoice(path, None)
    features = _features(dataset, voice)
    voice.information[rvc_format.PROJECT_ENTRY] = {**voice.training_info, FEATURES_KEY: features.fingerprint}
    voice.save(path)
    return ExportedVoice(path, update_index(index_path, features, seed, index))


def _keep_replaced(path: Path, voice: Voice) -> None:
    """Keep another voice at `path` as NAME.previous.pth, since it may be the better one."""
    if not path.is_file():
        return
    try:
        content = read_pickle(path, "voice")
    except (VoiceError, OSError):
        content = {}
    if content.get("content_hash") == voice.information["content_hash"]:
        return
    previous, index = path.with_suffix(f"{_PREVIOUS}{path.suffix}"), path.with_suffix(INDEX_SUFFIX)
    link_or_copy(path, previous)
    if index.is_file():
        link_index(index, previous.with_suffix(INDEX_SUFFIX))
    old = _describe(content) if content else "a file that cannot be read as a voice"
    log.info(
        "Replacing '%s', %s, by %s. The old one is kept as '%s'", path, old, _describe(voice.information), previous.name
    )


def _describe(information: Mapping[str, Any]) -> str:
    """Return epoch, step and date of a voice, as far as its file contains them."""
    known = [f"{key} {value}" for key in ("epoch", "step") if isinstance(value := information.get(key), int)]
    created = str(information.get("creation_date"))[: len("2000-01-01T00:00")]
    if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d", created):
        known.append(f"created {created.replace('T', ' ')}")
    return f"a voice of {', '.join(known)}" if known else "a voice of unknown age"


def export_index(voice: Voice, folder: Path, dataset: Path, seed: int = 0, index: IndexConfig | None = None) -> Path:
    """Write only `folder/NAME.index`, unless it exists; arguments as in `export_voice`.

    Raises:
        DatasetError: The features of the dataset are missing, damaged, or do not match the voice.
    """
    return update_index(folder / f"{_name(voice)}{INDEX_SUFFIX}", _features(dataset, voice), seed, index)


def read_voice(checkpoint: Path, name: str | None = None) -> SavedVoice:
    """Read the voice of a checkpoint, with averaged weights if it has them.

    Args:
        checkpoint: A Lightning checkpoint of this project.
        name: Name of the voice; None for that in the checkpoint.

    Raises:
        VoiceError: The file is not a checkpoint of this project.
    """
    content = read_checkpoint(checkpoint)
    saved = content[CHECKPOINT_KEY]
    config = SynthesizerConfig.from_values(saved["synthesizer"])
    check_generator(config)
    information = _information(name or saved["voice"]["name"], config, saved, epoch=int(content["epoch"]))
    voice = Voice.from_synthesizer(config, _synthesizer_weights(content), information)
    return SavedVoice(voice, Path(saved["voice"]["dataset"]))


def export_pair(content: Mapping[str, Any], folder: Path) -> Pair:
    """Write `folder/G.pth` and `folder/D.pth` in half precision, to start other voices from with `pretrained=files`.

    In the pretrained files of RVC tools, a new speaker replaces one of the trained ones. Here each row of the speaker
    table contains the mean of all speakers, and there are as many rows as in those files.

    Args:
        content: Content of a checkpoint, see `read_checkpoint`.
        folder: Folder of the pair.

    Raises:
        VoiceError: The weights exceed half precision.
    """
    config = SynthesizerConfig.from_values(content[CHECKPOINT_KEY]["synthesizer"])
    generator = _synthesizer_weights(content)
    speakers = len(content[CHECKPOINT_KEY]["voice"]["speakers"])
    mean = generator[SPEAKER_TABLE][:speakers].mean(0)
    generator[SPEAKER_TABLE] = mean.repeat(SynthesizerConfig.speaker_count, 1)
    discriminator = _strip_prefix(_DISCRIMINATOR_PREFIX, content["state_dict"])
    pair = Pair(folder / "G.pth", folder / "D.pth")
    stored = rvc_format.weights_for_file(generator, config), rvc_format.weights_for_file(discriminator)
    # Check both before writing one.
    halves = [to_half(weights) for weights in stored]
    for path, weights in zip(pair, halves, strict=True):
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            torch.save({"model": weights}, stream)
    match content.get("optimizer_states"):
        case [{"state": state}, *_] if not state:
            log.warning(
                "The discriminator was never trained (model.adversarial_from_step): '%s' has the weights that the run "
                "started with, which are random without pretrained.discriminator",
                pair.discriminator,
            )
    return pair


def _synthesizer_weights(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of the synthesizer from the content of a checkpoint, the averaged ones if it has them."""
    if AVERAGED_KEY in content:
        return _strip_prefix(_AVERAGED_PREFIX, content[AVERAGED_KEY])
    return _strip_prefix(_SYNTHESIZER_PREFIX, content["state_dict"])


def _strip_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def load_voice(path: Path) -> Voice:
    """Load a voice, also from a checkpoint.

    Args:
        path: Voice (.pth), checkpoint (.ckpt), or run folder, whose best checkpoint is used, else its newest.

    Raises:
        VoiceError: The file does not exist or cannot be read.
    """
    path = best_checkpoint(path)
    if path.suffix != CHECKPOINT_SUFFIX:
        return open_voice(path)
    return read_voice(path).voice


def _information(name: str, config: SynthesizerConfig, saved: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    """Return the entries of the voice file about its origin."""
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
        rvc_format.PROJECT_ENTRY: {
            **{key: training[key] for key in ("content", "pitch", "speakers", "median_f0_hz")},
            # Checkpoints of early versions have none.
            "noise_scale": training.get("noise_scale", PRIOR_NOISE_SCALE),
        },
    }


def _features(dataset: Path, voice: Voice) -> StoredFeatures:
    """Return the features of a dataset. Raises DatasetError if they are of another encoder than those of the voice."""
    features, encoder, content_dim = StoredFeatures(dataset), voice.content_encoder, voice.config.content_dim
    stored_encoder, dim = features.header.content["name"], features.content_dim
    if (stored_encoder, dim) != (encoder, content_dim):
        raise DatasetError(
            f"'{dataset}' has features of content={stored_encoder} with {dim} channels, but the voice uses those of "
            f"{encoder} with {content_dim}: set dataset=FOLDER to the dataset that it was trained on"
        )
    return features
