"""The slices of a dataset that lack pitch or content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rvc_lightning.data.layout import SILENCE, Layout, existing_slices, recording_path
from rvc_lightning.data.recordings import Recording
from rvc_lightning.data.slice_files import SlicingResult

SILENCE_SECONDS = 3.0
"""Length of the silent clip, as in other RVC tools (SPECIFICATION.md, section 14.4)."""

_SLICE = np.dtype(
    [("folder", np.uint32), ("number", np.uint32), ("seconds", np.float64), ("pitch", bool), ("content", bool)]
)


class FeatureTask(NamedTuple):
    """A slice that lacks features. A tuple, since Lightning rejects frozen dataclasses in a batch.

    Attributes:
        audio: The slice.
        seconds: Its length.
        f0: File to write the pitch to; None if it exists.
        content: File to write the content to; None if it exists.
    """

    audio: Path
    seconds: float
    f0: Path | None
    content: Path | None


@dataclass
class PendingSlices:
    """The slices that lack features, 18 bytes each.

    Attributes:
        layout: Folders of the dataset.
        folders: Names of the recordings' folders.
        slices: Structured array [N]: index into `folders`, number in the recording, length in seconds, and whether
            pitch and content are missing.
    """

    layout: Layout
    folders: list[str]
    slices: np.ndarray

    @classmethod
    def find(cls, layout: Layout, results: Iterable[tuple[Recording, SlicingResult]]) -> PendingSlices:
        """Search a dataset for missing features, those of silence included."""
        folders: list[str] = []

        def rows() -> Iterator[tuple[int, int, float, bool, bool]]:
            for recording, result in results:
                folders.append(recording.folder)
                for number, samples, pitch, content in missing_features(layout, recording, result, clean=True):
                    yield len(folders) - 1, number, samples / layout.sample_rate, pitch, content
            folders.append(SILENCE)
            if not layout.slice_paths(SILENCE, 0)[2].exists():
                yield len(folders) - 1, 0, SILENCE_SECONDS, False, True

        slices = np.fromiter(rows(), _SLICE)
        return cls(layout, folders, slices)

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, index: int) -> FeatureTask:
        folder, number, seconds, pitch, content = self.slices[index].item()
        paths = self.layout.slice_paths(self.folders[folder], number)
        return FeatureTask(paths[0], seconds, paths[1] if pitch else None, paths[2] if content else None)


def missing_features(
    layout: Layout, recording: Recording, result: SlicingResult, clean: bool = False
) -> Iterator[tuple[int, int, bool, bool]]:
    """Yield the slices of a recording that lack features: number, samples, whether pitch and content are missing.

    Args:
        layout: Folders of the dataset.
        recording: The recording.
        result: The result of slicing it.
        clean: Whether to delete temporary files that a killed process has left.
    """
    folder = recording_path(recording.folder)
    with_pitch = existing_slices(layout.pitch / folder, clean)
    with_content = existing_slices(layout.content / folder, clean)
    for entry in result.slices:
        pitch, content = entry.number not in with_pitch, entry.number not in with_content
        if pitch or content:
            yield entry.number, entry.samples, pitch, content
