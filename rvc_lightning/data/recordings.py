"""The first stage of preparation: recordings become slices, in as many processes as are given.

Each recording has a folder of its own, named by its stem with a hash of its content and its path; the done-mark in it
is written last, so a folder that has one is whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from rvc_lightning.audio.decode import decode_audio, resample
from rvc_lightning.audio.discovery import Discovery, SkippedFile, display_name
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.data.slicing import LeftOut, SlicingConfig, cut_recording
from rvc_lightning.errors import AudioError
from rvc_lightning.files import digest, read_json, write_json

logger = logging.getLogger(__name__)

_DONE_MARK = "recording.json"
_STEM_LENGTH = 40


@dataclass(frozen=True)
class Source:
    """A recording of the input.

    Attributes:
        path: where it is.
        name: its path relative to the input, as text.
        speaker_id: number of the speaker as the folders name it.
        digest: of its content.
        folder: name of its folders in the dataset.
    """

    path: Path
    name: str
    speaker_id: int
    digest: str
    folder: str


@dataclass(frozen=True)
class SliceEntry:
    """A slice of a recording.

    Attributes:
        name: of its file, without extension.
        samples: its length.
        start_seconds: where it starts in the recording.
    """

    name: str
    samples: int
    start_seconds: float


@dataclass(frozen=True)
class SlicedRecording:
    """What a recording gave; its done-mark as JSON.

    Attributes:
        recording: path relative to the input.
        seconds: its length.
        sample_rate: its own, Hz.
        warning: what is wrong with the file although it is used.
        slices: in order of time; none if nothing is usable.
        left_out: stretches that would be slices but for their reason.
        silence_seconds: silence that was dropped.
    """

    recording: str
    seconds: float
    sample_rate: int
    warning: str | None
    slices: list[SliceEntry]
    left_out: list[LeftOut]
    silence_seconds: float

    @classmethod
    def read(cls, folder: Path) -> SlicedRecording | None:
        """What an earlier run left in a folder, or None where it is not whole."""
        try:
            values = read_json(folder / _DONE_MARK)
            values["slices"] = [SliceEntry(**entry) for entry in values["slices"]]
            values["left_out"] = [LeftOut(**part) for part in values["left_out"]]
            done = cls(**values)
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return done if all((folder / f"{entry.name}.wav").exists() for entry in done.slices) else None


def fingerprint_recordings(root: Path, discovery: Discovery) -> tuple[list[Source], list[SkippedFile]]:
    """Digest every recording below `root`; those that cannot be read come with the reason."""

    def one(relative: Path) -> Source | SkippedFile:
        name = display_name(relative)
        try:
            content = digest(root / relative)
        except OSError as error:
            return SkippedFile(name, f"it cannot be read: {error.strerror}")
        stem = re.sub(r"[^\w-]+", "_", Path(name).stem)[:_STEM_LENGTH]
        folder = f"{stem}-{hash8(content, relative.as_posix())}"
        return Source(root / relative, name, _speaker_id(relative), content, folder)

    # Threads suffice: hashing leaves the interpreter free.
    with ThreadPoolExecutor() as threads:
        results = list(threads.map(one, discovery.recordings))
    sources = [result for result in results if isinstance(result, Source)]
    return sources, [result for result in results if isinstance(result, SkippedFile)]


def slice_recordings(
    sources: Sequence[Source], root: Path, sample_rate: int, slicing: SlicingConfig, num_workers: int
) -> tuple[dict[str, SlicedRecording], list[SkippedFile]]:
    """Slice what is not sliced yet.

    Args:
        sources: the recordings.
        root: folder of the slices; each recording has a folder in it.
        sample_rate: of the slices, Hz.
        slicing: how to cut and level.
        num_workers: processes; 0 does it in this process.

    Returns:
        The recordings that gave slices, by their folder, and the others with the reason.
    """
    results: dict[str, SlicedRecording | SkippedFile] = {}
    for source in sources:
        if done := SlicedRecording.read(root / source.folder):
            results[source.folder] = done
    pending = [source for source in sources if source.folder not in results]
    if pending:
        logger.info("slicing %d recordings; %d are sliced already", len(pending), len(results))
        dataset = _SlicingDataset(pending, root, sample_rate, slicing)
        loader = DataLoader(dataset, batch_size=None, num_workers=num_workers, in_order=False)
        results.update(tqdm(loader, desc="slicing", unit="recording", disable=None))
    sliced = {folder: done for folder, done in results.items() if isinstance(done, SlicedRecording) and done.slices}
    failed = [
        done if isinstance(done, SkippedFile) else SkippedFile(done.recording, _reasons(done))
        for folder, done in results.items()
        if folder not in sliced
    ]
    return sliced, failed


class _SlicingDataset(Dataset):
    """Slices a recording when asked for it; a data loader's workers make it a process pool."""

    def __init__(self, sources: Sequence[Source], root: Path, sample_rate: int, slicing: SlicingConfig) -> None:
        self.sources = sources
        self.root = root
        self.sample_rate = sample_rate
        self.slicing = slicing

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> tuple[str, SlicedRecording | SkippedFile]:
        source = self.sources[index]
        try:
            return source.folder, self._slice(source)
        except AudioError as error:
            return source.folder, SkippedFile(source.name, str(error).removeprefix(f"'{source.path}' "))

    def _slice(self, source: Source) -> SlicedRecording:
        decoded = decode_audio(source.path)
        audio = resample(decoded.audio, decoded.sample_rate, self.sample_rate)
        cut = cut_recording(audio, self.sample_rate, self.slicing)
        folder = self.root / source.folder
        entries: list[SliceEntry] = []
        for number, piece in enumerate(cut.slices):
            entry = SliceEntry(f"{number:04}", len(piece.audio), piece.start_seconds)
            write_audio(folder / f"{entry.name}.wav", piece.audio, self.sample_rate, subtype="FLOAT")
            entries.append(entry)
        done = SlicedRecording(
            recording=source.name,
            seconds=len(audio) / self.sample_rate,
            sample_rate=decoded.sample_rate,
            warning=decoded.warning,
            slices=entries,
            left_out=cut.left_out,
            silence_seconds=cut.silence_seconds,
        )
        write_json(folder / _DONE_MARK, asdict(done))
        return done


def hash8(*values: object) -> str:
    """Eight hex digits that stand for plain values."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def _speaker_id(relative: Path) -> int:
    """The number of the speaker: the name of the topmost sub-folder if that is a whole number, else 0."""
    top = relative.parts[0] if len(relative.parts) > 1 else ""
    return int(top) if top.isdecimal() else 0


def _reasons(done: SlicedRecording) -> str:
    """Why a recording gave no slice: each reason once."""
    return "nothing usable: " + "; ".join(dict.fromkeys(part.reason for part in done.left_out))
