"""The pitch that a voice is given, from the pitch of the source and the options (specification 10.2).

    measured ─▶ f0_file in its place ─▶ transpose_semitones ─▶ autotune, or the shift to proposed_pitch_hz ─▶ voice

Unvoiced stays unvoiced all the way.

Letters: F frames of 10 ms.
"""

from __future__ import annotations

import numpy as np
import torch

from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import VoiceError
from rvc_lightning.pitch.curve import PitchCurve
from rvc_lightning.pitch.scale import autotune, proposed_shift, transpose


def shaped_contour(
    f0_hz: np.ndarray, options: ConversionOptions, curve: PitchCurve | None = None, first_seconds: float = 0.0
) -> np.ndarray:
    """The pitch to be sung. It takes the whole recording only where `proposed_pitch_hz` is chosen.

    Args:
        f0_hz: Measured, float32 [F], 0 = unvoiced.
        options: Of the conversion.
        curve: What `options.f0_file` holds.
        first_seconds: When the first frame is; below 0 where frames stand before the recording.

    Returns:
        float32 [F].
    """
    if curve is not None:
        f0_hz = curve.laid_over(f0_hz, first_seconds)
    semitones = options.transpose_semitones
    if options.proposed_pitch_hz is not None:
        semitones += proposed_shift(f0_hz, options.proposed_pitch_hz)
    shaped = autotune(transpose(torch.from_numpy(f0_hz), semitones), options.autotune)
    return shaped.numpy()


def check_pitch_options(options: ConversionOptions, pitch_guided: bool) -> None:
    """Raises VoiceError if an option shapes the pitch of a voice that was trained without.

    Transposition alone is let through: a run over many voices asks all of them for it.
    """
    chosen = [
        f"{name}={value}"
        for name in ("autotune", "proposed_pitch_hz", "f0_file", "write_f0")
        if (value := getattr(options, name))
    ]
    if chosen and not pitch_guided:
        raise VoiceError(f"the voice was trained without pitch, so it cannot follow {', '.join(chosen)}; leave it out")
