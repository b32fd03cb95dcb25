"""Filter, denoise, normalize and cut a recording, or a part of it, into slices to train on.

Legend: N samples.

    mode automatic    sound ====|..silence..|============   silence is dropped, each piece is cut as in mode simple
    mode simple       [---- slice_seconds ----]
                                  [overlap|-------------------]     a short rest reaches back to min_seconds
    mode skip         the whole recording
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from rvc_lightning.audio.denoise import Denoiser
from rvc_lightning.audio.filters import highpass_blocks
from rvc_lightning.audio.loudness import LOUDEST_PEAK, normalization_gain, normalize, peak_defect, peak_of
from rvc_lightning.audio.samples import Samples, Scaled, blocks_of
from rvc_lightning.audio.slicer import Slicer
from rvc_lightning.audio.stages import run
from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.separation.base import PARTS

MODES = ("automatic", "simple", "skip")
NORMALIZATIONS = ("post", "pre", "none")

_MAX_SECONDS = 86_400


@dataclass(frozen=True, kw_only=True)
class SlicingConfig(Settings, group="slicing"):
    """How recordings become slices."""

    mode: str = option(
        help="automatic cuts at silences, drops them and cuts the pieces into slices; simple cuts into slices of equal "
        "length; skip leaves each recording whole",
        choices=MODES,
    )
    normalization: str = option(
        help="post normalizes the peak of each slice, pre that of each recording, none leaves the level as it is",
        choices=NORMALIZATIONS,
    )
    highpass_hz: float = option(help="Cutoff of the high-pass filter; 0 disables it", unit="Hz", min=0, max=1000)
    noise_reduction: float = option(
        help="Share of the background noise that is removed before cutting; 0 disables it", min=0, max=1
    )
    slice_seconds: float = option(help="Length of a slice", unit="s", min=0, max=_MAX_SECONDS)
    overlap_seconds: float = option(
        help="Overlap of neighbouring slices. In mode automatic the last slice of a piece may be longer by this much, "
        "to avoid a short rest",
        unit="s",
        min=0,
        max=_MAX_SECONDS,
    )
    min_seconds: float = option(
        help="Minimum length of a slice: a short piece is extended into the silence around it, a short rest into the "
        "slice before it; shorter recordings are skipped",
        unit="s",
        min=1e-3,
        max=_MAX_SECONDS,
    )
    separate: str = option(
        help="Part of each recording that is used: none is all of it, vocals are voices without music, lead is the "
        "lead without backing vocals, dry the lead without reverberation and echo",
        choices=("none", *PARTS),
    )
    threshold_db: float = option(
        help="Level below which audio is silence, relative to full scale", unit="dB", min=-120, max=-1e-3
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if 2 * self.overlap_seconds >= self.slice_seconds or self.min_seconds > self.slice_seconds:
            raise ConfigurationError(
                f"slicing.slice_seconds={self.slice_seconds}: choose at least slicing.min_seconds={self.min_seconds}, "
                f"and more than twice slicing.overlap_seconds={self.overlap_seconds}"
            )


@dataclass(frozen=True)
class Slice:
    """Audio of a slice, float32 [N], and its start in the recording in seconds."""

    audio: np.ndarray
    start_seconds: float


@dataclass(frozen=True)
class SkippedPart:
    """A part of a recording that is not used, and the reason; times in seconds."""

    start_seconds: float
    seconds: float
    reason: str


@dataclass(frozen=True)
class CutPlan:
    """Planned cuts of a recording."""

    audio: Samples
    """The audio to cut, normalized with normalization=pre."""
    gain: float
    """Gain of that normalization."""
    spans: list[tuple[int, int]]
    """Start and end of each slice in samples."""
    silence_seconds: float
    """Length of the silence that mode automatic drops."""
    skip_reason: str | None = None
    """Reason why the recording has no slices; None if it has some."""


def clean_blocks(blocks: Iterable[np.ndarray], sample_rate: int, slicing: SlicingConfig) -> Iterator[np.ndarray]:
    """Apply the high-pass filter and noise reduction to blocks of audio, float32 [n] each; the length is kept."""
    if slicing.highpass_hz > 0:
        blocks = highpass_blocks(blocks, sample_rate, slicing.highpass_hz)
    if slicing.noise_reduction > 0:
        blocks = run(Denoiser(slicing.noise_reduction, sample_rate), blocks)
    return iter(blocks)


def plan_cut(audio: Samples, sample_rate: int, slicing: SlicingConfig) -> CutPlan:
    """Plan the cuts of a recording, float32 [N], that was filtered by `clean_blocks`.

    Every sample is part of a slice, of a part that is reported as skipped, or of a silence.
    """
    min_samples = math.ceil(slicing.min_seconds * sample_rate)
    if len(audio) < min_samples:
        return CutPlan(audio, 1.0, [], 0.0, f"shorter than min_seconds {slicing.min_seconds} s")
    gain = _recording_gain(audio) if slicing.normalization == "pre" else 1.0
    if gain != 1.0:
        audio = Scaled(audio, gain)
    pieces = [(0, len(audio))]
    if slicing.mode == "automatic":
        pieces = Slicer(threshold_db=slicing.threshold_db)(audio, sample_rate)
    if not pieces:
        return CutPlan(audio, gain, [], 0.0, Slicer(slicing.threshold_db).explain_silence(audio, sample_rate))
    silence_seconds = (len(audio) - sum(end - start for start, end in pieces)) / sample_rate
    return CutPlan(audio, gain, _spans(pieces, len(audio), sample_rate, slicing), silence_seconds)


def cut(plan: CutPlan, sample_rate: int, slicing: SlicingConfig) -> Iterator[Slice | SkippedPart]:
    """Yield the slices of a recording as planned, and its unusable parts with the reason."""
    if plan.skip_reason:
        yield SkippedPart(0.0, len(plan.audio) / sample_rate, plan.skip_reason)
    for start, end in plan.spans:
        samples = plan.audio[start:end]
        defect = peak_defect(peak_of(samples) / plan.gain)
        if defect:
            yield SkippedPart(start / sample_rate, len(samples) / sample_rate, defect)
        else:
            yield Slice(normalize(samples) if slicing.normalization == "post" else samples, start / sample_rate)


def estimate_slices(seconds: float, slicing: SlicingConfig) -> tuple[int, float]:
    """Return number and total seconds of the slices of a recording without silence, in constant time."""
    if seconds < slicing.min_seconds:
        return 0, 0.0
    if slicing.mode == "skip":
        return 1, seconds
    step_seconds = slicing.slice_seconds - slicing.overlap_seconds
    max_last_seconds = slicing.slice_seconds + (slicing.overlap_seconds if slicing.mode == "automatic" else 0.0)
    n_full = max(math.ceil((seconds - max_last_seconds) / step_seconds), 0)
    return n_full + 1, n_full * slicing.slice_seconds + max(seconds - n_full * step_seconds, slicing.min_seconds)


def _recording_gain(audio: Samples) -> float:
    """Return the gain for a recording; unusable peaks are ignored, so that they do not make the rest inaudible."""
    return normalization_gain(max(peak_of(block[np.abs(block) <= LOUDEST_PEAK]) for block in blocks_of(audio)))


def _spans(
    pieces: list[tuple[int, int]], total: int, sample_rate: int, slicing: SlicingConfig
) -> list[tuple[int, int]]:
    """Return start and end of every slice of the pieces of a recording of `total` samples."""
    if slicing.mode == "skip":
        return pieces
    min_samples = math.ceil(slicing.min_seconds * sample_rate)
    spans: list[tuple[int, int]] = []
    for piece in pieces:
        start, end = _extended(piece, min_samples, total)
        spans += [(start + a, start + b) for a, b in _split(end - start, min_samples, sample_rate, slicing)]
    return spans


def _extended(piece: tuple[int, int], min_samples: int, total: int) -> tuple[int, int]:
    """Extend a piece on both sides to at least `min_samples`, within 0..total."""
    start, end = piece
    missing = max(min_samples - (end - start), 0)
    start = max(start - missing // 2, 0)
    end = min(max(end, start + min_samples), total)
    return min(start, end - min_samples), end


def _split(samples: int, min_samples: int, sample_rate: int, slicing: SlicingConfig) -> list[tuple[int, int]]:
    """Return start and end of the slices of a piece of at least `min_samples`; the last one takes the rest."""
    step_seconds = slicing.slice_seconds - slicing.overlap_seconds
    slice_samples = round(slicing.slice_seconds * sample_rate)
    spare_seconds = slicing.overlap_seconds if slicing.mode == "automatic" else 0.0
    max_last_samples = (slicing.slice_seconds + spare_seconds) * sample_rate
    spans: list[tuple[int, int]] = []
    start = 0
    while samples - start > max_last_samples:
        spans.append((start, start + slice_samples))
        start = int(sample_rate * step_seconds * len(spans))
    return [*spans, (min(start, samples - min_samples), samples)]
