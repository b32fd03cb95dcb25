"""Pitch contour of the output, from the pitch of the source and the options (SPECIFICATION.md, section 10.2).

    measured ─▶ replaced by f0_file ─▶ transpose_semitones ─▶ autotune, or the shift to proposed_pitch_hz ─▶ voice

Unvoiced frames stay unvoiced.

Legend: F frames of 10 ms.
"""

from __future__ import annotations

import numpy as np
import torch

from rvc_lightning.audio.frames import FRAMES_PER_SECOND
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.pitch.curve import PitchCurve
from rvc_lightning.pitch.scale import autotune, proposed_shift, transpose

_ALL = slice(0, None)


def shape_contour(
    f0_hz: np.ndarray, options: ConversionOptions, curve: PitchCurve | None = None, recorded: slice = _ALL
) -> np.ndarray:
    """Apply the pitch options to a contour; `proposed_pitch_hz` requires that of the whole recording.

    Args:
        f0_hz: Measured pitch in Hz, float32 [F], 0 = unvoiced.
        options: Options of the conversion.
        curve: Content of `options.f0_file`.
        recorded: Frames of the recording; the others belong to its reflected ends.

    Returns:
        Pitch in Hz, float32 [F].
    """
    if curve is not None:
        f0_hz = curve.overlay(f0_hz, -recorded.start / FRAMES_PER_SECOND)
    semitones = options.transpose_semitones
    if options.proposed_pitch_hz is not None:
        semitones += proposed_shift(f0_hz[recorded], options.proposed_pitch_hz)
    return autotune(transpose(torch.from_numpy(f0_hz), semitones), options.autotune).numpy()
