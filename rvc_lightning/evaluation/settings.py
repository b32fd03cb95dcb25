"""Settings and inputs of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import AudioError

MIN_SECONDS = 0.5
_OWN_PITCH = "each recording is shifted to the pitch of the voice; options.transpose_semitones=N sets another shift"
_OWN_MELODY = (
    "the metrics compare with the recording's own melody, so another one is scored as an error; remove it, and use it "
    "in a conversion"
)
UNSUPPORTED_OPTIONS = {
    "autotune": _OWN_MELODY,
    "proposed_pitch_hz": _OWN_PITCH,
    "f0_file": _OWN_MELODY,
    "write_f0": "the page plots the pitch of every clip; convert with write_f0=true writes it",
    "output_format": "clips are stored in the page only; convert with output_format=FORMAT writes files",
}
"""Conversion options that an evaluation rejects: reason and alternative."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(Settings):
    """Task, metrics and size of an evaluation; the defaults are in `conf/evaluate.yaml`."""

    task: str = option(choices=("conversion", "resynthesis"))
    transpose_semitones: float | None
    """Pitch shift; None shifts by whole semitones to the target's median pitch, or by 0 in a resynthesis."""
    metrics: list[str]
    """Optional metrics, keys of `OPTIONAL_METRICS`."""
    require_metrics: bool
    """Whether a metric that is not installed is an error."""
    n_clips: int | None = option(min=1)
    """Maximum number of recordings, evenly spread over the folder; None for all."""
    clip_seconds: float = option(min=MIN_SECONDS)
    """Evaluated length from the start of each recording."""
    reference_clips: int = option(min=1)
    """Maximum number of reference clips, evenly spread."""
    page_clips: int = option(min=0)
    """Maximum number of clips with players and pictures in the page."""


@dataclass(frozen=True)
class Recordings:
    """Input files and folders.

    Raises:
        AudioError: A file or folder does not exist.
    """

    audio: Path
    """Recordings to convert: a folder or a file."""
    reference: Path | None = None
    """Clips of the target speaker."""
    counterpart: Path | None = None
    """Files with the names of those in `audio`, in which the target says the same words."""

    def __post_init__(self) -> None:
        for name, path in vars(self).items():
            if path is not None and not path.exists():
                raise AudioError(f"{name}: no such file or folder '{path}'")
