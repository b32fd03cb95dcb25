"""From a checkpoint of training to a voice and its index (specification sections 1.1 and 11.1)."""

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
    check_complete,
    read_checkpoint,
)
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.rvc_format import SPEAKER_TABLE
from rvc_lightning.voice.voice import Voice, to_half

log = logging.getLogger(__name__)

_DEFAULT_INDEX = IndexConfig()
_PREVIOUS = ".previous"
_SYNTHESIZER_PREFIX, _AVERAGED_PREFIX, _DISCRIMINATOR_PREFIX = "synthesizer.", "module.", "discriminator."


@dataclass(frozen=True)
class ExportedVoice:
    """Where a voice lies."""

    voice: Path
    index: Path | None


class Pair(NamedTuple):
    """Where the networks lie that a training can start from."""

    generator: Path
    discriminator: Path


def export_checkpoint(
    checkpoint: Path,
    folder: Path,
    name: str,
    dataset: Path | None,
    seed: int = 0,
    index: IndexConfig = _DEFAULT_INDEX,
) -> ExportedVoice:
    """Writes `folder/name.pth` and, of the dataset's features, `folder/name.index`, unless it is there already.

    Another voice of that name is kept, with its index, as `name.previous.pth`; the one that was kept before is gone.

    Args:
        checkpoint: A Lightning checkpoint of this project.
        folder: Where the voice goes.
        name: Of the voice.
        dataset: The prepared dataset; None or a folder that is gone gives a voice without an index.
        seed: Of the index.
        index: What it holds of the features.

    Raises:
        VoiceError: The checkpoint cannot be read, or holds weights that are not finite.
        DatasetError: The dataset's features are missing, damaged, or not those that the voice takes.
    """
    voice = voice_from_checkpoint(checkpoint, name)
    # So that voice and index are of the same run.
    with exclusive_lock(folder, remove_after=True):
        return _export(voice, folder / f"{name}.pth", dataset, seed, index)


def _export(voice: Voice, path: Path, dataset: Path | None, seed: int, index: IndexConfig) -> ExportedVoice:
    index_path = path.with_suffix(INDEX_SUFFIX)
    _keep_what_is_replaced(path, voice)
    if dataset is None or not dataset.is_dir():
        voice.save(path)
        # An index of other recordings beside a new voice would be used without a word.
        remove_index(index_path)
        log.warning("The voice has no index: its dataset is gone (%s)", dataset)
        return ExportedVoice(path, None)
    features = _features(dataset, voice.content_encoder, voice.config.content_dim)
    voice.information[rvc_format.PROJECT_ENTRY] = {**voice.training_info, FEATURES_KEY: features.fingerprint}
    voice.save(path)
    return ExportedVoice(path, update_index(index_path, features, seed, index))


def _keep_what_is_replaced(path: Path, voice: Voice) -> None:
    """Keeps the voice at `path`, if there is another, as NAME.previous.pth: it may have been the better one."""
    if not path.is_file():
        return
    try:
        content = read_pickle(path, "voice")
    except (VoiceError, OSError):
        content = {}
    if content.get("content_hash") == voice.information["content_hash"]:
        return
    kept, index = path.with_suffix(f"{_PREVIOUS}{path.suffix}"), path.with_suffix(INDEX_SUFFIX)
    link_or_copy(path, kept)
    if index.is_file():
        link_index(index, kept.with_suffix(INDEX_SUFFIX))
    old = _age(content) if content else "a file that cannot be read as a voice"
    log.info("Replacing '%s', %s, by %s. The one before is kept as '%s'", path, old, _age(voice.information), kept.name)


def _age(information: Mapping[str, Any]) -> str:
    """How far a voice was trained, and when it was made, as far as its file tells."""
    known = [f"{key} {value}" for key in ("epoch", "step") if isinstance(value := information.get(key), int)]
    made = str(information.get("creation_date"))[: len("2000-01-01T00:00")]
    if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d", made):
        known.append(f"made {made.replace('T', ' ')}")
    return f"a voice of {', '.join(known)}" if known else "a voice of unknown age"


def export_index(
    checkpoint: Path, folder: Path, name: str, dataset: Path, seed: int = 0, index: IndexConfig = _DEFAULT_INDEX
) -> Path:
    """Writes `folder/name.index` alone, unless it is there already; arguments as of `export_checkpoint`.

    Raises:
        VoiceError: The checkpoint cannot be read.
        DatasetError: There is no such dataset, or its features are damaged or not those that the voice takes.
    """
    saved = _read_complete(checkpoint)[CHECKPOINT_KEY]
    features = _features(dataset, saved["voice"]["content"]["name"], saved["synthesizer"]["content_dim"])
    return update_index(folder / f"{name}{INDEX_SUFFIX}", features, seed, index)


