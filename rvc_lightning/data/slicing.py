"""From a recording to the slices that are trained on: filter, clean, level, cut.

Letters: N samples.

    mode automatic    sound ====|..silence..|============   pieces without the silence, each cut like this:
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
from rvc_lightning.config.validation import check_types
from rvc_lightning.errors import ConfigurationError, unknown_choice

MODES = ("automatic", "simple", "skip")
NORMALIZATIONS = ("post", "pre", "none")


@dataclass(frozen=True)
class SlicingConfig:
    """How recordings become slices.

    Attributes:
        mode: "automatic" cuts at silences and drops them, then cuts into slices; "simple" cuts into slices of
            equal length; "skip" leaves each recording whole.
        normalization: "post" normalizes each slice, "pre" each recording, "none" nothing.
        highpass_hz: cutoff of the high-pass in Hz; 0 turns it off.
        noise_reduction: share of the background noise that is taken away before cutting, 0 to 1; 0 turns it off.
        slice_seconds: length of a slice in seconds.
        overlap_seconds: what neighbouring slices share, in seconds. In mode automatic a last slice may be longer
            by this much, so that no short rest is left.
        min_seconds: no slice is shorter, in seconds: a short piece takes in some of the silence around it, a
            short rest reaches back into its neighbour, a shorter recording is named in the report.
        threshold_db: what is below this level is silence, dB of full scale (mode automatic).

    Raises:
        ConfigurationError: an unknown choice, or values that contradict each other.
    """

    mode: str = "automatic"
    normalization: str = "post"
    highpass_hz: float = 48.0
    noise_reduction: float = 0.0
    slice_seconds: float = 3.0
    overlap_seconds: float = 0.3
    min_seconds: float = 0.5
    threshold_db: float = -42.0

    def __post_init__(self) -> None:
        check_types(self)
        if self.mode not in MODES:
            raise unknown_choice("slicing mode", self.mode, MODES)
        if self.normalization not in NORMALIZATIONS:
            raise unknown_choice("slicing normalization", self.normalization, NORMALIZATIONS)
        # Positive statements: NaN fails every one of them.
        demands = {
            "noise_reduction must be from 0 (off) to 1": 0 <= self.noise_reduction <= 1,
            "highpass_hz must be from 0 (off) to 1000 Hz": 0 <= self.highpass_hz <= 1000,
            "overlap_seconds must be from 0 to less than half of slice_seconds": 0
            <= 2 * self.overlap_seconds
            < self.slice_seconds,
            "min_seconds must be more than 0 and at most slice_seconds": 0 < self.min_seconds <= self.slice_seconds,
            "slice_seconds must be finite": math.isfinite(self.slice_seconds),
            "threshold_db must be from -120 to below 0 dB of full scale": -120 <= self.threshold_db < 0,
        }
        for demand, is_met in demands.items():
            if not is_met:
                raise ConfigurationError(f"slicing: {demand}; got {self}")


@dataclass(frozen=True)
class Slice:
    """A slice to train on: audio, float32 [N], and where it starts in the recording in seconds."""

    audio: np.ndarray
    start_seconds: float


@dataclass(frozen=True)
class LeftOut:
    """A stretch of a recording that is not used, and why; times in seconds."""

    start_seconds: float
    seconds: float
    reason: str


@dataclass(frozen=True)
class CutPlan:
    """Where a recording is to be cut.

    Attributes:
        audio: what is cut, levelled if that goes by recording.
        gain: by which it was levelled.
        spans: (start, end) in samples of every slice.
        silence_seconds: the silence dropped in mode automatic.
        nothing: why there is no slice, or None.
    """

    audio: Samples
    gain: float
    spans: list[tuple[int, int]]
    silence_seconds: float
    nothing: str | None = None


def cleaned(blocks: Iterable[np.ndarray], sample_rate: int, slicing: SlicingConfig) -> Iterator[np.ndarray]:
    """What comes in blocks, float32 [n] each, filtered and without its noise as the settings say: as many samples."""
    if slicing.highpass_hz > 0:
        blocks = highpass_blocks(blocks, sample_rate, slicing.highpass_hz)
    if slicing.noise_reduction > 0:
        blocks = run(Denoiser(slicing.noise_reduction, sample_rate), blocks)
    return iter(blocks)


def plan_cut(audio: Samples, sample_rate: int, slicing: SlicingConfig) -> CutPlan:
    """Decide where to cut a recording that is `cleaned`.

    Every sample ends in a slice, in a stretch named as left out, or in a silence.

    Args:
        audio: float32 [N].
        sample_rate: Hz.
        slicing: how.
    """
    least = math.ceil(slicing.min_seconds * sample_rate)
    if len(audio) < least:
        return CutPlan(audio, 1.0, [], 0.0, f"shorter than min_seconds {slicing.min_seconds} s")
    gain = _recording_gain(audio) if slicing.normalization == "pre" else 1.0
    if gain != 1.0:
        audio = Scaled(audio, gain)
    pieces = _pieces(audio, sample_rate, slicing)
    if not pieces:
        return CutPlan(audio, gain, [], 0.0, Slicer(slicing.threshold_db).silence_of(audio, sample_rate))
    silence_seconds = (len(audio) - sum(end - start for start, end in pieces)) / sample_rate
    return CutPlan(audio, gain, _spans(pieces, len(audio), least, sample_rate, slicing), silence_seconds)


def cut_parts(plan: CutPlan, sample_rate: int, slicing: SlicingConfig) -> Iterator[Slice | LeftOut]:
    """Cut a recording as planned, one slice at a time; what is left out comes with its reason."""
    if plan.nothing:
        yield LeftOut(0.0, len(plan.audio) / sample_rate, plan.nothing)
    for start, end in plan.spans:
        samples = plan.audio[start:end]
        defect = peak_defect(peak_of(samples) / plan.gain)
        if defect:
            yield LeftOut(start / sample_rate, len(samples) / sample_rate, defect)
        else:
            yield Slice(normalize(samples) if slicing.normalization == "post" else samples, start / sample_rate)


def planned_spans(samples: int, sample_rate: int, slicing: SlicingConfig) -> list[tuple[int, int]]:
    """(start, end) in samples of the slices of a recording without silence; none if it is too short for one."""
    least = math.ceil(slicing.min_seconds * sample_rate)
    return _spans([(0, samples)], samples, least, sample_rate, slicing) if samples >= least else []


def _recording_gain(audio: Samples) -> float:
    """Gain by the peak of what can be used: one broken stretch must not make the rest inaudible."""
    return normalization_gain(max(peak_of(block[np.abs(block) <= LOUDEST_PEAK]) for block in blocks_of(audio)))


def _pieces(audio: Samples, sample_rate: int, slicing: SlicingConfig) -> list[tuple[int, int]]:
    """(start, end) in samples of what is kept before cutting to length."""
    if slicing.mode == "automatic":
        return Slicer(threshold_db=slicing.threshold_db)(audio, sample_rate)
    return [(0, len(audio))]


def _spans(
    pieces: list[tuple[int, int]], total: int, least: int, sample_rate: int, slicing: SlicingConfig
) -> list[tuple[int, int]]:
    """(start, end) in samples of every slice."""
    if slicing.mode == "skip":
        return pieces
    spans: list[tuple[int, int]] = []
    for piece in pieces:
        start, end = _widened(piece, least, total)
        spans += [(start + a, start + b) for a, b in _split(end - start, least, sample_rate, slicing)]
    return spans


def _widened(piece: tuple[int, int], least: int, total: int) -> tuple[int, int]:
    """A piece of at least `least` samples around the given one, within 0..total."""
    start, end = piece
    missing = max(least - (end - start), 0)
    start = max(start - missing // 2, 0)
    end = min(max(end, start + least), total)
    return min(start, end - least), end


def _split(samples: int, least: int, sample_rate: int, slicing: SlicingConfig) -> list[tuple[int, int]]:
    """(start, end) of the slices of a piece of `samples` >= `least`; the last takes the rest."""
    step_seconds = slicing.slice_seconds - slicing.overlap_seconds
    length = round(slicing.slice_seconds * sample_rate)
    spare_seconds = slicing.overlap_seconds if slicing.mode == "automatic" else 0.0
    longest = (slicing.slice_seconds + spare_seconds) * sample_rate
    spans: list[tuple[int, int]] = []
    start = 0
    while samples - start > longest:
        spans.append((start, start + length))
        start = int(sample_rate * step_seconds * len(spans))
    return [*spans, (min(start, samples - least), samples)]
