"""The first stage of preparation: cut recordings into slices, in several processes.

Each recording has its own folder, see `rvc_lightning.data.layout`. `recording.json` in it is written last, so a folder
with that file is complete. A long recording is read, filtered and cut in blocks, with the same result as in one piece.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from torch.utils.data import DataLoader, Dataset

from rvc_lightning.audio.decode import open_audio
from rvc_lightning.audio.discovery import SkippedFile
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.audio.levels import LevelMeter, Levels
from rvc_lightning.audio.samples import collected
from rvc_lightning.audio.stages import Resampler, run
from rvc_lightning.cli.columns import pluralize
from rvc_lightning.cli.progress import Progress
from rvc_lightning.data.layout import existing_slices, recording_path, slice_path
from rvc_lightning.data.recordings import Recording
from rvc_lightning.data.slicing import CutPlan, SkippedPart, SlicingConfig, clean_blocks, cut, plan_cut
from rvc_lightning.errors import AudioError
from rvc_lightning.io.disk import explain_write_errors
from rvc_lightning.io.files import digest, read_json, write_json
from rvc_lightning.io.workers import end_with_parent
from rvc_lightning.separation.store import PartStore

logger = logging.getLogger(__name__)

_RESULT_NAME = "recording.json"


@dataclass(frozen=True, slots=True)
class SliceEntry:
    """A slice of a recording."""

    number: int
    """Index of the slice in its recording."""
    samples: int
    """Length at the rate of the slices."""
    start_seconds: float
    """Start in the recording."""


@dataclass(frozen=True)
class SlicingResult:
    """The result of slicing a recording, stored as `recording.json`."""

    recording: str
    """Path of the recording below the input."""
    seconds: float
    sample_rate: int
    """Its original rate in Hz."""
    warning: str | None
    """Defect of the file, or None."""
    slices: list[SliceEntry]
    left_out: list[SkippedPart]
    silence_seconds: float
    """Length of the silence that was dropped."""
    levels: Levels
    """Levels of the original recording, or of its separated part."""
    sound: str
    """Digest of the samples, the same for every lossless copy of the recording."""

    @property
    def skip_reason(self) -> str:
        """Reason why a recording has no slices: the defect of the file, and the reasons of its parts."""
        defects = [self.warning] if self.warning else []
        return "nothing usable: " + "; ".join([*defects, *dict.fromkeys(part.reason for part in self.left_out)])

    @classmethod
    def read(cls, slices: Path, recording: Recording) -> SlicingResult | None:
        """Read the result for a recording from the folder of all slices; None if not found."""
        try:
            values = read_json(slices / recording_path(recording.folder) / _RESULT_NAME)
            values["slices"] = [SliceEntry(**entry) for entry in values["slices"]]
            values["left_out"] = [SkippedPart(**part) for part in values["left_out"]]
            values["levels"] = Levels(**values["levels"])
            return cls(**values)
        except (OSError, ValueError, TypeError, KeyError):
            return None


def slice_recordings(
    recordings: Sequence[Recording],
    slices: Path,
    sample_rate: int,
    slicing: SlicingConfig,
    num_workers: int,
    parts: PartStore | None = None,
) -> tuple[list[SlicingResult | SkippedFile], float | None]:
    """Slice the recordings that are not sliced yet.

    Args:
        recordings: The recordings.
        slices: Folder of all slices.
        sample_rate: Rate of the slices in Hz.
        slicing: How to cut and normalize.
        num_workers: Number of processes; 0 slices in this process.
        parts: Separated parts of recordings; required if `slicing.separate` names one.

    Returns:
        The result of each recording, or why it cannot be decoded; seconds of audio per second, None if all were sliced.
    """
    results: dict[str, SlicingResult | SkippedFile] = {}
    for recording in recordings:
        if (finished := _finished(slices, recording)) is not None:
            results[recording.folder] = finished
    pending = [recording for recording in recordings if recording.folder not in results]
    sources: dict[str, Path] = {}
    if parts is not None and pending:
        sources, failed = _separate(pending, parts, slicing.separate)
        results |= failed
        pending = [recording for recording in pending if recording.folder in sources]
    speed = None
    if pending:
        n_done = len(recordings) - len(pending)
        already = f"; {n_done} already done" if n_done else ""
        logger.info("slicing %s%s", pluralize(len(pending), "recording"), already)
        done, speed = _slice(_SlicingDataset(pending, slices, sample_rate, slicing, sources), num_workers)
        results |= done
    return [results[recording.folder] for recording in recordings], speed


def _slice(dataset: _SlicingDataset, num_workers: int) -> tuple[dict[str, SlicingResult | SkippedFile], float | None]:
    """Return the results of recordings by their folders, and seconds of audio per second; None without audio."""
    recordings, started_at = dataset.recordings, perf_counter()
    loader = DataLoader(
        dataset, batch_size=None, num_workers=num_workers, in_order=False, worker_init_fn=end_with_parent
    )
    results: dict[str, SlicingResult | SkippedFile] = {}
    with Progress("slicing", sum(recording.size_bytes for recording in recordings) / 1e6, "MB") as progress:
        for index, result in loader:
            progress.update(recordings[index].size_bytes / 1e6)
            results[recordings[index].folder] = result
    seconds = sum(result.seconds for result in results.values() if isinstance(result, SlicingResult))
    return results, seconds / (perf_counter() - started_at) or None


def _separate(
    recordings: Sequence[Recording], parts: PartStore, part: str
) -> tuple[dict[str, Path], dict[str, SkippedFile]]:
    """Return the file of a part of each recording by its folder, and the recordings that cannot be decoded."""
    logger.info("separating the %s of %s", part, pluralize(len(recordings), "recording"))
    sources: dict[str, Path] = {}
    failed: dict[str, SkippedFile] = {}
    for recording in recordings:
        try:
            sources[recording.folder] = parts.extract(recording.path, part)
        except AudioError as error:
            failed[recording.folder] = recording.skipped(error)
    return sources, failed


def _finished(slices: Path, recording: Recording) -> SlicingResult | None:
    """Return the result for a recording if all of its slices exist."""
    result = SlicingResult.read(slices, recording)
    existing = existing_slices(slices / recording_path(recording.folder))
    return result if result and {entry.number for entry in result.slices} <= existing else None


class _SlicingDataset(Dataset):
    """Dataset that slices a recording on access, so that the workers of a data loader serve as a process pool."""

    def __init__(
        self,
        recordings: Sequence[Recording],
        slices: Path,
        sample_rate: int,
        slicing: SlicingConfig,
        sources: Mapping[str, Path],
    ) -> None:
        self.recordings, self.slices, self.sample_rate, self.slicing = recordings, slices, sample_rate, slicing
        self.sources = sources

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> tuple[int, SlicingResult | SkippedFile]:
        recording = self.recordings[index]
        folder = self.slices / recording_path(recording.folder)
        try:
            # An OSError would lose its errno on the way to another process.
            with explain_write_errors(folder):
                source = self.sources.get(recording.folder, recording.path)
                return index, slice_recording(recording, source, folder, self.sample_rate, self.slicing)
        except AudioError as error:
            return index, recording.skipped(error)


def slice_recording(
    recording: Recording, source: Path, folder: Path, sample_rate: int, slicing: SlicingConfig
) -> SlicingResult:
    """Slice a recording of any length into its folder.

    Args:
        recording: The recording.
        source: Its file, or the file of a separated part.
        folder: Folder of the slices.
        sample_rate: Rate of the slices in Hz.
        slicing: How to cut and normalize.

    Raises:
        AudioError: The recording cannot be decoded, or was changed or removed since it was identified.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open_audio(source) as stream:
        meter = LevelMeter(stream.sample_rate, slicing.threshold_db)
        blocks = run(Resampler(stream.sample_rate, sample_rate), meter.watch(stream))
        with collected(clean_blocks(blocks, sample_rate, slicing), scratch=folder) as audio:
            plan = plan_cut(audio, sample_rate, slicing)
            entries, left_out = _write_slices(plan, folder, sample_rate, slicing)
        result = SlicingResult(
            recording=recording.name,
            seconds=len(audio) / sample_rate,
            sample_rate=stream.sample_rate,
            warning=stream.warning,
            slices=entries,
            left_out=left_out,
            silence_seconds=plan.silence_seconds,
            levels=meter.levels,
            sound=meter.sound,
        )
    if defect := _change(recording):
        raise AudioError(f"'{recording.path}' {defect}")
    write_json(folder / _RESULT_NAME, asdict(result))
    return result


def _change(recording: Recording) -> str | None:
    """Return how a file has changed since it was identified, so that its slices are invalid; None if unchanged."""
    try:
        is_same = digest(recording.path) == recording.digest
    except OSError as error:
        return f"cannot be read to its end: {error.strerror}"
    return None if is_same else "was changed while it was read; prepare again once it is complete"


def _write_slices(
    plan: CutPlan, folder: Path, sample_rate: int, slicing: SlicingConfig
) -> tuple[list[SliceEntry], list[SkippedPart]]:
    """Cut and write one slice at a time."""
    entries: list[SliceEntry] = []
    left_out: list[SkippedPart] = []
    for part in cut(plan, sample_rate, slicing):
        if isinstance(part, SkippedPart):
            left_out.append(part)
            continue
        write_audio(folder / f"{slice_path(len(entries))}.wav", part.audio, sample_rate, subtype="FLOAT")
        entries.append(SliceEntry(len(entries), len(part.audio), part.start_seconds))
    return entries, left_out
