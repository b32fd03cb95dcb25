"""Prepared slices as training examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rvc_lightning.audio.frames import CONTENT_REPEAT, hop_samples
from rvc_lightning.data.batch import Example
from rvc_lightning.data.manifest import ManifestRow
from rvc_lightning.errors import DatasetError
from rvc_lightning.io.files import read_npy

CACHES = ("none", "memory")
"""Where slices may be kept once they are read."""

_REMEDY = "delete that file if it is there, and prepare again: what is missing is made again"


def read_feature(path: Path, dimensions: int) -> np.ndarray:
    """Read a feature file of a prepared dataset, as `rvc_lightning.io.files.read_npy`.

    Raises:
        DatasetError: it is missing or damaged; the message says how it is made again.
    """
    try:
        return read_npy(path, dimensions)
    except (OSError, ValueError) as error:
        raise DatasetError(f"'{path}' cannot be read: {error}; {_REMEDY}") from error


class SliceDataset(Dataset[Example]):
    """Reads one slice with its pitch and content features at a time."""

    def __init__(self, folder: Path, rows: Sequence[ManifestRow], max_frames: int) -> None:
        """Prepares to read.

        Args:
            folder: The prepared dataset, which the rows' paths are relative to.
            rows: The slices.
            max_frames: Longer slices are cut to this many frames of 10 ms.
        """
        self.folder, self.rows, self.max_frames = folder, rows, max_frames

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        """The slice at `index`, cut to the frames that all of its parts cover.

        Raises:
            DatasetError: A file of the slice is missing or damaged.
        """
        row = self.rows[index]
        path = self.folder / row.audio
        try:
            waveform, _ = soundfile.read(path, dtype="float32")
            path = self.folder / row.f0
            f0_hz = read_npy(path, 1).astype(np.float32)
            path = self.folder / row.content
            content = read_npy(path, 2).astype(np.float32)
        except (OSError, ValueError, soundfile.LibsndfileError) as error:
            raise DatasetError(
                f"slice '{row.id}' in '{self.folder}' cannot be read, for '{path}': {error}; {_REMEDY}"
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
    """The same clip of digital silence for each speaker, as often as asked for; only its content is on disk.

    Networks that have never seen silence may hum or hiss where a source has none of it, such as between the phrases of
    a song whose vocals were separated. The other RVC tools add such clips too (specification 14.4).
    """

    def __init__(
        self, content: Path, speaker_count: int, clips_per_speaker: int, sample_rate: int, max_frames: int
    ) -> None:
        """Reads the content of silence.

        Args:
            content: npy [F, C], what the encoder makes of silence.
            speaker_count: Speakers 0 .. speaker_count - 1 get clips.
            clips_per_speaker: How many each.
            sample_rate: Of the voice, Hz.
            max_frames: Longer clips are cut to this many frames of 10 ms.

        Raises:
            DatasetError: The file is missing or damaged.
        """
        self.content = torch.from_numpy(read_feature(content, 2).astype(np.float32))
        self.frames = min(CONTENT_REPEAT * len(self.content), max_frames)
        self.samples = self.frames * hop_samples(sample_rate)
        self.speakers = [speaker for speaker in range(speaker_count) for _ in range(clips_per_speaker)]

    def __len__(self) -> int:
        return len(self.speakers)

    def __getitem__(self, index: int) -> Example:
        """A clip of the speaker at `index`."""
        return Example(
            id=f"silence/{index}",
            content=self.content,
            f0_hz=torch.zeros(self.frames),
            waveform=torch.zeros(self.samples),
            frames=self.frames,
            speaker=self.speakers[index],
        )


class CachedSlices(Dataset[Example]):
    """All slices of a dataset, read once.

    They lie in a few long tensors in shared memory, so that all loading processes use the same copy, however they are
    started. A cache on the device would spare nothing that is noticed: batches are copied there while the step before
    runs.
    """

    def __init__(self, slices: Dataset[Example]) -> None:
        """Reads all of `slices`, which has a length.

        Raises:
            DatasetError: A file is missing or damaged.
        """
        examples = [slices[index] for index in range(len(slices))]  # type: ignore[arg-type]
        self.facts = [(example.id, example.frames, example.speaker) for example in examples]
        self.content = _Joined([_smallest(example.content) for example in examples])
        self.f0_hz = _Joined([example.f0_hz for example in examples])
        self.waveform = _Joined([example.waveform for example in examples])

    def __len__(self) -> int:
        return len(self.facts)

    def __getitem__(self, index: int) -> Example:
        """The slice at `index`."""
        name, frames, speaker = self.facts[index]
        content, f0_hz, waveform = self.content[index].float(), self.f0_hz[index], self.waveform[index]
        return Example(name, content, f0_hz, waveform, frames, speaker)


def _smallest(values: Tensor) -> Tensor:
    """`values` in half precision, as features are stored, if that loses nothing."""
    half = values.half()
    return half if torch.equal(half.float(), values) else values


class _Joined:
    """Tensors [T, ...] one behind the other in shared memory."""

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self.values = torch.cat(list(parts)).share_memory_()
        self.ends = torch.tensor([0, *(len(part) for part in parts)]).cumsum(0).tolist()

    def __getitem__(self, index: int) -> Tensor:
        return self.values[self.ends[index] : self.ends[index + 1]]
