"""Prepared slices as training examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch.utils.data import Dataset

from rvc_lightning.data.batch import CONTENT_REPEAT, Example
from rvc_lightning.data.manifest import ManifestRow
from rvc_lightning.errors import DatasetError
from rvc_lightning.files import read_npy


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
        try:
            waveform, _ = soundfile.read(self.folder / row.audio, dtype="float32")
            f0_hz = read_npy(self.folder / row.f0, 1).astype(np.float32)
            content = read_npy(self.folder / row.content, 2).astype(np.float32)
        except (OSError, ValueError, soundfile.LibsndfileError) as error:
            raise DatasetError(f"slice '{row.id}' in '{self.folder}' cannot be read: {error}; prepare again") from error
        frames = min(CONTENT_REPEAT * len(content), len(f0_hz), row.frames, self.max_frames)
        return Example(
            id=row.id,
            content=torch.from_numpy(content),
            f0_hz=torch.from_numpy(f0_hz),
            waveform=torch.from_numpy(waveform),
            frames=frames,
            speaker=row.speaker,
        )
