"""The index of a voice and its origin: built from a prepared dataset, and rebuilt when its origin changes.

NAME.pth           the voice; its information contains the fingerprint of the features
NAME.index         the index of the features (SPECIFICATION.md, section 11.1)
NAME.index.json    the `IndexOrigin`; other tools ignore it
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

from rvc_lightning.data.dataset import read_feature
from rvc_lightning.data.manifest import DatasetHeader, read_header, read_used_rows
from rvc_lightning.errors import VoiceError
from rvc_lightning.io.files import link_or_copy, read_json, write_json
from rvc_lightning.retrieval.index import IndexConfig, build_index, save_index

log = logging.getLogger(__name__)

FEATURES_KEY = "features"
"""Entry of a voice's own information with the fingerprint of the features that it was exported with."""

# Part of every origin: increment it when the same features and settings result in another index.
_REVISION = 1
_HEAD_BYTES = 1 << 20


class StoredFeatures(Sequence[np.ndarray]):
    """The content features of a prepared dataset, in the order of its manifest; a slice is read on access."""

    def __init__(self, dataset: Path) -> None:
        """Read the manifest. Raises DatasetError if the folder is not a prepared dataset."""
        self.dataset = dataset
        self.header: DatasetHeader = read_header(dataset)
        self._files = [row.content for row in read_used_rows(dataset)]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, i: Any) -> Any:
        """Return a slice, [F, C], mapped from disk. Raises DatasetError if the file is missing or damaged."""
        return read_feature(self.dataset / self._files[i], 2)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    @property
    def content_dim(self) -> int:
        """C, number of channels of the first slice; 0 without slices."""
        return self[0].shape[1] if len(self) else 0

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all features in their order, 32 hex digits; reads all of them."""
        state = hashlib.blake2b(digest_size=16)
        for features in self:
            state.update(f"{features.shape} {features.dtype.str}".encode())
            state.update(np.ascontiguousarray(features).data)
        return state.hexdigest()


@dataclass(frozen=True)
class IndexOrigin:
    """Features and settings that an index was built from."""

    features: str
    """Fingerprint of the features."""
    content: str
    """Name of their content encoder."""
    settings: dict[str, Any]
    """Fields of `IndexConfig`, and the seed."""
    revision: int = _REVISION
    """Revision of the algorithm."""

    def write(self, index: Path) -> None:
        """Write the origin beside an existing index file."""
        write_json(origin_path(index), asdict(self) | {"file": _identity(index)})

    @classmethod
    def read(cls, index: Path) -> IndexOrigin | None:
        """Return the origin of an index file; None if unknown, or if the index was replaced since."""
        try:
            values = read_json(origin_path(index))
            return cls(**values) if values.pop("file", None) == _identity(index) else None
        except (OSError, ValueError, TypeError):
            return None


def update_index(path: Path, features: StoredFeatures, seed: int, config: IndexConfig | None = None) -> Path:
    """Build the index of `features`, unless `path` has that origin already, and return `path`.

    Raises:
        VoiceError: An index cannot be built from the features.
        DatasetError: A feature file is missing or damaged.
    """
    settings = {**(asdict(config) if config else {}), "seed": seed}
    origin = IndexOrigin(features.fingerprint, features.header.content["name"], settings)
    if IndexOrigin.read(path) == origin:
        log.info("The index is up to date: '%s'", path)
        return path
    save_index(build_index(features, seed, config), path)
    origin.write(path)
    return path


def link_index(source: Path, target: Path) -> None:
    """Link an index and its origin, if known, to a second name; errors as in `io.files.link_or_copy`."""
    link_or_copy(source, target)
    if origin_path(source).is_file():
        link_or_copy(origin_path(source), origin_path(target))
    else:
        origin_path(target).unlink(missing_ok=True)


def remove_index(path: Path) -> None:
    """Remove an index and its origin if they exist."""
    path.unlink(missing_ok=True)
    origin_path(path).unlink(missing_ok=True)


def check_origin(index: Path, content_encoder: str, fingerprint: object) -> None:
    """Check that an index fits a voice, by the features that it was built from.

    Features of another encoder would give noise, even with the same number of channels. Features of other recordings
    work, and may be intended, so they only cause a warning.

    Args:
        index: Index file.
        content_encoder: Content encoder of the voice.
        fingerprint: Fingerprint of the features that the voice was exported with; unknown unless it is a string.

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
            "The index '%s' was built from other recordings or features than those of the voice; "
            "if that is not intended, export the voice again",
            index,
        )


def origin_path(index: Path) -> Path:
    """Return the path of the origin of an index file."""
    return index.with_name(f"{index.name}.json")


def _identity(index: Path) -> str:
    """Return the size of an index file and a digest of its first MiB: list centres, or the first rows."""
    with index.open("rb") as stream:
        head = hashlib.blake2b(stream.read(_HEAD_BYTES), digest_size=16).hexdigest()
    return f"{index.stat().st_size} {head}"