def remembered(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint remembers beside weights: sizes of `synthesizer` and `discriminator`, and facts of the `voice`.

    Raises:
        VoiceError: It is no checkpoint of this project.
    """
    return dict(_read_complete(checkpoint)[CHECKPOINT_KEY])


def facts_of(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint remembers for its voice: name, content, pitch, speakers, seconds, dataset.

    Raises:
        VoiceError: It is no checkpoint of this project.
    """
    return dict(remembered(checkpoint)["voice"])


def _read_complete(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint holds, with all that a voice takes. Raises VoiceError."""
    content = read_checkpoint(checkpoint)
    check_complete(checkpoint, content)
    return content


def voice_from_checkpoint(checkpoint: Path, name: str) -> Voice:
    """The voice that a checkpoint holds, of averaged weights if it has some.

    Raises:
        VoiceError: It is no checkpoint of this project.
    """
    content = _read_complete(checkpoint)
    saved = content[CHECKPOINT_KEY]
    config = SynthesizerConfig.from_values(saved["synthesizer"])
    information = _information(name, config, saved, epoch=int(content["epoch"]))
    return Voice.from_synthesizer(config, _synthesizer_weights(content), information)


def export_pair(checkpoint: Path, folder: Path) -> Pair:
    """Writes `folder/G.pth` and `folder/D.pth` in half precision: what other voices start from by `pretrained=files`.

    In the files that RVC tools start from, a new speaker takes the place of one of the old ones. Here each place holds
    the mean of all, which is as near to anybody, and there are as many places as those files have.

    Raises:
        VoiceError: The checkpoint cannot be read, or holds weights that half precision cannot.
    """
    content = _read_complete(checkpoint)
    config = SynthesizerConfig.from_values(content[CHECKPOINT_KEY]["synthesizer"])
    generator = _synthesizer_weights(content)
    speakers = len(content[CHECKPOINT_KEY]["voice"]["speakers"])
    table = generator[SPEAKER_TABLE]
    rows = max(len(table), SynthesizerConfig.speaker_count)
    generator[SPEAKER_TABLE] = table[:speakers].mean(0, keepdim=True).repeat(rows, 1)
    discriminator = _below(_DISCRIMINATOR_PREFIX, content["state_dict"])
    pair = Pair(folder / "G.pth", folder / "D.pth")
    stored = rvc_format.weights_for_file(generator, config), rvc_format.weights_for_file(discriminator)
    # Both before either is written.
    halves = [to_half(weights, "this training has diverged; take an earlier checkpoint") for weights in stored]
    for path, weights in zip(pair, halves, strict=True):
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            torch.save({"model": weights}, stream)
    return pair


def _synthesizer_weights(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Of a checkpoint's content: the averaged weights if it has some."""
    if AVERAGED_KEY in content:
        return _below(_AVERAGED_PREFIX, content[AVERAGED_KEY])
    return _below(_SYNTHESIZER_PREFIX, content["state_dict"])


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def load_voice(path: Path) -> Voice:
    """A voice, or the one that a checkpoint of training would become.

    Args:
        path: A voice (.pth), a checkpoint (.ckpt), or a run folder: its best checkpoint, else its newest.

    Raises:
        VoiceError: There is none, or it cannot be read.
    """
    path = best_checkpoint(path)
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
        rvc_format.PROJECT_ENTRY: {
            **{key: training[key] for key in ("content", "pitch", "speakers", "median_f0_hz")},
            # Checkpoints from before it could be chosen have none.
            "noise_scale": training.get("noise_scale", PRIOR_NOISE_SCALE),
        },
    }


def _features(dataset: Path, encoder: str, content_dim: int) -> StoredFeatures:
    """The features of a dataset, which are those of `encoder` with `content_dim` channels. Raises DatasetError."""
    features = StoredFeatures(dataset)
    found, dim = features.header.content["name"], features.content_dim
    if (found, dim) != (encoder, content_dim):
        raise DatasetError(
            f"'{dataset}' has features of content={found} with {dim} channels by now, but the voice takes those of "
            f"{encoder} with {content_dim}; name the dataset that it was trained on: dataset=FOLDER"
        )
    return features
