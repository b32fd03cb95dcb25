"""Cut a recording in memory as preparation does."""

from dataclasses import dataclass

import numpy as np

from rvc_lightning.data.slicing import SkippedPart, Slice, clean_blocks, cut, plan_cut


@dataclass
class Cut:
    """Result of cutting a recording."""

    slices: list
    left_out: list
    silence_seconds: float


def cut_recording(audio, sample_rate, slicing):
    """Clean and cut audio [N]."""
    whole = np.concatenate([audio[:0], *clean_blocks([audio], sample_rate, slicing)])
    plan = plan_cut(whole, sample_rate, slicing)
    parts = list(cut(plan, sample_rate, slicing))
    slices = [part for part in parts if isinstance(part, Slice)]
    return Cut(slices, [part for part in parts if isinstance(part, SkippedPart)], plan.silence_seconds)
