"""Pitch contour of the output: order and effect of the pitch options."""

from pathlib import Path

import numpy as np

from rvc_lightning import ConversionOptions
from rvc_lightning.conversion.contour import shape_contour
from rvc_lightning.pitch.curve import PitchCurve
from rvc_lightning.pitch.scale import NOTES_HZ

F0_HZ = np.array([0, 100, 110, 120, 0, 130], np.float32)


def shaped(curve=None, recorded=slice(0, None), **options):
    return shape_contour(F0_HZ, ConversionOptions(**options), curve, recorded)


def test_without_options_nothing_changes():
    np.testing.assert_array_equal(shaped(), F0_HZ)


def test_transposition_precedes_autotune():
    tuned = shaped(autotune=1.0, transpose_semitones=7.5)
    assert (np.isin(tuned, np.array([0, *NOTES_HZ], np.float32))).all()
    assert np.abs(12 * np.log2(tuned[1:4] / F0_HZ[1:4]) - 7.5).max() < 0.6
    assert tuned[0] == tuned[4] == 0


def test_transposition_adds_to_the_proposed_pitch():
    moved, both = shaped(proposed_pitch_hz=230), shaped(proposed_pitch_hz=230, transpose_semitones=2)
    np.testing.assert_allclose(moved, F0_HZ * 2, rtol=1e-6)
    np.testing.assert_allclose(both, moved * 2 ** (2 / 12), rtol=1e-6)


def test_proposed_pitch_depends_on_voiced_frames_of_the_recording():
    f0_hz = np.array([400, 400, 400, 0, 0, 0, 0, 100, 0, 0, 200, 200, 400, 400], np.float32)
    shifted = shape_contour(f0_hz, ConversionOptions(proposed_pitch_hz=100), recorded=slice(3, 12))
    np.testing.assert_allclose(shifted, f0_hz / 2, rtol=1e-6)


def test_curve_replaces_measured_pitch():
    curve = PitchCurve(Path("x"), np.array([0.01, 0.02]), np.array([200.0, 0.0]))
    np.testing.assert_array_equal(shaped(curve), [0, 200, 0, 120, 0, 130])
    np.testing.assert_array_equal(shaped(curve, recorded=slice(3, None)), [0, 100, 110, 120, 200, 0])
    np.testing.assert_allclose(shaped(curve, transpose_semitones=12), [0, 400, 0, 240, 0, 260], rtol=1e-6)
