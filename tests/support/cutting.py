"""A recording in memory, cut as preparation cuts it."""

from dataclasses import dataclass

import numpy as np

from rvc_lightning.data.slicing import LeftOut, Slice, cleaned, cut_parts, plan_cut


@dataclass
class Cut:
    """What a recording is cut into."""

    slices: list
    left_out: list
    silence_seconds: float


def cut_recording(audio, sample_rate, slicing):
    """[N] at a rate in Hz, cleaned and cut."""
    whole = np.concatenate([audio[:0], *cleaned([audio], sample_rate, slicing)])
    plan = plan_cut(whole, sample_rate, slicing)
    parts = list(cut_parts(plan, sample_rate, slicing))
    slices = [part for part in parts if isinstance(part, Slice)]
    return Cut(slices, [part for part in parts if isinstance(part, LeftOut)], plan.silence_seconds)
