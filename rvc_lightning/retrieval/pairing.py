"""The index beside a voice: made of its dataset's features, and known again by what it was made of.

NAME.pth           the voice; its information has the fingerprint of the features
NAME.index         their index (specification 11.1)
NAME.index.json    the `IndexOrigin`; other tools pass it over
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rvc_lightning.data.manifest import DatasetHeader, read_header, read_manifest
from rvc_lightning.errors import DatasetError, VoiceError
from rvc_lightning.io.files import link_or_copy, map_npy, read_json, write_json
from rvc_lightning.retrieval.index import IndexConfig, build_index, save_index

log = logging.getLogger(__name__)

# Part of every origin: raise it when the same features and settings begin to give another index.
_REVISION = 1
_HEAD_BYTES = 1 << 20
FEATURES_KEY = "features"
"""Entry of a voice's own information with the fingerprint of the features that it was exported with."""


class StoredFeatures(Sequence[np.ndarray]):
    """The content features of a prepared dataset: slice by slice in the order of its manifest, read when asked for."""

    def __init__(self, dataset: Path) -> None:
        """Reads the manifest.

        Raises:
            DatasetError: It is no prepared dataset.
        """
        self.dataset = dataset
        self.header: DatasetHeader = read_header(dataset)
        self._files = [row.content for row in read_manifest(dataset)]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, i: Any) -> Any:
        """[F, C] as on the disk. Raises DatasetError if the file is missing or damaged."""
        try:
            return map_npy(self.dataset / self._files[i], 2)
        except (OSError, ValueError) as error:
            raise DatasetError(f"the features in '{self.dataset}' cannot be read: {error}; prepare it again") from error

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    @property
    def content_dim(self) -> int:
        """C, channels of the first slice; 0 where there is none."""
        return self[0].shape[1] if len(self) else 0

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits of all features in their order, which are read for it."""
        state = hashlib.blake2b(digest_size=16)
        for features in self:
            state.update(f"{features.shape} {features.dtype.str}".encode())
            state.update(np.ascontiguousarray(features).data)
        return state.hexdigest()


@dataclass(frozen=True)
class IndexOrigin:
    """What an index was made of."""

    features: str
    """Fingerprint of the features."""
    content: str
    """Name of their content encoder."""
    settings: dict[str, Any]
    """Of building: the fields of `IndexConfig`, and the seed."""
    revision: int = _REVISION
    """Of the way to build."""

    def write(self, index: Path) -> None:
        """Keeps it beside the file `index`, which is there."""
        write_json(_origin_path(index), asdict(self) | {"file": _identity(index)})

    @classmethod
    def read(cls, index: Path) -> IndexOrigin | None:
        """That of the file `index`; None if it is not known, as for one that another tool has put there since."""
        try:
            values = read_json(_origin_path(index))
            return cls(**values) if values.pop("file", None) == _identity(index) else None
        except (OSError, ValueError, TypeError):
            return None


def update_index(path: Path, features: StoredFeatures, seed: int, config: IndexConfig) -> Path:
    """Builds the index of `features`, unless `path` is just that; gives the path back.

    Raises:
        VoiceError: The features make no index.
        DatasetError: One of their files is missing or damaged.
    """
    settings = asdict(config) | {"seed": seed}
    origin = IndexOrigin(features.fingerprint, features.header.content["name"], settings)
    if IndexOrigin.read(path) == origin:
        log.info("The index is that of these features already: '%s'", path)
        return path
    save_index(build_index(features, seed, config), path)
    origin.write(path)
    return path


def keep_index_as(path: Path, kept: Path) -> None:
    """Gives an index, and its origin where that is known, a second name; errors as of `files.link_or_copy`."""
    link_or_copy(path, kept)
    if _origin_path(path).is_file():
        link_or_copy(_origin_path(path), _origin_path(kept))
    else:
        _origin_path(kept).unlink(missing_ok=True)


def remove_index(path: Path) -> None:
    """Removes an index and its origin, where there are any."""
    path.unlink(missing_ok=True)
    _origin_path(path).unlink(missing_ok=True)


def check_origin(index: Path, content_encoder: str, fingerprint: object) -> None:
    """Compare an index with the voice that is to use it.

    Features of another encoder are not comparable with the voice's, whatever their size: the result would be noise.
    Other recordings of the same encoder do work, and may be intended, so they cause a warning only.

    Args:
        index: Index file.
        content_encoder: Content encoder of the voice.
        fingerprint: Fingerprint of the features that the voice was exported with; None, or any other value in a voice
            from strangers, if unknown.

    Raises:
        VoiceError: The index contains features of another content encoder.
    """
    origin = IndexOrigin.read(index)
    if origin is None:
        return
    if origin.content != content_encoder:
        raise VoiceError(
            f"the index '{index}' contains features of content={origin.content}, but the voice uses {content_encoder}; "
            "export the voice again, or use index_rate=0"
        )
    if isinstance(fingerprint, str) and origin.features != fingerprint:
        log.warning(
            "The index '%s' was built from other recordings or features than those that the voice was exported with; "
            "if that is not intended, export the voice again",
            index,
        )


def _origin_path(index: Path) -> Path:
    return index.with_name(f"{index.name}.json")


def _identity(index: Path) -> str:
    """Tells the file `index` from others: by its size and its first MiB, the centres of its lists or its first rows."""
    with index.open("rb") as stream:
        head = hashlib.blake2b(stream.read(_HEAD_BYTES), digest_size=16).hexdigest()
    return f"{index.stat().st_size} {head}"
