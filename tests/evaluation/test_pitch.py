"""Errors of pitch tracks whose differences are known."""

import numpy as np
import pytest

from rvc_lightning.evaluation.pitch import PitchErrors, pitch_correlation, pitch_errors, semitones_between

REFERENCE = np.where(np.arange(100) < 80, 200 + np.arange(100.0), 0)


def test_identical_tracks_have_no_errors():
    assert pitch_errors(REFERENCE, REFERENCE) == PitchErrors(pytest.approx(1), 0.0, 0.0, 0.0)


@pytest.mark.parametrize("cents", [-100, 20, 100])
def test_shift_in_cents_is_the_error(cents):
    found = pitch_errors(REFERENCE * 2 ** (cents / 1200), REFERENCE)
    assert found.error_cents == pytest.approx(abs(cents))
    assert found.gross_error == (abs(cents) >= 50)
    assert found.correlation == pytest.approx(1)
    assert found.voicing_error == 0


def test_octave_errors_are_gross_and_leave_the_median():
    predicted = REFERENCE.copy()
    predicted[:8] *= 2
    assert pitch_errors(predicted, REFERENCE).gross_error == 0.1
    assert pitch_errors(predicted, REFERENCE).error_cents == 0


def test_voicing_errors_of_both_kinds_count_over_all_frames():
    predicted = REFERENCE.copy()
    predicted[:10], predicted[90:] = 0, 100
    found = pitch_errors(predicted, REFERENCE)
    assert found.voicing_error == 0.2
    assert found.error_cents == 0


def test_too_few_voiced_frames_leave_the_pitch_undefined():
    short = np.where(np.arange(100) < 9, 200.0, 0)
    assert pitch_errors(short, REFERENCE) == PitchErrors(None, None, None, pytest.approx(0.71))


def test_longer_track_is_truncated():
    assert pitch_errors(REFERENCE[:50], REFERENCE).voicing_error == 0


def test_constant_pitch_has_no_correlation():
    assert pitch_correlation(np.full(100, 200.0), REFERENCE) is None


def test_transposition_is_in_whole_semitones_of_the_voiced_median():
    assert semitones_between(np.array([0, 100.0, 100.0]), 205.0) == 12
    assert semitones_between(np.array([0, 400.0]), 200.0) == -12
    assert semitones_between(np.zeros(5), 200.0) == semitones_between(REFERENCE, None) == 0
