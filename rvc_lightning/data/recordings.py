"""The first stage of preparation: recordings become slices, in as many processes as are given.

Each recording has a folder of its own, see `rvc_lightning.data.layout`; the done-mark in it is written last, so a
folder that has one is whole. What is known of a recording is read from its mark when it is asked for: nothing grows
with the number of slices. A long recording is read, filtered and cut part by part, with the same slices as at once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
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
from rvc_lightning.data.fingerprints import Source
from rvc_lightning.data.layout import numbers_in, shard, slice_path
from rvc_lightning.data.slicing import CutPlan, LeftOut, SlicingConfig, cleaned, cut_parts, plan_cut
from rvc_lightning.errors import AudioError
from rvc_lightning.io.disk import write_error
from rvc_lightning.io.files import digest, read_json, remove_leftovers, write_json
from rvc_lightning.io.workers import end_with_parent

logger = logging.getLogger(__name__)

_DONE_MARK = "recording.json"


@dataclass(frozen=True)
class SliceEntry:
    """A slice of a recording.

    Attributes:
        number: in order of time, from 0.
        samples: its length.
        start_seconds: where it starts in the recording.
    """

    number: int
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
        levels: of the recording as it was found.
        sound: digest of its samples, the same for the same sound in another lossless file.
    """

    recording: str
    seconds: float
    sample_rate: int
    warning: str | None
    slices: list[SliceEntry]
    left_out: list[LeftOut]
    silence_seconds: float
    levels: Levels
    sound: str

    @property
    def reasons(self) -> str:
        """Why it gave no slice: what is wrong with the file, then each reason once."""
        damage = [self.warning] if self.warning else []
        return "nothing usable: " + "; ".join([*damage, *dict.fromkeys(part.reason for part in self.left_out)])

    @classmethod
    def read(cls, root: Path, source: Source) -> SlicedRecording | None:
        """What an earlier run left of a recording below `root`, or None where there is no mark."""
        try:
            values = read_json(root / shard(source.folder) / _DONE_MARK)
            values["slices"] = [SliceEntry(**entry) for entry in values["slices"]]
            values["left_out"] = [LeftOut(**part) for part in values["left_out"]]
            values["levels"] = Levels(**values["levels"])
            return cls(**values)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def is_whole(self, root: Path, source: Source) -> bool:
        """Whether all slices are there."""
        return {entry.number for entry in self.slices} <= numbers_in(root / shard(source.folder))


@dataclass(frozen=True)
class SlicingWork:
    """What slicing took.

    Attributes:
        failed: recordings that cannot be decoded, with the reason, by their folder.
        audio_seconds: of the recordings sliced in this run.
        seconds: that took.
    """

    failed: dict[str, SkippedFile] = field(default_factory=dict)
    audio_seconds: float = 0.0
    seconds: float = 0.0


def slice_recordings(
    sources: Sequence[Source], root: Path, sample_rate: int, slicing: SlicingConfig, num_workers: int
) -> SlicingWork:
    """Slice what is not sliced yet; `SlicedRecording.read` gives what came of it.

    Args:
        sources: the recordings.
        root: folder of the slices.
        sample_rate: of the slices, Hz.
        slicing: how to cut and level.
        num_workers: processes; 0 does it in this process.
    """
    pending = [source for source in sources if not _is_done(root, source)]
    if not pending:
        return SlicingWork()
    logger.info("slicing %s; %d are sliced already", pluralize(len(pending), "recording"), len(sources) - len(pending))
    dataset = _SlicingDataset(pending, root, sample_rate, slicing)
    loader = DataLoader(
        dataset, batch_size=None, num_workers=num_workers, in_order=False, worker_init_fn=end_with_parent
    )
    failed: dict[str, SkippedFile] = {}
    audio_seconds, started = 0.0, perf_counter()
    total_megabytes = sum(source.size_bytes for source in pending) / 1e6
    with Progress("slicing", total_megabytes, "MB") as progress:
        for index, outcome in loader:
            progress.update(pending[index].size_bytes / 1e6)
            if isinstance(outcome, SkippedFile):
                failed[pending[index].folder] = outcome
            else:
                audio_seconds += outcome
    return SlicingWork(failed, audio_seconds, perf_counter() - started)


def _is_done(root: Path, source: Source) -> bool:
    done = SlicedRecording.read(root, source)
    return done is not None and done.is_whole(root, source)


class _SlicingDataset(Dataset):
    """Slices a recording when asked for it; a data loader's workers make it a process pool."""

    def __init__(self, sources: Sequence[Source], root: Path, sample_rate: int, slicing: SlicingConfig) -> None:
        self.sources = sources
        self.root = root
        self.sample_rate = sample_rate
        self.slicing = slicing

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> tuple[int, float | SkippedFile]:
        source = self.sources[index]
        try:
            return index, slice_recording(source, self.root / shard(source.folder), self.sample_rate, self.slicing)
        except AudioError as error:
            return index, SkippedFile(source.name, str(error).removeprefix(f"'{source.path}' "))
        except OSError as error:
            # Told here: on its way from another process, the system's error loses its number.
            if (reason := write_error(error)) is None:
                raise
            raise reason from error


def slice_recording(source: Source, folder: Path, sample_rate: int, slicing: SlicingConfig) -> float:
    """Slice a recording, however long, into its folder; gives its seconds.

    Raises:
        AudioError: it cannot be decoded, or is not the one that was found before: it has been replaced or removed.
        OutOfSpaceError, NotWritableError: the disk does not take the slices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    with open_audio(source.path, scratch=folder) as stream:
        meter = LevelMeter(stream.sample_rate, slicing.threshold_db)
        blocks = run(Resampler(stream.sample_rate, sample_rate), meter.watch(stream))
        with collected(cleaned(blocks, sample_rate, slicing), scratch=folder) as audio:
            plan = plan_cut(audio, sample_rate, slicing)
            entries, left_out = _write_slices(plan, folder, sample_rate, slicing)
        done = SlicedRecording(
            recording=source.name,
            seconds=len(audio) / sample_rate,
            sample_rate=stream.sample_rate,
            warning=stream.warning,
            slices=entries,
            left_out=left_out,
            silence_seconds=plan.silence_seconds,
            levels=meter.levels,
            sound=meter.sound,
        )
    _check_unchanged(source)
    write_json(folder / _DONE_MARK, asdict(done))
    return done.seconds


def _check_unchanged(source: Source) -> None:
    """Raises AudioError if a recording is no longer what its folder's name says: its slices may be of another."""
    try:
        unchanged = source.digest in ("", digest(source.path))
    except OSError as error:
        raise AudioError(f"'{source.path}' cannot be read to its end: {error.strerror}") from error
    if not unchanged:
        raise AudioError(f"'{source.path}' was changed while it was read; prepare again once it is complete")


def _write_slices(
    plan: CutPlan, folder: Path, sample_rate: int, slicing: SlicingConfig
) -> tuple[list[SliceEntry], list[LeftOut]]:
    """Cuts and writes one slice after the other."""
    entries: list[SliceEntry] = []
    left_out: list[LeftOut] = []
    for part in cut_parts(plan, sample_rate, slicing):
        if isinstance(part, LeftOut):
            left_out.append(part)
            continue
        write_audio(folder / f"{slice_path(len(entries))}.wav", part.audio, sample_rate, subtype="FLOAT")
        entries.append(SliceEntry(len(entries), len(part.audio), part.start_seconds))
    return entries, left_out
