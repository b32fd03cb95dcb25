"""The slices that still lack features: a few numbers each, in a file that all ranks read."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rvc_lightning.data.features import FeatureTask
from rvc_lightning.data.fingerprints import Source
from rvc_lightning.data.layout import Layout, numbers_in, shard
from rvc_lightning.data.recordings import SlicedRecording
from rvc_lightning.errors import DatasetError
from rvc_lightning.files import atomic_path

_LACKS_PITCH, _LACKS_CONTENT = 1, 2


class PendingSlices:
    """Slices that lack their pitch, their content or both, as arrays: 17 bytes a slice."""

    def __init__(
        self,
        layout: Layout,
        folders: list[str],
        recording: np.ndarray,
        number: np.ndarray,
        seconds: np.ndarray,
        lacks: np.ndarray,
    ) -> None:
        """Takes the arrays.

        Args:
            layout: of the dataset.
            folders: of the recordings.
            recording: index of each slice's recording in `folders`.
            number: of the slice in its recording.
            seconds: its length.
            lacks: what it lacks, 1 for pitch + 2 for content.
        """
        self.layout, self.folders = layout, folders
        self.recording, self.number, self.seconds, self.lacks = recording, number, seconds, lacks
        self.lacks_content = (lacks & _LACKS_CONTENT) > 0

    @classmethod
    def find(
        cls, layout: Layout, recordings: Iterable[tuple[Source, SlicedRecording]], sample_rate: int
    ) -> PendingSlices:
        """Looks for what is missing; slices of `recordings` are at `sample_rate` Hz."""
        folders: list[str] = []
        columns = array("I"), array("I"), array("d"), array("B")
        for source, done in recordings:
            folder = shard(source.folder)
            with_pitch, with_content = numbers_in(layout.pitch / folder), numbers_in(layout.content / folder)
            before = len(columns[0])
            for entry in done.slices:
                lacks = _LACKS_PITCH * (entry.number not in with_pitch)
                lacks += _LACKS_CONTENT * (entry.number not in with_content)
                if lacks:
                    values = (len(folders), entry.number, entry.samples / sample_rate, lacks)
                    for column, value in zip(columns, values, strict=True):
                        column.append(value)  # type: ignore[attr-defined]
            if len(columns[0]) > before:
                folders.append(source.folder)
        dtypes = (np.uint32, np.uint32, np.float64, np.uint8)
        return cls(layout, folders, *(np.array(c, dtype=dtype) for c, dtype in zip(columns, dtypes, strict=True)))

    def save(self, path: Path) -> None:
        """Writes them, atomically."""
        names = np.frombuffer("\n".join(self.folders).encode(), dtype=np.uint8)
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                names=names,
                recording=self.recording,
                number=self.number,
                seconds=self.seconds,
                lacks=self.lacks,
            )

    @classmethod
    def load(cls, path: Path, layout: Layout) -> PendingSlices:
        """Reads what another process has saved.

        Raises:
            DatasetError: there is no such file here.
        """
        try:
            with np.load(path, allow_pickle=False) as data:
                folders = data["names"].tobytes().decode().split("\n")
                return cls(layout, folders, *(data[key] for key in ("recording", "number", "seconds", "lacks")))
        except (OSError, ValueError, KeyError) as error:
            raise DatasetError(
                f"'{path}', which the first rank has written, cannot be read ({error}): the dataset's folder has to be "
                "on a disk that all machines share"
            ) from error

    def __len__(self) -> int:
        return len(self.lacks)

    def __getitem__(self, index: int) -> FeatureTask:
        """What a slice lacks, and where it belongs."""
        lacks = int(self.lacks[index])
        audio, f0, content = self.layout.files(self.folders[self.recording[index]], int(self.number[index]))
        return FeatureTask(
            audio,
            float(self.seconds[index]),
            f0 if lacks & _LACKS_PITCH else None,
            content if lacks & _LACKS_CONTENT else None,
        )
