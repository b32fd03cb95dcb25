"""Prepared slices as training examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset

from rvc_lightning.audio.frames import CONTENT_REPEAT, hop_samples
from rvc_lightning.audio.soundfile_reader import sound_path
from rvc_lightning.data.batch import Example
from rvc_lightning.data.manifest import ManifestRow
from rvc_lightning.errors import DatasetError
from rvc_lightning.io.files import map_npy

CACHES = ("none", "memory")
"""Values of data.cache: where slices are cached after reading."""

_REMEDY = "delete that file if it exists and prepare again, which creates missing files"


def read_feature(path: Path, dimensions: int) -> np.ndarray:
    """Map a feature file of a prepared dataset, as `rvc_lightning.io.files.map_npy`.

    Raises:
        DatasetError: The file is missing or damaged; the message gives the remedy.
    """
    try:
        return map_npy(path, dimensions)
    except (OSError, ValueError) as error:
        raise DatasetError(f"'{path}' cannot be read: {error}; {_REMEDY}") from error


class SliceDataset(Dataset[Example]):
    """Slices with their pitch and content features, read from disk on access."""

    def __init__(self, folder: Path, rows: Sequence[ManifestRow], max_frames: int) -> None:
        """Read slices of the dataset in `folder`, truncated to `max_frames` of 10 ms."""
        self.folder, self.rows, self.max_frames = folder, rows, max_frames

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        """Read a slice, truncated to the frames that audio, pitch and content all cover.

        Raises:
            DatasetError: A file of the slice is missing or damaged.
        """
        row = self.rows[index]
        path = self.folder / row.audio
        try:
            waveform, _ = soundfile.read(sound_path(path), dtype="float32")
            if len(waveform) < row.samples:
                raise ValueError(f"it has {len(waveform)} samples instead of {row.samples}")
            path = self.folder / row.f0
            f0_hz = map_npy(path, 1).astype(np.float32)
            path = self.folder / row.content
            content = map_npy(path, 2).astype(np.float32)
        except (OSError, ValueError, soundfile.LibsndfileError) as error:
            raise DatasetError(
                f"slice '{row.id}' in '{self.folder}' cannot be read from '{path}': {error}; {_REMEDY}"
            ) from error
        frames = min(CONTENT_REPEAT * len(content), len(f0_hz), row.frames, self.max_frames)
        return Example(
            id=row.id,
            content=torch.from_numpy(content),
            f0_hz=torch.from_numpy(f0_hz),
            waveform=torch.from_numpy(waveform),
            frames=frames,
            speaker=row.speaker,
        )


class SilentClips(Dataset[Example]):
    """Clips of digital silence for each speaker.

    Networks trained without silence may hum or hiss where the input is silent, for example between the phrases of
    separated vocals. Other RVC tools add such clips as well (SPECIFICATION.md, section 14.4).
    """

    def __init__(
        self, content: Path, speakers: Iterable[int], clips_per_speaker: int, sample_rate: int, max_frames: int
    ) -> None:
        """Read the content of silence, npy [F, C]. Raises DatasetError if that file is missing or damaged."""
        self.content = torch.from_numpy(read_feature(content, 2).astype(np.float32))
        self.frames = min(CONTENT_REPEAT * len(self.content), max_frames)
        self.samples = self.frames * hop_samples(sample_rate)
        self.speakers = [speaker for speaker in speakers for _ in range(clips_per_speaker)]

    def __len__(self) -> int:
        return len(self.speakers)

    def __getitem__(self, index: int) -> Example:
        """Return a clip."""
        return Example(
            id=f"silence/{index}",
            content=self.content,
            f0_hz=torch.zeros(self.frames),
            waveform=torch.zeros(self.samples),
            frames=self.frames,
            speaker=self.speakers[index],
        )


class CachedSlices(Dataset[Example]):
    """All slices of a dataset, cached in memory.

    They are stored in a few long tensors in shared memory, so that all workers use the same copy, whether they are
    forked or spawned. A slice that is used several times, with content at other speeds, shares pitch and waveform. A
    cache on the device would gain little, since batches are copied there during the previous step.
    """

    def __init__(self, slices: SliceDataset | ConcatDataset[Example]) -> None:
        """Read all of `slices`. Raises DatasetError if a file is missing or damaged."""
        self.rows, contents, originals = [], [], dict[str, Example]()
        for index in range(len(slices)):
            example = slices[index]
            self.rows.append((example.id, example.frames, example.speaker))
            contents.append(_compact(example.content))
            originals.setdefault(example.id, example)
        self.positions = {name: position for position, name in enumerate(originals)}
        self.content = _ConcatTensors(contents)
        self.f0_hz = _ConcatTensors([example.f0_hz for example in originals.values()])
        self.waveform = _ConcatTensors([example.waveform for example in originals.values()])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        """Return a slice."""
        name, frames, speaker = self.rows[index]
        position = self.positions[name]
        f0_hz, waveform = self.f0_hz[position], self.waveform[position]
        return Example(name, self.content[index].float(), f0_hz, waveform, frames, speaker)


def _compact(values: Tensor) -> Tensor:
    """Convert to half precision, as features are stored, if that is exact."""
    half = values.half()
    return half if torch.equal(half.float(), values) else values


class _ConcatTensors:
    """Tensors [T, ...], concatenated in shared memory."""

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self.values = torch.cat(list(parts)).share_memory_()
        self.ends = torch.tensor([0, *(len(part) for part in parts)]).cumsum(0).tolist()

    def __getitem__(self, index: int) -> Tensor:
        return self.values[self.ends[index] : self.ends[index + 1]]
