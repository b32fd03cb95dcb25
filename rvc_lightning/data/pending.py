"""The slices that still lack features: a few numbers each, in a file that all ranks read."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from rvc_lightning.data.features import FeatureTask
from rvc_lightning.data.fingerprints import Source
from rvc_lightning.data.layout import Layout, numbers_in, shard
from rvc_lightning.data.recordings import SlicedRecording
from rvc_lightning.errors import DatasetError
from rvc_lightning.io.files import atomic_path

SILENCE_SECONDS = 3.0
"""As long as the silent clips of the other RVC tools (specification 14.4)."""

_LACKS_PITCH, _LACKS_CONTENT = 1, 2
# In place of a recording.
_SILENCE = 2**32 - 1


def missing_features(
    layout: Layout, source: Source, done: SlicedRecording, clear: bool = False
) -> Iterator[tuple[int, int, int]]:
    """Number, samples and what it lacks (1 for pitch + 2 for content) of each slice that lacks something.

    Args:
        layout: of the dataset.
        source: the recording.
        done: what it gave.
        clear: whether to take away what a killed process has left unfinished.
    """
    folder = shard(source.folder)
    with_pitch, with_content = (numbers_in(part / folder, clear) for part in (layout.pitch, layout.content))
    for entry in done.slices:
        lacks = _LACKS_PITCH * (entry.number not in with_pitch) + _LACKS_CONTENT * (entry.number not in with_content)
        if lacks:
            yield entry.number, entry.samples, lacks


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
            recording: index of each slice's recording in `folders`; the largest number for silence.
            number: of the slice in its recording.
            seconds: its length.
            lacks: what it lacks, 1 for pitch + 2 for content.
        """
        self.layout, self.folders = layout, folders
        self.recording, self.number, self.seconds, self.lacks = recording, number, seconds, lacks
        self.lacks_content = (lacks & _LACKS_CONTENT) > 0

    @classmethod
    def find(cls, layout: Layout, recordings: Iterable[tuple[Source, SlicedRecording]]) -> PendingSlices:
        """Looks for what is missing, the content of silence included."""
        folders: list[str] = []
        columns = array("I"), array("I"), array("d"), array("B")

        def add(*values: float) -> None:
            for column, value in zip(columns, values, strict=True):
                column.append(value)  # type: ignore[attr-defined]

        for source, done in recordings:
            for number, samples, lacks in missing_features(layout, source, done, clear=True):
                if not folders or folders[-1] != source.folder:
                    folders.append(source.folder)
                add(len(folders) - 1, number, samples / layout.sample_rate, lacks)
        if not layout.silence[1].exists():
            add(_SILENCE, 0, SILENCE_SECONDS, _LACKS_CONTENT)
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
        if self.recording[index] == _SILENCE:
            return FeatureTask(self.layout.silence[0], SILENCE_SECONDS, None, self.layout.silence[1])
        audio, f0, content = self.layout.files(self.folders[self.recording[index]], int(self.number[index]))
        return FeatureTask(
            audio,
            float(self.seconds[index]),
            f0 if lacks & _LACKS_PITCH else None,
            content if lacks & _LACKS_CONTENT else None,
        )
